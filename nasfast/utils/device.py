"""The device and the threads to compute on."""

from __future__ import annotations

import os

import torch

from nasfast.errors import ConfigError
from nasfast.utils.suggest import did_you_mean


def use_threads(count: int) -> None:
    """Compute on so many CPU threads; 0: on as many as torch has decided."""
    if count:
        torch.set_num_threads(count)


def check_threads(count: int) -> None:
    """Raise ConfigError where this machine has not so many processors, on which more threads only wait."""
    known = os.cpu_count() or 1
    if count > known:
        raise ConfigError(f"--threads must be at most {known}, the processors of this machine, got {count}")


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
        hint = did_you_mean(name, ("cpu", "cuda"))
        raise ConfigError(f"--device must be a device of torch, like cpu or cuda, got {name!r}{hint}") from error
    if device.type == "cpu":
        return
    if device.type != "cuda":
        raise ConfigError(f"--device must be cpu or cuda, got {name}")
    if not torch.cuda.is_available():
        raise ConfigError(f"--device {name} cannot be used; GPU: {describe_cuda()}")
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise ConfigError(f"--device {name} does not exist: there are {torch.cuda.device_count()} GPUs")
