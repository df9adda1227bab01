"""Processes for workers: forked from one that has loaded what each would take seconds to load.

This module loads nothing of that itself, so that a search can have it loaded while it gets ready.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, SpawnContext

PRELOAD = "nasfast.search.preload"
IS_SERVER = "NASFAST_FORK_SERVER"
"""In the environment of the server alone."""


def worker_context() -> ForkServerContext | SpawnContext:
    """How processes of workers start: forked from a server, once for all; on systems that cannot, anew."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([PRELOAD])
        try:
            with _environment():
                forkserver.ensure_running()
        except OSError:  # it has no socket: the folder for temporary files has none, or too long a name
            return multiprocessing.get_context("spawn")
        return context
    return multiprocessing.get_context("spawn")


def start_loading() -> None:
    """Have what workers need loaded meanwhile."""
    worker_context()


@contextmanager
def _environment() -> Iterator[None]:
    """That of the server: it imports from where this process does, and not from the folder that it stands in."""
    own = {
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        IS_SERVER: "1",
    }
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
