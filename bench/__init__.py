"""Benchmarks of the fused kernels beside plain PyTorch: `python -m bench.mixed_op`, `python -m bench.network`."""
