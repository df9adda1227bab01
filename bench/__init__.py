"""Benchmarks of the fused kernels beside plain PyTorch: `python -m bench.mixed_op`, `python -m bench.network`."""

import nasfast  # noqa: F401  before torch: how long OpenMP threads spin at a barrier is settled when torch is loaded
