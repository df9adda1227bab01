"""What a run depends on besides its settings: versions, the build of the extension, the processor, the threads."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from nasfast.errors import NasfastError
from nasfast.kernels._extension import load_extension
from nasfast.utils.device import describe_cuda
from nasfast.utils.version import nasfast_version


def describe_environment() -> dict[str, Any]:
    """Versions and machine, as plain values for config.json and ``nasfast info``."""
    return {
        "nasfast": nasfast_version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": describe_cuda(),
        "extension": build_info(),
    }


def build_info() -> dict[str, Any] | str:
    """What the extension was built with and which instruction set it uses, or why it cannot be loaded."""
    try:
        extension = load_extension()
    except NasfastError as error:
        return f"not loaded: {error}"
    return {str(name): value for name, value in extension.build_info().items()}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = (line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
            return next(names, platform.processor())
    except OSError:
        return platform.processor()
