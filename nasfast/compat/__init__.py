"""Drop-in replacements for the search networks of public code."""
