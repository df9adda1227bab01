"""What tests need beside the hard dependencies: where it is missing they are skipped, unless NASFAST_REQUIRE names it.

NASFAST_REQUIRE is a comma list of names, or `all`: then a missing one fails each test that needs it. `all` leaves CuPy
out where there is no GPU. That nothing whatever is skipped on a machine with a GPU is NASFAST_REQUIRE_CUDA's part.
"""

from __future__ import annotations

import importlib
import os
import shutil
from types import ModuleType

import pytest

from tests.helpers.devtools import find_chromium

VARIABLE = "NASFAST_REQUIRE"
MODULES = ("cupy", "matplotlib", "onnx", "onnxruntime", "onnxscript", "optuna", "ray", "tensorboard")
PROGRAMS = ("chromium", "nvcc")
OPTIONAL = (*MODULES, *PROGRAMS)
NEEDS_GPU = ("cupy",)


def required() -> frozenset[str]:
    """What may not be missing.

    Raises:
        pytest.UsageError: NASFAST_REQUIRE names something else.
    """
    names = {part.strip() for part in os.environ.get(VARIABLE, "").split(",")} - {""}
    unknown = names - {"all", *OPTIONAL}
    if unknown:
        raise pytest.UsageError(
            f"{VARIABLE} must be all or a comma list of {', '.join(OPTIONAL)}, got {min(unknown)!r}; "
            "for the GPU there is NASFAST_REQUIRE_CUDA=1"
        )
    if "all" in names:
        names |= {name for name in OPTIONAL if name not in NEEDS_GPU or has_gpu()}
    return frozenset(names - {"all"})


def has_gpu() -> bool:
    import torch  # takes seconds, and only `all` asks

    return torch.cuda.is_available()


def require(name: str) -> ModuleType | str:
    """The module, or the path of the program. Where it is missing: a skip, or a failure if it is required."""
    found = _module(name) if name in MODULES else _program(name)
    if found is not None:
        return found
    if name in required():
        pytest.fail(f"{VARIABLE} asks for {name}, and it is missing", pytrace=False)
    pytest.skip(f"needs {name}", allow_module_level=True)


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # it is there, and broken
            raise
        return None


def _program(name: str) -> str | None:
    assert name in PROGRAMS, name
    return find_chromium() if name == "chromium" else shutil.which(name)


def pytest_configure() -> None:
    required()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The mark `needs(name)`, for a test as a whole."""
    for mark in item.iter_markers("needs"):
        require(*mark.args)
