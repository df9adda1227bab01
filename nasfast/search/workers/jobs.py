"""What a worker is given, what comes back of it, and what every pool of workers does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from nasfast.errors import NasfastError
from nasfast.spaces.base import Ancestors

TrialKey = tuple[tuple[int, ...], int | None]
"""A row, and the epochs it may be trained for (None: the estimator's own)."""

State = Literal["finished", "crashed", "hung", "lost"]
"""How an attempt ended; lost: with the machine or the search that it ran in, through no fault of its own."""


class PoolError(NasfastError):
    """Workers cannot be started, or do not stay."""


@dataclass(frozen=True)
class Job:
    """Rows that one worker evaluates together: one, where each is trained; a slice of a population, where not.

    Attributes:
        attempt: From 1.
        ancestors: Of each row, for each :class:`nasfast.estimators.WarmStartEstimator`; () where none has any.
    """

    rows: tuple[tuple[int, ...], ...]
    fidelity: int | None
    attempt: int = 1
    ancestors: tuple[Ancestors, ...] = ()

    @property
    def asked(self) -> list[TrialKey]:
        return [(row, self.fidelity) for row in self.rows]

    @property
    def lineage(self) -> list[tuple[tuple[int, ...], Ancestors]]:
        """Each row with its ancestors."""
        return list(zip(self.rows, self.ancestors or ((),) * len(self.rows), strict=True))


@dataclass(frozen=True)
class Heartbeat:
    """How far a job has come: steps done of all, and a few words."""

    done: int = 0
    total: int = 0
    note: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        worker: Who had it.
        started, ended: Seconds since the epoch.
        numbers: Of a finished one: what :meth:`nasfast.estimators.Estimate.numbers` gives for each row.
        error: Of another: a traceback, or why there is none.
    """

    job: Job
    state: State
    worker: str
    started: float
    ended: float
    numbers: tuple[dict[str, float], ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Running:
    """A job on a worker, for those who look on."""

    job: Job
    worker: str
    started: float
    beat: Heartbeat


class Pool(Protocol):
    """Workers, each with one job at a time."""

    @property
    def size(self) -> int:
        """How many there are."""

    def start(self) -> None:
        """Start them, without waiting until they are ready."""

    def free(self) -> int:
        """How many are ready, and have no job."""

    def submit(self, job: Job) -> None:
        """Give a job to a free worker."""

    def poll(self, seconds: float) -> list[Outcome]:
        """Wait so long, at most, for a job to end; replaces workers that ended or hang.

        Raises:
            PoolError: Workers cannot be started, or cannot make their estimator.
        """

    def running(self) -> Sequence[Running]:
        """The jobs that workers have."""

    def close(self) -> None:
        """End them. A training that is interrupted saves its state first, where it can do so in a few seconds."""
