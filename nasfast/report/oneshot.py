"""The report of a one-shot search: what a black-box search shows, the shared network's training, and retraining."""

from __future__ import annotations

from pathlib import Path

from nasfast.report import blackbox
from nasfast.report.blackbox import Search
from nasfast.report.curves import Chart, series
from nasfast.report.formats import amount, duration, fixed, percent, whole
from nasfast.report.page import Table, render_page
from nasfast.report.run_data import Row, RunData, load_run, number
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
    data = search.data
    return render_page(
        "oneshot.html",
        data,
        training=_training_charts(data.epochs),
        training_facts=_training_facts(data),
        retraining=_retraining_charts(data),
        results=_results(data),
        **blackbox.found(search),
    )


def _training_charts(epochs: list[Row]) -> list[Chart]:
    charts = [
        Chart("Loss", [series(epochs, "train_loss", "train", "s1")]),
        Chart("Accuracy", [series(epochs, "train_acc", "train, over the sampled paths", "s1")], "percent"),
        Chart("Learning rate", [series(epochs, "lr", "learning rate", "s3")]),
    ]
    if any(number(row, "reward") is not None for row in epochs):
        rewards = [series(epochs, "reward", "mean reward, an accuracy", "s2")]
        charts.append(Chart("Reward of the controller's samples", rewards, "percent"))
    return charts


def _training_facts(data: RunData) -> Table:
    """What the training took, and how the network's paths and its children were computed."""
    rows = [
        ["training time", duration(data.search_seconds or 0.0)],
        ["epochs", str(len(data.epochs))],
        ["images times paths per second", whole(data.mean("images_per_second"))],
        ["paths were computed", _way(data, "training")],
        ["children were computed", _way(data, "estimator")],
    ]
    return Table(["", ""], rows)


def _way(data: RunData, kind: str) -> str:
    rows = RunFolder(data.path).metrics.rows()
    return next((str(row["way"]) for row in rows if row.get("kind") == kind), "not yet")


def _retraining_charts(data: RunData) -> list[Chart]:
    accuracy, loss = [], []
    for label, rows in data.retrain.items():
        style = _STYLES.get(label, "s3")
        accuracy.append(series(rows, "test_acc", f"{label}, test", style))
        loss += [
            series(rows, "train_loss", f"{label}, train", style, True),
            series(rows, "test_loss", f"{label}, test", style),
        ]
    return [Chart("Test accuracy", accuracy, "percent"), Chart("Loss", loss)]


def _results(data: RunData) -> Table:
    rows = [
        [
            label,
            percent(data.result(label, "test_acc")),
            fixed(data.result(label, "test_loss"), 4),
            amount(data.result(label, "params")),
            duration(data.result(label, "seconds")),
            str(row.get("genotype", "")),
        ]
        for label, row in data.results.items()
    ]
    return Table(["", "test accuracy", "test loss", "parameters", "time", "architecture"], rows)
