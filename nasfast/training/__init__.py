"""Training a network from scratch or from inherited weights, and testing it."""
