"""Strategies that learn architecture parameters by gradients."""
