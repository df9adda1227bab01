"""Settings: what a search may be told, with defaults, limits and their form in a file."""
