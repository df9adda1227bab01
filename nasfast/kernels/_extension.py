"""Loads nasfast._C and says in plain words what to do where that fails."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

import torch

from nasfast.errors import NasfastError

_REBUILD = "build it again for this torch with `pip install --no-build-isolation --force-reinstall --no-deps .`"


@functools.cache
def load_extension() -> ModuleType:
    """The module nasfast._C, checked to be built for the torch that runs.

    Raises:
        NasfastError: it was never built, cannot be loaded, or was built for another torch.
    """
    try:
        module = importlib.import_module("nasfast._C")
    except ModuleNotFoundError as error:
        raise NasfastError(
            "nasfast._C is not there: the extension was never built; run `pip install --no-build-isolation .` "
            "in the folder with setup.py"
        ) from error
    except ImportError as error:
        raise NasfastError(
            f"nasfast._C cannot be loaded with torch {torch.__version__} ({error}); {_REBUILD}"
        ) from error
    built = str(module.build_info()["torch"])
    if _release(built) != _release(torch.__version__):
        raise NasfastError(f"nasfast._C was built for torch {built}, but torch {torch.__version__} runs; {_REBUILD}")
    return module


def _release(version: str) -> tuple[str, ...]:
    return tuple(version.split("+")[0].split(".")[:2])
