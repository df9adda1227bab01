"""The report of a one-shot search: what a black-box search shows, the shared network's training, and retraining."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from nasfast.report import blackbox, sections
from nasfast.report.blackbox import Search
from nasfast.report.curves import Chart, Series, line_chart
from nasfast.report.page import frame
from nasfast.report.run_data import Row, load_run, number
from nasfast.report.scatter import short_number
from nasfast.report.trials import trials
from nasfast.runs.folder import RunFolder

_STYLES = {"best": "s1", "random": "s2"}


def load_search(path: Path, config: Row) -> Search:
    """Read a run's training, trials and retraining.

    Raises:
        RunError: The log cannot be read.
    """
    from nasfast.config.oneshot import OneShotConfig

    stored = OneShotConfig.of(config["oneshot"])
    data = load_run(path)
    trials = blackbox.read_trials(path)
    return Search(data, config["oneshot"], list(stored.objectives()), stored.make_space, trials)


def render(search: Search) -> str:
    """The whole page."""
    settings = search.settings
    subtitle = (
        f"space {settings['space']}, strategy {settings['strategy']}, data {Path(settings['data']).name}, "
        f"seed {settings['seed']}"
    )
    parts = (
        blackbox.architecture(search),
        blackbox.front(search),
        blackbox.leaders(search),
        _training(search),
        blackbox.progress(search),
        trials(RunFolder(search.data.path).trials_path),
        _retraining(search),
        sections.setting(search.data),
    )
    return frame(
        search.data.name, str(search.data.config.get("nasfast", "")), subtitle, _headline(search), "".join(parts)
    )


def _headline(search: Search) -> str:
    data, figures = search.data, []
    best = data.result("best", "test_acc")
    if best is not None:
        figures.append(sections.figure(sections.percent(best), "test accuracy, best architecture", "retrained", "main"))
        random = data.result("random", "test_acc")
        if random is not None:
            figures.append(sections.figure(sections.percent(random), "test accuracy, random architecture", "retrained"))
    if search.kept:
        metrics = search.kept[0]["metrics"]
        note = "held-out accuracy with shared weights"
        figures.append(
            sections.figure(f"{metrics['score']:.2f}", "score, best architecture", note, "" if figures else "main")
        )
        figures += [
            sections.figure(short_number(metrics[name]), name) for name in ("params", "flops") if name in metrics
        ]
    if search.trials:
        figures.append(sections.figure(f"{len(search.trials)}", "evaluations", search.limit))
    if not figures:
        count = len(data.epochs)
        figures.append(
            sections.absent(f"The shared network has been trained for {count} epochs; nothing was found yet.")
        )
    return f'<div class="figures">{"".join(figures)}</div>'


def _line(rows: list[Row], key: str, name: str, style: str, dashed: bool = False) -> Series:
    points = [(x, number(row, key)) for row in rows if (x := number(row, "epoch")) is not None]
    return Series(name, points, style, dashed)


def _training(search: Search) -> str:
    """Curves of the shared network, and how its children were computed."""
    title, epochs = "Training of the shared network", search.data.epochs
    if not epochs:
        return sections.section("training", title, "", sections.absent("No epoch was logged."))
    accuracy = [_line(epochs, "train_acc", "train, over the sampled paths", "s1")]
    charts = [
        Chart("Loss", [_line(epochs, "train_loss", "train", "s1")]),
        Chart("Accuracy", accuracy, "percent"),
        Chart("Learning rate", [_line(epochs, "lr", "learning rate", "s3")]),
    ]
    if any(number(row, "reward") is not None for row in epochs):
        charts.append(Chart("Reward of the controller's samples", [_line(epochs, "reward", "mean reward, %", "s2")]))
    seconds = sum(number(row, "seconds") or 0.0 for row in epochs)
    speed = [value for row in epochs if (value := number(row, "images_per_second")) is not None]
    facts = [
        ["training time", sections.duration(seconds)],
        ["epochs", str(len(epochs))],
        ["images times paths per second", f"{sum(speed) / len(speed):,.0f}" if speed else "–"],
        ["paths were computed", escape(_way(search, "training"))],
        ["children were computed", escape(_way(search, "estimator"))],
    ]
    drawn = f'<div class="charts">{"".join(line_chart(chart) for chart in charts)}</div>'
    return sections.section("training", title, "", drawn + sections.table(["", ""], facts))


def _way(search: Search, kind: str) -> str:
    rows: list[dict[str, Any]] = list(RunFolder(search.data.path).metrics.rows())
    return next((str(row["way"]) for row in rows if row.get("kind") == kind), "not yet")


def _retraining(search: Search) -> str:
    title, data = "Trained from scratch", search.data
    if not data.retrain:
        text = "No architecture has been retrained; <code>--retrain</code> trains the best one beside a random one."
        return sections.section("retraining", title, "", sections.absent(text))
    accuracy, loss = [], []
    for label, rows in data.retrain.items():
        style = _STYLES.get(label, "s3")
        accuracy.append(_line(rows, "test_acc", f"{label}, test", style))
        loss += [
            _line(rows, "train_loss", f"{label}, train", style, True),
            _line(rows, "test_loss", f"{label}, test", style),
        ]
    charts = [Chart("Test accuracy", accuracy, "percent"), Chart("Loss", loss)]
    body = f'<div class="charts">{"".join(line_chart(chart) for chart in charts)}</div>'
    if data.results:
        head = ["", "test accuracy", "test loss", "parameters", "time", "architecture"]
        body += sections.table(head, [_result_row(search, label) for label in data.results])
    return sections.section("retraining", title, "", body)


def _result_row(search: Search, label: str) -> list[str]:
    data = search.data
    loss = data.result(label, "test_loss")
    return [
        escape(label),
        sections.percent(data.result(label, "test_acc")),
        "–" if loss is None else f"{loss:.4f}",
        sections.count(data.result(label, "params")),
        sections.duration(data.result(label, "seconds")),
        f"<code>{escape(str(data.results[label].get('genotype', '')))}</code>",
    ]
