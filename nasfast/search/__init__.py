"""Searches: by gradients, by evaluations (black-box), and with one shared network (one-shot)."""
