"""Comparison of estimators by how they rank architectures."""
