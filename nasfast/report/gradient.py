"""The report of a search by gradients: of cells, or of an architecture of a space."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from markupsafe import Markup

from nasfast.config.gradient import SearchConfig
from nasfast.errors import NasfastError, RunError
from nasfast.report.alphas import Grid, alpha_grid, decision_grid, history, primitives_of
from nasfast.report.architectures import Drawing, drawing
from nasfast.report.cells import cell_svg
from nasfast.report.curves import Chart, Series, series
from nasfast.report.formats import MISSING, amount, duration, fixed, memory, metric, percent, whole
from nasfast.report.page import Table, render_page
from nasfast.report.run_data import Row, RunData, flatten, load_run, number
from nasfast.runs.folder import RunFolder
from nasfast.search.gradient.result import SpaceResult, read_result
from nasfast.spaces.base import Space
from nasfast.spaces.genotype import Genotype
from nasfast.utils.sealed import read_sealed

_STYLES = {"derived": "s1", "random": "s2"}


class SpaceRun:
    """What the run folder of a search in a space holds; what it does not have yet is None."""

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
    found = read_sealed(path, "architectures", RunError).get("architectures", {})
    if not isinstance(found, dict):
        raise RunError(f"{path} holds no architectures by name")
    return found


def render_cells(data: RunData) -> str:
    """The whole page of a search for cells."""
    grids = [grid for cell in ("normal", "reduce") if (grid := alpha_grid(data, cell))]
    matrices = history(data, "normal") or history(data, "reduce")
    skips = [series(data.epochs, "skip_normal", "normal", "s1"), series(data.epochs, "skip_reduce", "reduction", "s2")]
    return render_page(
        "cells.html",
        data,
        subtitle=_subtitle(data),
        retrain_command=shlex.join(["nasfast", "retrain", str(data.path)]),
        cells=_cells(data.genotype) if data.genotype else None,
        results=_results(data),
        cost=_cost(data),
        guards=_guards(data),
        genotypes=_genotypes(data),
        grids=grids,
        candidates=primitives_of(data, len(matrices[-1][0])) if grids else [],
        charts=_charts(data, "Skip connections in the derived cells", skips),
    )


def _subtitle(data: RunData) -> str:
    facts = dict(flatten(data.config))
    found = []
    for title, names in (("data", ("data", "dataset")), ("strategy", ("strategy", "method")), ("seed", ("seed",))):
        value = next((v for k, v in facts.items() if k.rsplit(".", 1)[-1] in names), None)
        if value is not None:
            found.append(f"{title} {value}")
    return ", ".join(found)


def _cells(genotype: Genotype) -> Drawing:
    cells = (
        ("Normal cell", genotype.normal, genotype.normal_concat),
        ("Reduction cell", genotype.reduce, genotype.reduce_concat),
    )
    pictures = [(title, Markup(cell_svg(pairs, concat, title))) for title, pairs, concat in cells]
    return Drawing(str(genotype), pictures, sorted({name for _, pairs, _ in cells for name, _ in pairs}))


def _results(data: RunData) -> Table:
    """The derived network beside a random one retrained the same way."""
    labels = sorted(data.results, key=lambda label: (label != "derived", label))
    found = [data.results[label] for label in labels]
    accuracies = [number(row, "test_acc") for row in found]
    rows = [
        ["test accuracy", *map(percent, accuracies)],
        ["test error", *(percent(None if accuracy is None else 1 - accuracy) for accuracy in accuracies)],
        ["test loss", *(fixed(number(row, "test_loss"), 4) for row in found)],
        ["parameters", *(amount(number(row, "params")) for row in found)],
        ["retraining time", *(duration(number(row, "seconds")) for row in found)],
    ]
    return Table(["", *labels], rows)


def _genotypes(data: RunData) -> dict[str, str]:
    """By label, in the form published ones are printed in."""
    texts = {"derived": str(data.genotype)} if data.genotype is not None else {}
    return texts | {label: text for label, row in data.results.items() if (text := str(row.get("genotype", "")))}


def _cost(data: RunData) -> Table:
    """What the run took; no rows where nothing was measured yet."""
    if not data.epochs and not data.results:
        return Table(["", ""], [])
    rows = [
        ["search time", duration(data.search_seconds)],
        ["search epochs", str(len(data.epochs))],
        ["images per second, search", whole(data.mean("images_per_second"))],
        ["peak memory, search", memory(max(data.column("peak_memory_bytes"), default=None))],
    ]
    rows += [[f"retraining time, {label}", duration(number(row, "seconds"))] for label, row in data.results.items()]
    return Table(["", ""], rows)


def _charts(data: RunData, skips_title: str, skips: list[Series]) -> list[Chart]:
    """Losses, accuracies, entropy and skip connections over the search, and what was retrained."""
    rows = data.epochs
    marks = [
        (at, f"{guard.get('reason', '')}: {guard.get('action', '')}")
        for guard in data.guards
        if (at := number(guard, "epoch")) is not None
    ]
    loss = [series(rows, "train_loss", "train", "s1"), series(rows, "valid_loss", "valid", "s2")]
    accuracy = [series(rows, "train_acc", "train", "s1"), series(rows, "valid_acc", "valid", "s2")]
    caption = "1 where all candidates weigh the same, 0 where one has all the weight."
    entropy = [series(rows, "alpha_entropy", "entropy", "s3")]
    search = [
        Chart("Search: loss", loss),
        Chart("Search: accuracy", accuracy, "percent"),
        Chart("Entropy of the architecture weights", entropy, marks=marks, caption=caption),
        Chart(skips_title, skips, "count", marks=marks),
    ]
    return (search if rows else []) + _retrain_charts(data)


def _guards(data: RunData) -> Table:
    """What the collapse guard saw and did."""
    head = ["epoch", "reason", "action"]
    return Table(head, [[str(guard.get(key, MISSING)) for key in head] for guard in data.guards])


def _retrain_charts(data: RunData) -> list[Chart]:
    if not data.retrain:
        return []
    losses = _retrain_series(data, "train_loss", "train", True) + _retrain_series(data, "test_loss", "test")
    accuracies = _retrain_series(data, "test_acc", "test")
    return [Chart("Retraining: loss", losses), Chart("Retraining: test accuracy", accuracies, "percent")]


def _retrain_series(data: RunData, key: str, name: str, dashed: bool = False) -> list[Series]:
    spare = iter(("s3", "s4") * len(data.retrain))
    styles = {label: _STYLES.get(label) or next(spare) for label in data.retrain}
    return [series(rows, key, f"{label}, {name}", styles[label], dashed) for label, rows in data.retrain.items()]


def render_space(run: SpaceRun) -> str:
    """The whole page of a search in a space."""
    skips = [series(run.data.epochs, "skips", "architecture", "s1")]
    return render_page(
        "space.html",
        run.data,
        config=run.config,
        folder=Path(run.config.data).name,
        found={label: entry["metrics"] for label, entry in run.architectures.items()},
        architecture=_architecture(run),
        leaders=_leaders(run.architectures),
        candidates=[str(value) for decision in run.space.decisions for value in decision.values] if run.space else [],
        grid=_weights(run),
        charts=_charts(run.data, "Skip connections, without the guard's cap", skips),
        cost=_cost(run.data),
        guards=_guards(run.data),
    )


def _architecture(run: SpaceRun) -> Drawing:
    if "derived" not in run.architectures:
        return Drawing()
    text = run.architectures["derived"]["arch"]
    if run.space is None or run.result is None:
        return Drawing(text, problem=f"{run.config.space} is a space of your own, which a report cannot make.")
    return drawing(run.space, run.result.rows["derived"], text)


def _leaders(entries: dict[str, Any]) -> Table:
    names = list(dict.fromkeys(name for entry in entries.values() for name in entry["metrics"]))
    ranked = sorted(entries.items(), key=lambda item: -item[1]["metrics"].get("test_accuracy", -1.0))
    rows = [
        [str(place), label, *(metric(entry["metrics"].get(name), name) for name in names), entry["arch"]]
        for place, (label, entry) in enumerate(ranked, 1)
    ]
    return Table(["", "", *(name.replace("_", " ") for name in names), "architecture"], rows)


def _weights(run: SpaceRun) -> Grid | None:
    weights = [row["weights"] for row in run.data.epochs if isinstance(row.get("weights"), list)]
    if not weights or run.space is None:
        return None
    values = [[str(value) for value in decision.values] for decision in run.space.decisions]
    kept = list(run.space.choices(run.result.rows["derived"]).values()) if run.result is not None else []
    names = [decision.name for decision in run.space.decisions]
    return decision_grid(names, values, weights, [str(value) for value in kept])
