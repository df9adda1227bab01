"""What a process loads that workers are forked from: importing this module is all that it does."""

from __future__ import annotations

import gc

gc.disable()  # nothing of what is loaded is garbage, and looking for it takes a quarter of the time

import nasfast.estimators.train  # noqa: E402
import nasfast.search.workers.worker  # noqa: E402, F401

gc.freeze()  # workers share the pages of what is loaded for as long as none writes to its counts
gc.enable()
