"""The part of a report on trials that ran on workers: how long each took and where, and what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

from markupsafe import Markup

from nasfast.errors import RunError
from nasfast.report.run_data import Row
from nasfast.search.workers import Record, TrialStore
from nasfast.search.workers.store import Attempt
from nasfast.utils.clock import clock


@dataclass(frozen=True)
class WorkerTrials:
    """What the store of a run says."""

    records: list[Record]

    @cached_property
    def attempts(self) -> list[tuple[Attempt, Record]]:
        """All, each with the trial it was at."""
        return [(attempt, record) for record in self.records for attempt in record.attempts]

    @property
    def states(self) -> Counter[str]:
        """How many trials there are of each state."""
        return Counter(record.state for record in self.records)

    @cached_property
    def names(self) -> list[str]:
        """Of the workers that had a trial."""
        return sorted({attempt.worker for attempt, _ in self.attempts}, key=lambda name: (len(name), name))

    @property
    def busy(self) -> float:
        """Seconds of work, summed over workers."""
        return sum(attempt.ended - attempt.started for attempt, _ in self.attempts)

    @property
    def failed(self) -> list[Record]:
        """Trials with an attempt that did not go well."""
        return [record for record in self.records if any(attempt.state != "finished" for attempt in record.attempts)]

    @property
    def gantt(self) -> Markup:
        """When each worker had which trial; sessions of the run follow each other without the time between."""
        place, length = _compressed([(attempt.started, attempt.ended) for attempt, _ in self.attempts])
        left, width, row = 110, 890, 22
        height = row * len(self.names) + 26
        parts = []
        for index, name in enumerate(self.names):
            parts.append(f'<text x="0" y="{index * row + 15}">{escape(name)}</text>')
        for attempt, record in self.attempts:
            x = left + width * place(attempt.started) / length
            end = left + width * place(attempt.ended) / length
            bad = "" if attempt.state == "finished" else ' class="bad"'
            y = self.names.index(attempt.worker) * row + 4
            title = escape(f"{record.arch}: {attempt.state}, {attempt.ended - attempt.started:.1f} s")
            parts.append(
                f'<rect{bad} x="{x:.1f}" y="{y}" width="{max(0.8, end - x - 0.6):.1f}" height="14" rx="2">'
                f"<title>{title}</title></rect>"
            )
        base = height - 18
        parts.append(f'<line x1="{left}" y1="{base}" x2="{left + width}" y2="{base}"/>')
        parts.append(f'<text x="{left}" y="{height - 3}">0:00</text>')
        parts.append(f'<text x="{left + width}" y="{height - 3}" text-anchor="end">{clock(length)}</text>')
        label = f"When each of {len(self.names)} workers had a trial"
        return Markup(
            f'<svg class="gantt" viewBox="0 0 1000 {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
        )


def worker_trials(path: Path, logged: Sequence[Row], expected: bool) -> WorkerTrials | None:
    """The store at ``path``; None where the run has none.

    Args:
        logged: The trials in the run's log.
        expected: The run has workers.

    Raises:
        RunError: The store is damaged, locked, or missing.
    """
    if not path.is_file():
        if expected and logged:
            raise RunError(f"{path} is missing, which has the trials of the run's workers; restore it from a copy")
        return None
    with closing(TrialStore(path)) as store:
        store.check_log(logged)
        return WorkerTrials(store.records())


def _compressed(spans: list[tuple[float, float]], gap: float = 60.0) -> tuple[Callable[[float], float], float]:
    """Seconds of work before a time, where nothing ran for longer than ``gap`` the time does not count; all of them."""
    pieces: list[list[float]] = []
    for start, end in sorted(spans):
        if pieces and start - pieces[-1][1] <= gap:
            pieces[-1][1] = max(pieces[-1][1], end)
        else:
            pieces.append([start, end])

    def place(time: float) -> float:
        return sum(max(0.0, min(time, end) - start) for start, end in pieces)

    return place, max(1e-3, sum(end - start for start, end in pieces))
