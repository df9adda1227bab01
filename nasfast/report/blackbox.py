"""The report of a black-box search: the best architecture drawn, the front, a leaderboard, and the progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nasfast.config.objectives import FIDELITY, Objective
from nasfast.errors import NasfastError
from nasfast.report.architectures import Drawing, drawing
from nasfast.report.curves import Chart, Series
from nasfast.report.formats import metric, unit_of
from nasfast.report.page import Table, render_page
from nasfast.report.run_data import Row, RunData
from nasfast.report.scatter import Point, Scatter
from nasfast.report.trials import worker_trials
from nasfast.runs.folder import RunFolder
from nasfast.search.history import History, Trial
from nasfast.spaces.base import Space
from nasfast.spaces.hyperparameters import parse_tuned, shorten, split_text, value_text
from nasfast.spaces.population import non_dominated

_LEADERS = 20
_MOST_POINTS = 3000  # drawn; beyond, the page grows heavy, and only the best and the front are kept


@dataclass
class Search:
    """What a run has logged of its trials."""

    data: RunData
    settings: Row
    objectives: list[Objective]
    make_space: Callable[[], Space]
    trials: list[Row] = field(default_factory=list)

    @property
    def limit(self) -> str:
        """What the search may cost, as text."""
        budget = self.settings.get("budget")
        return f"budget {budget}" if budget else f"of {self.settings['evaluations']}"

    def full(self, trial: Row) -> bool:
        """Whether a trial had the highest fidelity of any: others cannot be compared with it."""
        return bool(trial["metrics"].get(FIDELITY, 0) == self._most)

    @cached_property
    def _most(self) -> float:
        return max((t["metrics"].get(FIDELITY, 0) for t in self.trials if not t["violation"]), default=0)

    @cached_property
    def kept(self) -> list[Row]:
        """Different architectures that keep the constraints, the best first objective first."""
        kept = {trial["arch"]: trial for trial in reversed(self.trials) if not trial["violation"] and self.full(trial)}
        return sorted(kept.values(), key=lambda t: (-self.objectives[0].value(t["metrics"]), t["number"]))


def load_search(path: Path, config: Row) -> Search:
    """Read a run's trials.

    Raises:
        RunError: The log cannot be read.
    """
    from nasfast.config.blackbox import BlackBoxConfig

    stored = BlackBoxConfig.of(config["blackbox"])
    data = RunData(name=path.resolve().name, path=path, config=config)
    return Search(data, config["blackbox"], list(stored.objectives()), stored.make_space, read_trials(path))


def read_trials(path: Path) -> list[Row]:
    """The rows of a run's trials.

    Raises:
        RunError: The log cannot be read.
    """
    return [row for row in RunFolder(path).metrics.rows() if row.get("kind") == "trial"]


def render(search: Search) -> str:
    """The whole page."""
    return render_page("blackbox.html", search.data, rungs=_rungs(search), **found(search))


def found(search: Search) -> dict[str, Any]:
    """What a page shows of the trials."""
    return {
        "search": search,
        "settings": search.settings,
        "folder": Path(search.settings.get("data", "")).name,
        "architecture": _architecture(search),
        "fronts": _fronts(search),
        "leaders": _leaders(search),
        "progress": _progress(search),
        "workers": worker_trials(
            RunFolder(search.data.path).trials_path, search.trials, bool(search.settings.get("workers"))
        ),
    }


def _architecture(search: Search) -> Drawing:
    if not search.kept:
        return Drawing()
    best = search.kept[0]
    try:
        return drawing(search.make_space(), best["row"], best["arch"])
    except NasfastError as error:  # a space of the user's own cannot be made from its name
        return Drawing(best["arch"], problem=str(error))


def _fronts(search: Search) -> list[Scatter]:
    """The first objective against every other one; with a single objective, against parameters and FLOPs."""
    kept, first = search.kept, search.objectives[0]
    others = search.objectives[1:] or [Objective(name, False) for name in ("params", "flops")]
    charts = []
    for other in others:
        if other.metric == first.metric or not kept or other.metric not in kept[0]["metrics"]:
            continue
        values = np.array([[first.value(t["metrics"]), other.value(t["metrics"])] for t in kept[:_MOST_POINTS]])
        on_front = non_dominated(values).tolist()
        points = [
            Point(t["metrics"][other.metric], t["metrics"][first.metric], shorten(t["arch"], 60), front)
            for t, front in zip(kept, on_front, strict=False)
        ]
        charts.append(Scatter(points, other.metric, first.metric))
    return charts


def _leaders(search: Search) -> Table:
    kept = search.kept[:_LEADERS]
    names = [name for name in kept[0]["metrics"] if name != "score"] if kept else []
    tuned = list(parse_tuned(search.settings.get("tune", ())))
    rows = []
    for place, trial in enumerate(kept, 1):
        numbers = [metric(trial["metrics"].get(name), name) for name in ("score", *names)]
        arch, settings = split_text(trial["arch"]) if tuned else (trial["arch"], {})
        values = [value_text(settings[name]) for name in tuned]
        rows.append([str(place), *numbers, *values, str(trial["number"] + 1), shorten(arch, 160)])
    head = ["", "score", *(name.replace("_", " ") for name in (*names, *tuned)), "evaluation", "architecture"]
    return Table(head, rows)


def _rungs(search: Search) -> Table:
    """How many architectures came to each fidelity, and the best there; no rows where there is one fidelity."""
    history = History(search.objectives)
    for logged in search.trials:
        history.add(Trial.of(logged))
    name, found = search.objectives[0].metric, history.rungs if len(history.rungs) > 1 else []
    rows = [[rung.name, str(len(rung.rows)), metric(rung.best and rung.best.metrics.get(name), name)] for rung in found]
    return Table(["", "architectures", "best"], rows)


def _progress(search: Search) -> Chart:
    objective = search.objectives[0]
    best: float | None = None
    line: list[tuple[float, float | None]] = []
    for trial in search.trials:
        value = trial["metrics"][objective.metric]
        if not trial["violation"] and search.full(trial):
            better = best is None or (value > best if objective.maximise else value < best)
            best = value if better else best
        line.append((trial["number"] + 1, best))
    best_line = Series("best so far", line, "s1")
    return Chart(objective.metric, [best_line], unit_of(objective.metric), x_label="evaluation")
