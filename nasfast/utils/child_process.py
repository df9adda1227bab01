"""Processes that end with the one that has started them, from their first moments on."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import Any


def packed(function: Callable[..., None], *arguments: Any) -> bytes:
    """A call, for :func:`call_packed` in a process of this one."""
    return pickle.dumps((function, arguments))


def call_packed(call: bytes, *first: Any) -> None:
    """The main function of a process: it watches its parent, and only then imports what its call needs.

    Args:
        call: Of :func:`packed`.
        first: Arguments that only multiprocessing can hand on, such as connections; they come before those of the call.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    function, arguments = pickle.loads(call)
    function(*first, *arguments)


def _end_with_parent() -> None:
    """However that ends: two searches must not train the same candidate."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
