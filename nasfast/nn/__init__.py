"""Primitives, cells and networks of the DARTS family: plain PyTorch, and the same on the fused kernels."""
