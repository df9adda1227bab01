"""Search strategies: how an architecture is looked for."""
