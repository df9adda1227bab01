"""What runs in a worker: it makes its estimator once, and answers one job after the other."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from nasfast.errors import NasfastError
from nasfast.estimators.base import Estimator, WarmStartEstimator
from nasfast.search.workers.jobs import Heartbeat, Job
from nasfast.utils.device import use_threads
from nasfast.utils.progress import Progress, Stage

_BEAT_SECONDS = 0.5


@dataclass(frozen=True)
class WorkerSpec:
    """How a worker comes to its estimator.

    Attributes:
        make: Called once in the worker with the progress that its trainings report to and the worker's index; it has to
            be picklable.
        threads: CPU threads of each.
    """

    make: Callable[[Progress, int], Estimator]
    threads: int


class Beating(Progress):
    """Progress that is handed on, every half second at most."""

    def __init__(self, send: Callable[[Heartbeat], None]) -> None:
        super().__init__(quiet=True)
        self._send = send

    @contextmanager
    def stage(self, name: str, total: int, done: int = 0, unit: str = "step") -> Iterator[Stage]:
        yield _BeatingStage(self._send, done, total)


class _BeatingStage(Stage):
    def __init__(self, send: Callable[[Heartbeat], None], done: int, total: int) -> None:
        self._send, self._done, self._total, self._note = send, done, total, ""
        self._sent = 0.0

    def advance(self, count: int = 1, note: str | None = None) -> None:
        self._done += count
        self._note = self._note if note is None else note
        if time.monotonic() - self._sent >= _BEAT_SECONDS:
            self._sent = time.monotonic()
            self._send(Heartbeat(self._done, self._total, self._note))


def answer(estimator: Estimator, job: Job) -> tuple[dict[str, float], ...]:
    """What the estimator says of a job's rows."""
    if isinstance(estimator, WarmStartEstimator):
        for row, ancestors in job.lineage:
            estimator.note_ancestors(row, ancestors)
    estimates = estimator.estimate(np.array(job.rows, np.int64), job.fidelity)
    return tuple({name: float(value) for name, value in estimate.numbers().items()} for estimate in estimates)


def error_text(error: BaseException) -> str:
    """A traceback; of an error that nasfast raised on purpose its line, which says all."""
    if isinstance(error, NasfastError):
        return f"{type(error).__name__}: {error}"
    return "".join(traceback.format_exception(error)).rstrip()


def work(connection: Connection, spec: WorkerSpec, index: int, log: str, environment: dict[str, str]) -> None:
    """The main function of a worker process.

    The environment is that of the process that has asked for it, which may not have started it.

    It sends ("ready", None), or ("broken", error) and ends; then for each job that it receives any number of
    ("beat", Heartbeat), and ("finished", numbers) or ("crashed", error).
    """
    np.random.seed()  # estimators of others may draw from it, and all workers are forked with one state
    os.environ.clear()
    os.environ.update(environment)
    _write_output_to(Path(log))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a training saves its state and ends
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _serve(connection, spec, index)
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        os._exit(0)  # no time is spent on what a process cleans up


def _serve(connection: Connection, spec: WorkerSpec, index: int) -> None:
    try:
        use_threads(spec.threads)
        estimator = spec.make(Beating(lambda beat: connection.send(("beat", beat))), index)
    except Exception as error:
        connection.send(("broken", error_text(error)))
        return
    connection.send(("ready", None))
    while True:
        job: Job = connection.recv()
        try:
            message: tuple[str, Any] = ("finished", answer(estimator, job))
        except BrokenPipeError:
            raise
        except Exception as error:
            message = ("crashed", error_text(error))
        connection.send(message)


def _write_output_to(log: Path) -> None:
    """What the process prints, and the stacks of a crash of native code, go to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    faulthandler.enable(sys.stderr)
