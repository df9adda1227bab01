"""One-shot searches: one shared network is trained, its children are compared."""
