"""Strategies that draw the paths on which a shared network is trained."""
