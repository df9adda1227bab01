"""Loads the ops of nasfast._C when one is first called, so that what computes nothing needs no extension."""

from __future__ import annotations

import importlib

from nasfast.kernels._extension import load_extension

_ready = False


def require_ops() -> None:
    """Make ``torch.ops.nasfast`` whole: the compiled ops, what they give for meta tensors, and what they cost.

    Raises:
        NasfastError: The extension is not there, or is of another torch.
    """
    if not _ready:
        _load()


def _load() -> None:
    global _ready
    load_extension()
    for name in ("_fakes", "_flops"):
        importlib.import_module(f"nasfast.kernels.{name}")  # registers with the ops, which must be there
    _ready = True
