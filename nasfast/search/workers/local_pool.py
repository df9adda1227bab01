"""Workers that are processes of this machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from pickle import PicklingError
from typing import Any

from nasfast.search.fork_server import worker_context
from nasfast.search.workers.jobs import Heartbeat, Job, Outcome, PoolError, Running, State
from nasfast.search.workers.worker import WorkerSpec, work
from nasfast.utils.child_process import call_packed, packed

_START_SECONDS = 300.0
_MOST_FAILED_STARTS = 3
_CLOSE_SECONDS = 10.0
_LOOK_SECONDS = 0.5  # between looks at who hangs
_MOST_LOG = 4000  # bytes at the end of a worker's log that an error quotes


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    log: Path
    name: str
    started: float = field(default_factory=time.monotonic)
    ready: bool = False
    job: Job | None = None
    job_started: float = 0.0
    beat: Heartbeat = field(default_factory=Heartbeat)
    beat_at: float = 0.0
    log_from: int = 0

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


class LocalPool:
    """Worker processes with one job each.

    They are forked from a process that does nothing but load torch, once for all of them, never from the caller's: a
    script that opens a pool needs ``if __name__ == "__main__":``. They see the caller's environment, and end with the
    caller, however that ends.

    Args:
        spec: How a worker comes to its estimator.
        size: How many.
        logs: Folder for what each prints.
        timeout: Seconds without a sign of progress after which a worker is taken to hang, and is replaced.
    """

    def __init__(self, spec: WorkerSpec, size: int, logs: Path, timeout: float) -> None:
        if size < 1:
            raise PoolError(f"a pool needs at least one worker, got {size}")
        self._spec, self._size, self._logs, self.timeout = spec, size, logs, timeout
        self._context = worker_context()
        self._workers: list[_Worker] = []
        self._failed_starts = 0

    @property
    def size(self) -> int:
        return self._size

    def start(self) -> None:
        self._workers = [self._make(index) for index in range(self._size)]

    def _make(self, index: int) -> _Worker:
        mine, its = self._context.Pipe()
        log, name = self._logs / f"worker-{index}.log", f"worker {index}"
        try:
            call = packed(work, self._spec, index, str(log), dict(os.environ))
            process = self._context.Process(target=call_packed, args=(call, its), name=name, daemon=True)
            process.start()
        except (AttributeError, TypeError, OSError, EOFError, PicklingError) as error:  # of pickle and of the server
            raise PoolError(f"a worker process cannot be started: {error}") from error
        its.close()
        return _Worker(process, mine, log, name)

    def free(self) -> int:
        return sum(worker.ready and worker.job is None for worker in self._workers)

    def submit(self, job: Job) -> None:
        worker = next(worker for worker in self._workers if worker.ready and worker.job is None)
        worker.job, worker.beat = job, Heartbeat()
        worker.job_started, worker.beat_at = time.time(), time.monotonic()
        worker.log_from = worker.log.stat().st_size
        with suppress(OSError):  # it has ended, which the next poll sees
            worker.connection.send(job)

    def poll(self, seconds: float) -> list[Outcome]:
        signs = [sign for worker in self._workers for sign in (worker.connection, worker.process.sentinel)]
        wait(signs, min(seconds, _LOOK_SECONDS))
        outcomes = []
        for index, worker in enumerate(self._workers):
            alive = worker.process.is_alive()  # before its messages are read: none comes after
            outcomes += self._read(worker)
            now = time.monotonic()
            if not alive:
                outcomes += self._ended(worker)
                self._workers[index] = self._make(index)
            elif worker.ready and worker.job is not None and now - worker.beat_at > self.timeout:
                worker.kill()
                outcomes.append(self._outcome(worker, "hung", f"no progress in {self.timeout:g} seconds"))
                self._workers[index] = self._make(index)
            elif not worker.ready and now - worker.started > _START_SECONDS:
                raise PoolError(f"{worker.name} was not ready after {_START_SECONDS:g} seconds; see {worker.log}")
        return outcomes

    def _read(self, worker: _Worker) -> list[Outcome]:
        outcomes = []
        try:
            while worker.connection.poll():
                kind, content = worker.connection.recv()
                worker.beat_at = time.monotonic()
                if kind == "beat":
                    worker.beat = content
                elif kind == "ready":
                    worker.ready, self._failed_starts = True, 0
                elif kind == "broken":
                    raise PoolError(f"{worker.name} cannot make its estimator: {content}")
                elif worker.job is not None:
                    outcomes.append(self._outcome(worker, kind, content))
        except (EOFError, OSError):  # it has ended
            pass
        return outcomes

    def _outcome(self, worker: _Worker, state: State, content: Any) -> Outcome:
        assert worker.job is not None
        job, worker.job = worker.job, None
        numbers, error = (content, "") if state == "finished" else ((), content)
        return Outcome(job, state, worker.name, worker.job_started, time.time(), numbers, error)

    def _ended(self, worker: _Worker) -> list[Outcome]:
        """What came of the job of a process that is no more."""
        worker.process.join()
        worker.connection.close()
        why = f"{worker.name} ended: {_how(worker.process.exitcode)}"
        printed = _tail(worker.log, worker.log_from)
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts > _MOST_FAILED_STARTS:
                raise PoolError(f"{why}, {self._failed_starts} times before it was ready. {printed}")
        if worker.job is None:
            return []
        return [self._outcome(worker, "crashed", f"{why}\n{printed}".rstrip())]

    def running(self) -> Sequence[Running]:
        return [Running(w.job, w.name, w.job_started, w.beat) for w in self._workers if w.job is not None]

    def close(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        until = time.monotonic() + _CLOSE_SECONDS
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            worker.kill()
        self._workers = []


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"signal {-code} ({signal.Signals(-code).name})"
        except ValueError:
            return f"signal {-code}"
    return f"exit status {code}"


def _tail(log: Path, start: int) -> str:
    """The end of what was written to a log from a position on."""
    try:
        with open(log, "rb") as file:
            file.seek(max(start, log.stat().st_size - _MOST_LOG))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""
