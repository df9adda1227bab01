"""Searches by gradients: DARTS and its relatives."""
