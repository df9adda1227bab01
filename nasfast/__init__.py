"""Neural architecture search on fused C++ kernels, as an extension of PyTorch.

The drop-in: `nasfast.compat.darts.Network`, `nasfast.compat.pcdarts.Network`, or `nasfast.accelerate(model)` for a
network of your own. The search: `nasfast.search.gradient.runner.run_search`, or the command `nasfast`.
"""

from __future__ import annotations

import os
from importlib import metadata

# Where cores are shared, OpenMP threads that spin at every barrier keep each other from running. A short spin costs an
# idle machine nothing. Read once, when torch loads its OpenMP; a value that the user set stays.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# The function takes the place of the module of the same name; `from nasfast.accelerate import ...` finds the module.
from nasfast.dropin import AccelerateReport, accelerate

__all__ = ["AccelerateReport", "__version__", "accelerate"]

try:
    __version__ = metadata.version("nasfast")
except metadata.PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.0.0+source"
