"""Estimators for workers that do what a row's first choice says, and how to run them."""

import ctypes
import os
import signal
import time
from functools import partial
from pathlib import Path

from nasfast.estimators.base import Estimate
from nasfast.search.workers import LocalPool, TrialRunner, TrialStore, WorkerSpec
from nasfast.utils.progress import Progress

FINE, RAISES, KILLED, HANGS, CRASHES, ONCE, NOT_FINITE, SLOW = range(8)

HOLD = "hold"
"""While a file of this name is there, beside the folder of what began, slow trials do not go on."""


class Scripted:
    """Scores rows by their sum; ``folder`` gets a file per evaluation that began."""

    name = "scripted"

    def __init__(self, folder: str, progress: Progress | None = None) -> None:
        self.folder, self.progress = Path(folder), progress or Progress(quiet=True)

    def begun(self, row) -> int:
        """Evaluations of a row that began before this one."""
        key = "-".join(map(str, row))
        before = len(list(self.folder.glob(f"{key}.*")))
        (self.folder / f"{key}.{before}").write_text(str(os.getpid()))
        return before

    def one(self, row) -> float:
        before, what = self.begun(row), row[0]
        if what == RAISES or (what == ONCE and not before):
            raise ValueError(f"no network of {row}")
        if what == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        if what == CRASHES:
            ctypes.string_at(0)
        if what == HANGS:
            time.sleep(1e6)
        if what == SLOW:
            while (self.folder.parent / HOLD).exists():
                time.sleep(0.05)
            with self.progress.stage("train", 8) as stage:
                for step in range(8):
                    time.sleep(0.6)
                    stage.advance(note=f"step {step}")
        return float("nan") if what == NOT_FINITE else float(sum(row))

    def estimate(self, rows, fidelity=None):
        return [Estimate(self.one(row), {"fidelity_seen": float(fidelity or 0)}) for row in rows.tolist()]


def make_scripted(folder, progress, index):
    return Scripted(folder, progress)


def make_nothing(progress, index):
    raise RuntimeError("no data set here")


def spec(folder, threads=1):
    folder.mkdir(exist_ok=True)
    return WorkerSpec(partial(make_scripted, str(folder)), threads)


def open_local(path, size=2, timeout=60.0):
    """A runner on worker processes, its store and its files in a folder."""
    pool = LocalPool(spec(path / "begun"), size, path / "logs", timeout)
    return TrialRunner(pool, TrialStore(path / "trials.sqlite"), str)


def wait_for(runner, asked, seconds=60.0):
    """The result of a trial."""
    found = runner.wait(asked, seconds)
    assert found is not None, "no result in time"
    return found
