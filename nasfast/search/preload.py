"""What the process loads that workers are forked from: importing this module is all that it does."""

from __future__ import annotations

import gc
import os
import signal
from importlib import import_module

from nasfast.search.fork_server import IS_SERVER

if IS_SERVER in os.environ:
    # It ends with the process that has started it, and not before its workers have saved what they do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

gc.disable()  # nothing of what is loaded is garbage, and looking for it takes a fifth of the time

import nasfast.search.blackbox.estimator  # noqa: E402
import nasfast.search.workers.worker  # noqa: E402, F401

import_module("sympy")  # torch asks for it when it works out a shape

gc.freeze()  # workers share the pages of what is loaded for as long as none writes to its counts
gc.enable()
