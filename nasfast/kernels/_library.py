"""Loads the ops of nasfast._C when one is first called, so that what computes nothing needs no extension."""

from __future__ import annotations

import importlib

from nasfast.kernels._extension import load_extension

_ready = False


def require_ops() -> None:
    """Make ``torch.ops.nasfast`` whole: the compiled ops, and what they give for meta tensors.

    Raises:
        NasfastError: The extension is not there, or is of another torch.
    """
    if not _ready:
        _load()


def _load() -> None:
    global _ready
    load_extension()
    importlib.import_module("nasfast.kernels._fakes")  # registers with the ops, which must be there
    _ready = True
