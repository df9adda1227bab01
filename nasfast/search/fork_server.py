"""Processes for workers: forked from one that has loaded what each would take seconds to load.

This module loads nothing of that itself, so that a search can have it loaded while it gets ready.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, SpawnContext

PRELOAD = "nasfast.search.preload"


def worker_context() -> ForkServerContext | SpawnContext:
    """How processes of workers start: forked from a server, once for all; on systems that cannot, anew."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOAD])
    return context


def start_loading() -> None:
    """Have what workers need loaded meanwhile."""
    if worker_context().get_start_method() == "forkserver":
        forkserver.ensure_running()
