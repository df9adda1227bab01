"""The report of a search by gradients in a space: the architecture drawn, a leaderboard, the weights over time."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from nasfast.config.gradient import SearchConfig
from nasfast.errors import NasfastError
from nasfast.report import sections
from nasfast.report.alphas import decision_grid
from nasfast.report.architectures import architecture_svg
from nasfast.report.curves import Chart, line_chart
from nasfast.report.page import frame
from nasfast.report.run_data import Row, RunData, load_run, number
from nasfast.report.scatter import short_number
from nasfast.runs.folder import RunFolder
from nasfast.search.gradient.result import SpaceResult, read_result
from nasfast.spaces.base import Space


class SpaceRun:
    """What a run folder holds; what it does not have yet is None."""

    def __init__(self, path: Path) -> None:
        self.data: RunData = load_run(path)
        settings: Row = self.data.config["search"]
        self.config = SearchConfig.of(settings)
        self.space: Space | None = None
        self.result: SpaceResult | None = None
        try:
            self.space = self.config.searched_space()
        except NasfastError as error:  # a space of the user's own cannot be made from its name
            self.data.notes.append(f"the space: {error}")
        run = RunFolder(path)
        if self.space is not None and run.architectures_path.is_file():
            self.result = read_result(run, self.space)
        self.architectures = _architectures(run.architectures_path)


def _architectures(path: Path) -> dict[str, Any]:
    """Architectures by label, as they stand in the file; empty where there is none."""
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")).get("architectures", {})
    return found


def render(run: SpaceRun) -> str:
    """The whole page."""
    config = run.config
    subtitle = f"space {config.space}, strategy {config.strategy}, data {Path(config.data).name}, seed {config.seed}"
    body = [
        _architecture(run),
        _leaders(run),
        _weights(run),
        _curves(run.data),
        sections.cost(run.data),
        sections.setting(run.data),
    ]
    version = str(run.data.config.get("nasfast", ""))
    return frame(run.data.name, version, subtitle, _headline(run), "".join(body))


def _headline(run: SpaceRun) -> str:
    derived = run.architectures.get("derived", {}).get("metrics", {})
    random = run.architectures.get("random", {}).get("metrics", {})
    figures = []
    if "test_accuracy" in derived:
        source = "in the table" if run.config.table else "retrained"
        figures.append(sections.figure(f"{derived['test_accuracy']:.2f} %", "test accuracy, derived", source, "main"))
    if "test_accuracy" in derived and "test_accuracy" in random:
        figures.append(sections.figure(f"{random['test_accuracy']:.2f} %", "test accuracy, random"))
        difference = f"{derived['test_accuracy'] - random['test_accuracy']:+.2f} points".replace("-", "−")
        figures.append(sections.figure(difference, "derived against random"))
    figures += [sections.figure(short_number(derived[name]), name) for name in ("params", "flops") if name in derived]
    epochs = len(run.data.epochs)
    seconds = sum(number(row, "seconds") or 0.0 for row in run.data.epochs)
    note = f"{epochs} epoch{'s' if epochs != 1 else ''}"
    figures.append(sections.figure(sections.duration(seconds), "search time", note))
    return f'<div class="figures">{"".join(figures)}</div>'


def _architecture(run: SpaceRun) -> str:
    title = "The derived architecture"
    if "derived" not in run.architectures:
        return sections.section("architecture", title, "", sections.absent("None was derived yet."))
    body = f"<pre>{escape(run.architectures['derived']['arch'])}</pre>"
    if run.space is None or run.result is None:
        text = f"It cannot be drawn: {run.config.space} is a space of your own, which a report cannot make."
        return sections.section("architecture", title, "", body + sections.absent(escape(text)))
    row = run.result.rows["derived"]
    pictures = run.space.picture(row)
    drawn = [
        f"<figure><figcaption>{escape(picture.title)}</figcaption>{svg}</figure>"
        for picture, svg in zip(pictures, architecture_svg(run.space, row), strict=True)
    ]
    names = sorted({name for picture in pictures for name, _, _ in picture.arcs})
    pair = f'<div class="pair">{"".join(drawn)}</div>'
    return sections.section("architecture", title, "", pair + sections.legend(names) + body)


def _leaders(run: SpaceRun) -> str:
    entries = run.architectures
    if not entries:
        return ""
    names = list(dict.fromkeys(name for entry in entries.values() for name in entry["metrics"]))
    ranked = sorted(entries.items(), key=lambda item: -item[1]["metrics"].get("test_accuracy", -1.0))
    rows = []
    for place, (label, entry) in enumerate(ranked, 1):
        numbers = [_shown(entry["metrics"].get(name)) for name in names]
        rows.append([str(place), escape(label), *numbers, f"<code>{escape(entry['arch'])}</code>"])
    head = ["", "", *(escape(name.replace("_", " ")) for name in names), "architecture"]
    lead = "Accuracies stand in the table." if run.config.table else "Networks were trained from scratch, all alike."
    return sections.section("leaderboard", "Leaderboard", lead, sections.leaderboard(head, rows))


def _weights(run: SpaceRun) -> str:
    title = "Architecture weights"
    history = [row["weights"] for row in run.data.epochs if isinstance(row.get("weights"), list)]
    if not history or run.space is None:
        return sections.section("alphas", title, "", sections.absent("There is nothing to draw yet."))
    names = [decision.name for decision in run.space.decisions]
    values = [[str(value) for value in decision.values] for decision in run.space.decisions]
    kept = list(run.space.choices(run.result.rows["derived"]).values()) if run.result is not None else []
    grid = decision_grid(names, values, history, [str(value) for value in kept])
    lead = "The weight of every candidate of every decision, over the epochs of the search."
    legend = sections.legend(dict.fromkeys(value for candidates in values for value in candidates))
    return sections.section("alphas", title, lead, legend + grid)


def _curves(data: RunData) -> str:
    if not data.epochs:
        return sections.section("curves", "Curves", "", sections.absent("No epoch was logged."))
    marks = sections.guard_marks(data)
    series = sections.series
    loss = [series(data.epochs, "train_loss", "train", "s1"), series(data.epochs, "valid_loss", "valid", "s2")]
    accuracy = [series(data.epochs, "train_acc", "train", "s1"), series(data.epochs, "valid_acc", "valid", "s2")]
    charts = [
        Chart("Search: loss", loss),
        Chart("Search: accuracy", accuracy, "percent"),
        Chart(
            "Entropy of the architecture weights",
            [series(data.epochs, "alpha_entropy", "entropy", "s3")],
            marks=marks,
            caption="1 where all candidates weigh the same, 0 where one has all the weight.",
        ),
        Chart(
            "Skip connections, without the guard's cap",
            [series(data.epochs, "skips", "architecture", "s1")],
            "count",
            marks=marks,
        ),
        *sections.retrain_charts(data),
    ]
    drawn = f'<div class="charts">{"".join(line_chart(chart) for chart in charts)}</div>'
    return sections.section("curves", "Curves", "", drawn + sections.guards(data))


def _shown(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return "–"
    return f"{value:.2f}" if abs(value) < 1000 else short_number(value)
