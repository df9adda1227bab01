"""What a run depends on besides its settings: versions, the build of the extension, the processor, the threads."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from nasfast.errors import ConfigError, NasfastError
from nasfast.extension import load_extension
from nasfast.run import nasfast_version


def use_threads(count: int) -> None:
    """Compute on so many CPU threads; 0: on as many as torch has decided."""
    if count:
        torch.set_num_threads(count)


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


def describe_cuda() -> str:
    """The GPU that can be used, or why there is none."""
    if torch.version.cuda is None:
        return f"none: torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return f"none: torch is built for CUDA {torch.version.cuda}, but no GPU or driver was found"
    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"


def check_device(name: str) -> None:
    """Raise ConfigError where a device does not exist."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device must be a device of torch, like cpu or cuda, got {name!r}") from error
    if device.type == "cpu":
        return
    if device.type != "cuda":
        raise ConfigError(f"--device must be cpu or cuda, got {name}")
    if not torch.cuda.is_available():
        raise ConfigError(f"--device {name} cannot be used; GPU: {describe_cuda()}")
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise ConfigError(f"--device {name} does not exist: there are {torch.cuda.device_count()} GPUs")


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = (line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
            return next(names, platform.processor())
    except OSError:
        return platform.processor()
