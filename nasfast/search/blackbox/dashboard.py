"""What a search shows of itself while it runs: the best so far, the front, rungs, and the trials on workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nasfast.search.blackbox.search import BlackBoxSearch
from nasfast.search.history import Trial
from nasfast.search.workers import Running
from nasfast.spaces.hyperparameters import shorten
from nasfast.utils.clock import clock
from nasfast.utils.numbers import metric_text, number_text
from nasfast.utils.shown import shown

_MOST_FRONT, _MOST_RUNNING, _MOST_ARCH = 5, 16, 64


def board(search: BlackBoxSearch, running: Sequence[Running] = (), spent: str = "") -> RenderableType:
    """The state of a search as tables for a terminal.

    Args:
        running: Trials on workers.
        spent: Of the budget.
    """
    parts = [_summary(search, spent), _front(search), _rungs(search), _running(search.problem.space.decode, running)]
    return Group(*(part for part in parts if part is not None))


def note(search: BlackBoxSearch, spent: str = "") -> str:
    """The same in a few words."""
    top = search.history.top
    parts = [] if top is None else [f"best {number_text(top.score)}"]
    if search.failed:
        parts.append(f"{len(search.failed)} failed")
    return ", ".join(parts + ([spent] if spent else []))


def _summary(search: BlackBoxSearch, spent: str) -> RenderableType:
    facts = [f"budget {spent}"] if spent else []
    facts += [f"{len(search.failed)} failed"] if search.failed else []
    facts += [f"{search.rejected} broke a constraint"] if search.rejected else []
    return Text(", ".join(facts), style="dim") if facts else Text("")


def _front(search: BlackBoxSearch) -> Table | None:
    """The best trial, with several objectives the first of the front."""
    front = search.front()
    if not front:
        return None
    names = [objective.metric for objective in search.problem.objectives]
    listed = front[:_MOST_FRONT] if len(names) > 1 else front[:1]
    rest = f", {len(front)} in all" if len(front) > len(listed) else ""
    table = _table(("front" + rest if len(names) > 1 else "best"), *names)
    for trial in listed:
        arch = shorten(search.problem.space.decode(trial.row), _MOST_ARCH)
        _add(table, arch, *(_number(trial, name) for name in names))
    return table


def _rungs(search: BlackBoxSearch) -> Table | None:
    """How many came to each number of epochs, and the best there."""
    rungs = search.history.rungs
    if len(rungs) < 2:
        return None
    metric = search.problem.objectives[0].metric
    table = _table("rung", "architectures", "best " + metric)
    for rung in rungs:
        best = "–" if rung.best is None else _number(rung.best, metric)
        _add(table, rung.name, str(len(rung.rows)), best)
    return table


def _running(decode: Callable[[Any], str], running: Sequence[Running]) -> Table | None:
    if not running:
        return None
    table = _table("running", "epochs", "attempt", "done", "", "time")
    now = time.time()
    for one in running[:_MOST_RUNNING]:
        job, beat = one.job, one.beat
        what = decode(job.rows[0]) if len(job.rows) == 1 else f"{len(job.rows)} architectures"
        done = f"{100 * beat.done // beat.total} %" if beat.total else "–"
        epochs = "–" if job.fidelity is None else str(job.fidelity)
        _add(table, shorten(what, _MOST_ARCH), epochs, str(job.attempt), done, beat.note, clock(now - one.started))
    if len(running) > _MOST_RUNNING:
        _add(table, f"and {len(running) - _MOST_RUNNING} more", *[""] * 5)
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(Text(shown(first)), no_wrap=True, overflow="ellipsis", ratio=1)
    for name in others:
        table.add_column(Text(shown(name)), justify="right", no_wrap=True)
    return table


def _add(table: Table, *cells: str) -> None:
    """A row of texts as they are: Rich would take what stands in brackets in an architecture for its markup."""
    table.add_row(*(Text(shown(cell)) for cell in cells))


def _number(trial: Trial, name: str) -> str:
    value = trial.metrics.get(name)
    return "–" if value is None else metric_text(name, value)
