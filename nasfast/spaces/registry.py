"""The search spaces by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from nasfast.errors import SpaceError
from nasfast.spaces.base import Space
from nasfast.spaces.cells import darts, enas_micro, nasnet
from nasfast.spaces.enas_macro import enas_macro, nasnet_macro
from nasfast.spaces.mobilenet import MobileNetSpace
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.spaces.nasbench_macro import NASBenchMacro

SPACES: dict[str, Callable[[], Space]] = {
    "nasbench201": NASBench201,
    "nasbench-macro": NASBenchMacro,
    "mobilenet": MobileNetSpace,
    "enas-macro": enas_macro,
    "enas-micro": enas_micro,
    "nasnet": nasnet,
    "nasnet-macro": nasnet_macro,
    "darts": darts,
}


def make_space(name: str) -> Space:
    """The space of this name, at the size of its paper.

    Raises:
        SpaceError: There is none.
    """
    if name not in SPACES:
        close = difflib.get_close_matches(name, SPACES, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise SpaceError(f"unknown space {name!r}: expected one of {', '.join(SPACES)}{hint}")
    return SPACES[name]()
