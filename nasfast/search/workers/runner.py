"""Trials on a pool: each is tried again where its worker failed it, and kept in the store."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nasfast.search.workers.jobs import Job, Outcome, Pool, Running, TrialKey
from nasfast.search.workers.store import TrialStore
from nasfast.spaces.base import Ancestors

TRIES = 2
"""Attempts at a trial that its own failure costs."""

_MOST_LOST = 5  # further attempts, after machines that were lost


@dataclass(frozen=True)
class Failed:
    """A trial that has no result: the error of its last attempt."""

    error: str


Result = dict[str, float] | Failed


def _no_ancestors(asked: TrialKey) -> Ancestors:
    """For estimators that need none."""
    return ()


class TrialRunner:
    """Takes trials in, and gives their results out; it works in :meth:`wait` alone.

    A trial that the store has a result of is not run again. One that crashes or hangs is tried once more, and then has
    :class:`Failed` as its result; one that is lost with its machine is run again.

    Args:
        pool: Its workers; closed with the runner.
        store: Closed with the runner.
        decode: The text of an architecture.
    """

    def __init__(self, pool: Pool, store: TrialStore, decode: Callable[[Sequence[int]], str]) -> None:
        self.pool, self.store, self._decode = pool, store, decode
        self._results: dict[TrialKey, Result] = {}
        for record in store.records():
            if record.numbers is not None:
                self._results[record.row, record.fidelity] = record.numbers
            elif record.state == "failed":
                self._results[record.row, record.fidelity] = Failed(record.error)
        self._asked: set[TrialKey] = set()  # no result yet
        self._queue: deque[Job] = deque()
        self._lost: dict[Job, int] = {}
        self._worker_seconds = 0.0
        self.retried = 0
        self._started = False

    def submit(
        self,
        asked: Sequence[TrialKey],
        together: int = 1,
        ancestors_of: Callable[[TrialKey], Ancestors] = _no_ancestors,
    ) -> None:
        """Put trials at the end of the queue, those that are new.

        Args:
            together: Rows of one fidelity that a worker gets at a time.
            ancestors_of: What their estimator may need of a row's ancestors; it goes with the row.
        """
        new = [a for a in dict.fromkeys(asked) if a not in self._results and a not in self._asked]
        for one in new:
            self.store.add(one, self._decode(one[0]))
        self._asked.update(new)
        for fidelity in dict.fromkeys(fidelity for _, fidelity in new):
            rows = [row for row, other in new if other == fidelity]
            for start in range(0, len(rows), together):
                part = tuple(rows[start : start + together])
                self._queue.append(Job(part, fidelity, ancestors=tuple(ancestors_of((row, fidelity)) for row in part)))

    def wait(self, asked: TrialKey, seconds: float) -> Result | None:
        """The result of a trial that was submitted; None where there is none after so many seconds.

        Raises:
            PoolError: Workers cannot be started.
            RunError: The store cannot be written.
        """
        until = time.monotonic() + seconds
        while asked not in self._results:
            left = until - time.monotonic()
            if left <= 0:
                return None
            self._work(left)
        return self._results[asked]

    def _work(self, seconds: float) -> None:
        if not self._started:
            self.pool.start()
            self._started = True
        while self._queue and self.pool.free():
            self.pool.submit(self._queue.popleft())
        for outcome in self.pool.poll(seconds):
            self._take(_checked(outcome))

    def _take(self, outcome: Outcome) -> None:
        job, again = outcome.job, self._again(outcome)
        self.store.record(outcome, final=not again)
        self._worker_seconds += outcome.ended - outcome.started
        if again:
            self.retried += 1
            self._queue.extendleft(reversed(again))
            return
        for place, asked in enumerate(job.asked):
            self._asked.discard(asked)
            finished = outcome.state == "finished"
            self._results[asked] = outcome.numbers[place] if finished else Failed(outcome.error)

    def _again(self, outcome: Outcome) -> list[Job]:
        """What is tried again: the rows of a slice one by one, so that one bad row fails alone."""
        job = outcome.job
        if outcome.state == "lost" and self._lost.get(job, 0) < _MOST_LOST:
            self._lost[job] = self._lost.get(job, 0) + 1
            return [job]
        if outcome.state in ("crashed", "hung") and job.attempt < TRIES:
            return [Job((row,), job.fidelity, job.attempt + 1, (ancestors,)) for row, ancestors in job.lineage]
        return []

    def running(self) -> Sequence[Running]:
        """What workers do now."""
        return self.pool.running()

    def worker_seconds(self) -> float:
        """Seconds that workers were busy, summed over them."""
        now = time.time()
        return self._worker_seconds + sum(now - job.started for job in self.pool.running())

    def close(self) -> None:
        """End the workers; what they had is run again where the search goes on."""
        self.pool.close()
        self.store.close()


def _checked(outcome: Outcome) -> Outcome:
    """A result that holds a number that is not finite is a failure."""
    for row, numbers in zip(outcome.job.rows, outcome.numbers, strict=False):
        for name, value in numbers.items():
            if not math.isfinite(value):
                error = f"{name} of {list(row)} is {value}, expected a finite number"
                return replace(outcome, state="crashed", numbers=(), error=error)
    if outcome.state == "finished" and len(outcome.numbers) != len(outcome.job.rows):
        error = f"{len(outcome.numbers)} estimates of {len(outcome.job.rows)} rows"
        return replace(outcome, state="crashed", numbers=(), error=error)
    return outcome
