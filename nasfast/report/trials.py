"""The part of a report on trials that ran on workers: how long each took and where, and what failed."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

from nasfast.errors import RunError
from nasfast.report import sections
from nasfast.search.workers import Record, TrialStore
from nasfast.utils.clock import clock

_MOST_FAILED = 20

TRIALS_CSS = """
.wide{overflow-x:auto}
.gantt{display:block;width:100%;min-width:560px;height:auto;margin:10px 0}
.gantt text{font:12px var(--sans);fill:var(--soft)}
.gantt rect{fill:var(--a);opacity:.75}
.gantt rect.bad{fill:var(--alert);opacity:1}
.gantt line{stroke:var(--rule)}
details{margin:8px 0}
summary{cursor:pointer;overflow-wrap:anywhere}
"""


def trials(path: Path) -> str:
    """The section; "" where the run has no store.

    Args:
        path: Of the store.
    """
    if not path.is_file():
        return ""
    try:
        store = TrialStore(path)
    except RunError as error:
        return sections.section("trials", "Trials on workers", "", sections.absent(escape(str(error))))
    try:
        records = store.records()
    finally:
        store.close()
    body = _numbers(records) + _gantt(records) + _failures(records)
    return sections.section("trials", "Trials on workers", "", body)


def _numbers(records: list[Record]) -> str:
    attempts = [attempt for record in records for attempt in record.attempts]
    if not attempts:
        return sections.absent("None has ended yet.")
    count = {state: sum(record.state == state for record in records) for state in ("finished", "failed", "waiting")}
    busy = sum(attempt.ended - attempt.started for attempt in attempts)
    figures = [
        sections.figure(str(count["finished"]), "finished"),
        sections.figure(str(count["failed"]), "failed"),
        sections.figure(str(count["waiting"]), "without a result"),
        sections.figure(str(len(attempts) - count["finished"] - count["failed"]), "tried again"),
        sections.figure(str(len({attempt.worker for attempt in attempts})), "workers"),
        sections.figure(clock(busy), "of work", "minutes, summed over workers"),
    ]
    return f'<div class="figures">{"".join(figures)}</div>'


def _gantt(records: list[Record]) -> str:
    """When each worker had which trial; sessions of the run follow each other without the time between."""
    attempts = [(attempt, record) for record in records for attempt in record.attempts]
    if not attempts:
        return ""
    workers = sorted({attempt.worker for attempt, _ in attempts}, key=lambda name: (len(name), name))
    place, length = _compressed([(attempt.started, attempt.ended) for attempt, _ in attempts])
    left, width, row = 110, 890, 22
    height = row * len(workers) + 26
    parts = []
    for index, name in enumerate(workers):
        parts.append(f'<text x="0" y="{index * row + 15}">{escape(name)}</text>')
    for attempt, record in attempts:
        x = left + width * place(attempt.started) / length
        end = left + width * place(attempt.ended) / length
        bad = "" if attempt.state == "finished" else ' class="bad"'
        y = workers.index(attempt.worker) * row + 4
        title = escape(f"{record.arch}: {attempt.state}, {attempt.ended - attempt.started:.1f} s")
        parts.append(
            f'<rect{bad} x="{x:.1f}" y="{y}" width="{max(0.8, end - x - 0.6):.1f}" height="14" rx="2">'
            f"<title>{title}</title></rect>"
        )
    base = height - 18
    parts.append(f'<line x1="{left}" y1="{base}" x2="{left + width}" y2="{base}"/>')
    parts.append(f'<text x="{left}" y="{height - 3}">0:00</text>')
    parts.append(f'<text x="{left + width}" y="{height - 3}" text-anchor="end">{clock(length)}</text>')
    label = f"When each of {len(workers)} workers had a trial"
    drawn = f'<svg class="gantt" viewBox="0 0 1000 {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    return f'<div class="wide">{drawn}</div>'


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


def _failures(records: list[Record]) -> str:
    failed = [record for record in records if any(attempt.state != "finished" for attempt in record.attempts)]
    parts = []
    for record in failed[:_MOST_FAILED]:
        ends = ", ".join(attempt.state for attempt in record.attempts)
        errors = "\n\n".join(attempt.error for attempt in record.attempts if attempt.error)
        parts.append(
            f"<details><summary><code>{escape(record.arch)}</code> {escape(ends)}</summary>"
            f"<pre>{escape(errors)}</pre></details>"
        )
    if len(failed) > _MOST_FAILED:
        parts.append(f"<p>and {len(failed) - _MOST_FAILED} more, in trials.sqlite</p>")
    return f"<h3>What did not go well</h3>{''.join(parts)}" if parts else ""
