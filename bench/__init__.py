"""Benchmarks of the fused kernels beside plain PyTorch: `python -m bench.mixed_op`, `python -m bench.network`."""

import os

# As the command nasfast does, before torch is loaded: OpenMP threads spin only shortly at a barrier.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
