"""The report of a black-box search: the best architecture drawn, the front, a leaderboard, and the progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from nasfast.config.objectives import BUDGET, Objective
from nasfast.errors import NasfastError, RunError
from nasfast.report import sections
from nasfast.report.architectures import architecture_svg
from nasfast.report.curves import Chart, Series, line_chart
from nasfast.report.page import frame
from nasfast.report.run_data import Row, RunData
from nasfast.report.scatter import Point, scatter_chart, short_number
from nasfast.report.trials import trials
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
        return f"budget {escape(budget)}" if budget else f"of {self.settings['evaluations']}"

    def full(self, trial: Row) -> bool:
        """Whether a trial had the largest budget of any: others cannot be compared with it."""
        return bool(trial["metrics"].get(BUDGET, 0) == self._most)

    @cached_property
    def _most(self) -> float:
        return max((t["metrics"].get(BUDGET, 0) for t in self.trials if not t["violation"]), default=0)

    @property
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
    run = RunFolder(path)
    try:
        return [row for row in run.metrics.rows() if row.get("kind") == "trial"]
    except (ValueError, OSError) as error:
        raise RunError(f"{run.metrics.path}: a row could not be read ({error})") from error


def render(search: Search) -> str:
    """The whole page."""
    settings = search.settings
    subtitle = f"space {settings['space']}, strategy {settings['strategy']}, seed {settings['seed']}"
    if settings["estimator"] != "table":
        subtitle += f", estimator {settings['estimator']}, data {Path(settings['data']).name}"
    body = "".join(
        (
            architecture(search),
            front(search),
            leaders(search),
            rungs(search),
            progress(search),
            trials(RunFolder(search.data.path).trials_path),
            sections.setting(search.data),
        )
    )
    return frame(search.data.name, str(search.data.config.get("nasfast", "")), subtitle, _headline(search), body)


def _headline(search: Search) -> str:
    if not search.kept:
        text = "Nothing was evaluated yet." if not search.trials else "No evaluated architecture keeps the constraints."
        return f'<div class="figures">{sections.absent(text)}</div>'
    metrics = search.kept[0]["metrics"]
    figures = [sections.figure(f"{metrics['score']:.2f}", "score, best architecture", "", "main")]
    if "test_accuracy" in metrics:
        figures.append(sections.figure(f"{metrics['test_accuracy']:.2f}", "its test accuracy"))
    figures += [sections.figure(short_number(metrics[name]), name) for name in ("params", "flops") if name in metrics]
    figures.append(sections.figure(f"{len(search.trials)}", "evaluations", search.limit))
    return f'<div class="figures">{"".join(figures)}</div>'


def architecture(search: Search) -> str:
    title = "The best architecture"
    if not search.kept:
        return sections.section("architecture", title, "", sections.absent("There is none yet."))
    best = search.kept[0]
    body = f"<pre>{escape(best['arch'])}</pre>"
    try:
        space = search.make_space()
        pictures, row = space.picture(best["row"]), best["row"]
    except NasfastError as error:  # a space of the user's own cannot be made from its name
        return sections.section(
            "architecture", title, "", body + sections.absent(escape(f"It cannot be drawn: {error}"))
        )
    drawn = [
        f"<figure><figcaption>{escape(picture.title)}</figcaption>{svg}</figure>"
        for picture, svg in zip(pictures, architecture_svg(space, row), strict=True)
    ]
    names = sorted({name for picture in pictures for name, _, _ in picture.arcs})
    return sections.section(
        "architecture", title, "", f'<div class="pair">{"".join(drawn)}</div>{sections.legend(names)}{body}'
    )


def front(search: Search) -> str:
    """The first objective against every other one; with a single objective, against parameters and FLOPs."""
    kept = search.kept
    others = search.objectives[1:] or [Objective(name, False) for name in ("params", "flops")]
    charts = []
    for other in others:
        first = search.objectives[0]
        if other.metric == first.metric or not kept or other.metric not in kept[0]["metrics"]:
            continue
        values = np.array([[first.value(t["metrics"]), other.value(t["metrics"])] for t in kept[:_MOST_POINTS]])
        on_front = non_dominated(values).tolist()
        points = [
            Point(t["metrics"][other.metric], t["metrics"][first.metric], shorten(t["arch"], 60), front)
            for t, front in zip(kept, on_front, strict=False)
        ]
        charts.append(scatter_chart(points, other.metric, first.metric))
    body = "".join(charts) or sections.absent("There is nothing to draw yet.")
    return sections.section("front", "The front", "", body)


def leaders(search: Search) -> str:
    kept = search.kept[:_LEADERS]
    if not kept:
        return ""
    names = [name for name in kept[0]["metrics"] if name != "score"]
    tuned = list(parse_tuned(search.settings.get("tune", ())))
    whole = {name for name in names if all(float(t["metrics"].get(name) or 0).is_integer() for t in kept)}
    rows = []
    for place, trial in enumerate(kept, 1):
        numbers = [_shown(trial["metrics"].get(name), name in whole) for name in ("score", *names)]
        arch, settings = split_text(trial["arch"]) if tuned else (trial["arch"], {})
        values = [escape(value_text(settings[name])) for name in tuned]
        rows.append(
            [str(place), *numbers, *values, str(trial["number"] + 1), f"<code>{escape(shorten(arch, 160))}</code>"]
        )
    head = ["", "score", *(escape(name.replace("_", " ")) for name in (*names, *tuned)), "evaluation", "architecture"]
    return sections.section("leaderboard", "Leaderboard", "", sections.leaderboard(head, rows))


def rungs(search: Search) -> str:
    """How many architectures came to each budget, and the best there; "" where there is one budget."""
    history = History(search.objectives)
    for logged in search.trials:
        history.add(Trial.of(logged))
    if len(history.rungs) < 2:
        return ""
    metric, rows = search.objectives[0].metric, []
    for rung in history.rungs:
        value = "–" if rung.best is None else _shown(rung.best.metrics.get(metric))
        rows.append([rung.name, str(len(rung.rows)), value])
    return sections.section("rungs", "Rungs", "", sections.table(["", "architectures", "best"], rows))


def progress(search: Search) -> str:
    if not search.trials:
        return ""
    objective = search.objectives[0]
    best: float | None = None
    line: list[tuple[float, float | None]] = []
    for trial in search.trials:
        value = trial["metrics"][objective.metric]
        if not trial["violation"] and search.full(trial):
            better = best is None or (value > best if objective.maximise else value < best)
            best = value if better else best
        line.append((trial["number"] + 1, best))
    chart = line_chart(Chart(objective.metric, [Series("best so far", line, "s1")], x_label="evaluation"))
    return sections.section("progress", "Progress", "", f'<div class="progress">{chart}</div>')


def _shown(value: Any, whole: bool = False) -> str:
    if not isinstance(value, (int, float)):
        return "–"
    if whole and abs(value) < 1000:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) < 1000 else short_number(value)
