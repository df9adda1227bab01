"""The report of a model that `nasfast fit` made of a table."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasfast.automl.card import interval, limits
from nasfast.automl.folder import load_model
from nasfast.automl.model import FittedModel
from nasfast.automl.names import REPORT_FILE
from nasfast.automl.summary import FAMILY_NAMES
from nasfast.report.formats import MISSING, duration, whole
from nasfast.report.mistakes import Square
from nasfast.report.model_charts import Bar, bars, class_charts, dependence_charts, number_charts
from nasfast.report.page import Table, render
from nasfast.utils.files import atomic_write
from nasfast.utils.version import nasfast_version

About = Mapping[str, Any]
_MOST_IMPORTANT = 25
_SURE = 1.96
_WITHOUT = {"network": "without networks", "boosting": "without trees"}


@dataclass(frozen=True)
class ModelPage:
    """What the head and the foot of a page say.

    Attributes:
        name: Of the model's folder.
        version: Of the nasfast that made it.
    """

    name: str
    version: str


def build_model_report(folder: Path) -> Path:
    """Write ``report.html`` into the folder of a model and return its path.

    Raises:
        RunError: The model cannot be read, or the report not be written.
    """
    path = folder / REPORT_FILE
    atomic_write(path, render_model(load_model(folder), folder))
    return path


def render_model(model: FittedModel, folder: Path) -> str:
    """The whole page; of a fit that was interrupted what there is."""
    about = model.about
    versions = about.get("versions", {"nasfast": nasfast_version()})
    finished = _finished(model) if about else {}
    return render(
        "model.html",
        data=ModelPage(folder.resolve().name, versions["nasfast"]),
        target=model.target,
        about=about,
        columns=_columns(model),
        usage=_usage(model, folder),
        members=Table(("member", "weight"), [(name, f"{weight:.3f}") for name, weight, _ in model.members]),
        **finished,
    )


def _finished(model: FittedModel) -> dict[str, Any]:
    """What there is of a fit that is over."""
    about = model.about
    diagnosis = about.get("diagnosis", {})
    classes = model.task.classes
    charts = class_charts(diagnosis, classes) if classes else number_charts(diagnosis)
    return {
        "figures": _figures(about),
        "facts": _facts(model),
        "limits": limits(model),
        "families": _families(diagnosis.get("board"), about["metric"]),
        "verdict": _verdict(diagnosis.get("board"), about),
        "leaders": _leaders(about, diagnosis.get("board")),
        "importance": diagnosis.get("importance"),
        "importance_bars": _importance(diagnosis.get("importance")),
        "dependence": dependence_charts(diagnosis, classes, model.target.name),
        "charts": charts,
        "classes": classes,
        "matrix": _matrix(diagnosis, classes),
        "confused": _confused(diagnosis, classes),
        "per_class": _per_class(diagnosis, classes),
        "slices": diagnosis.get("slices"),
        "slice_table": _slices(diagnosis.get("slices")),
    }


def score_text(value: float, error: float | None) -> str:
    """A score with its standard error, as far as it is known."""
    digits = digits_of(value)
    return f"{value:,.{digits}f}" + (f" ± {error:,.{digits}f}" if error is not None and error == error else "")


def digits_of(score: float) -> int:
    """Decimals of a score, of its error and of differences from it."""
    return 4 if abs(score) < 10 else 2 if abs(score) < 1000 else 0


def _figures(about: About) -> list[tuple[str, str, str]]:
    score, error = about["score"], about["standard_error"]
    digits = digits_of(score)
    sure = f"± {error:,.{digits}f}, out of fold" if error == error else "out of fold"
    return [
        (score_text(score, None), about["metric"], sure),
        (f"{about['optimism']:,.{digits}f}", "of it may be luck", "of choosing among candidates"),
        (whole(about["rows"]), "rows", about["split"].split(",")[0]),
        (whole(len(about["leaderboard"])), "candidates", duration(about["seconds"])),
    ]


def _facts(model: FittedModel) -> list[tuple[str, str]]:
    about = model.about
    error = about["standard_error"]
    between = interval(about["score"], error if error == error else None)
    data, digits = about["data"], digits_of(about["score"])
    counts = zip(model.task.classes, about["class_rows"], strict=True)
    rows = [
        ("task", model.task.kind),
        ("metric", about["metric"]),
        ("95 % interval", f"{between[0]:,.{digits}f} to {between[1]:,.{digits}f}" if between else MISSING),
        ("judged by", about["split"]),
        ("rows in the table", whole(data["rows"])),
        ("rows with a target", whole(about["rows"])),
        *((f"rows of {name}", whole(count)) for name, count in list(counts)[:12]),
        *((f"column of {role}", name) for role, name in about["roles"].items()),
        ("files", ", ".join(data["files"][:5]) or MISSING),
        ("checksum of the data", data["blake2b"]),
        ("seed", str(about["seed"])),
        ("made on", about["date"]),
    ]
    return rows + [(name, version) for name, version in about["versions"].items()]


def _families(board: About | None, metric: str) -> Table | None:
    if board is None:
        return None
    rows = [("all together", score_text(board["together"], None), MISSING, MISSING)]
    named = [(FAMILY_NAMES[name], found) for name, found in board["families"].items()]
    named += [(_WITHOUT[name], found) for name, found in board["without"].items()]
    for name, found in sorted(named, key=lambda item: item[1]["behind"]):
        behind = _difference(found, board["together"])
        rows.append((name, score_text(found["score"], found["error"]), behind, str(found["candidates"])))
    return Table(("", metric, "behind all together", "candidates"), rows)


def _difference(found: About, score: float) -> str:
    """How far an ensemble is behind the whole one."""
    digits = digits_of(score)
    return f"{found['behind']:,.{digits}f} ± {found['behind_error'] or 0.0:,.{digits}f}".replace("-", "−")


def _verdict(board: About | None, about: About) -> str:
    """Whether networks help, in a sentence."""
    if "network" not in {row["family"] for row in about["leaderboard"]}:
        return "No network was trained."
    share = sum(row["weight"] for row in about["leaderboard"] if row["family"] == "network")
    if share == 0:
        return "Networks do not help on this table: the model takes none of them."
    weight = f"Networks have {100 * share:.0f} % of the weight"
    without = board["without"].get("network") if board is not None else None
    if without is None or without["behind_error"] is None:
        return f"{weight}."
    gain = _difference(without, about["score"])
    # What was chosen to be best looks better than what was not, by luck alone.
    if without["behind"] - about["optimism"] > _SURE * without["behind_error"]:
        return f"{weight}; without them the model is {gain} worse, which is more than chance."
    return f"{weight}; without them the model is {gain} worse, which may be chance."


def _leaders(about: About, board: About | None) -> Table:
    errors = board["errors"] if board is not None else {}
    rows = [
        (
            row["name"],
            score_text(row["score"], errors.get(row["name"])),
            f"{row['weight']:.2f}" if row["weight"] else MISSING,
            f"{row['seconds']:.1f}",
            _settings(row["settings"]),
        )
        for row in about["leaderboard"]
    ]
    return Table(("candidate", about["metric"], "weight", "seconds", "settings"), rows)


def _settings(settings: About) -> str:
    shown = {name: value for name, value in settings.items() if isinstance(value, str | int | float | bool)}
    return " ".join(f"{name}={value}" for name, value in shown.items())


def _importance(found: About | None) -> list[Bar]:
    if found is None:
        return []
    return bars([(c["name"], c["mean"], c["low"], c["high"]) for c in found["columns"][:_MOST_IMPORTANT]])


def _matrix(diagnosis: About, classes: Sequence[str]) -> list[list[Square]]:
    counts = diagnosis.get("confusion", {}).get("counts", [])
    return [
        [
            Square(n, n / max(sum(line), 1), f"{n} of {sum(line)} rows of {classes[own]} taken for {classes[seen]}")
            for seen, n in enumerate(line)
        ]
        for own, line in enumerate(counts)
    ]


def _confused(diagnosis: About, classes: Sequence[str]) -> Table | None:
    pairs = diagnosis.get("confusion", {}).get("pairs")
    if pairs is None:
        return None
    return Table(("class", "taken for", "rows"), [(classes[a], classes[b], str(n)) for a, b, n in pairs])


def _per_class(diagnosis: About, classes: Sequence[str]) -> Table | None:
    """Precision and recall of each class."""
    counts = diagnosis.get("confusion", {}).get("counts")
    if counts is None:
        return None
    rows = []
    for own, name in enumerate(classes):
        right, rows_of, taken = counts[own][own], sum(counts[own]), sum(line[own] for line in counts)
        rows.append((name, str(rows_of), _share(right, taken), _share(right, rows_of)))
    return Table(("class", "rows", "precision", "recall"), rows)


def _share(part: int, of: int) -> str:
    return f"{100 * part / of:.1f} %" if of else MISSING


def _slices(found: About | None) -> Table | None:
    if found is None or not found["found"]:
        return None
    rows = [
        (s["column"], s["slice"], whole(s["rows"]), f"{s['loss']:.4g} ± {s['error']:.2g}", f"{s['rest']:.4g}")
        for s in found["found"]
    ]
    return Table(("column", "value", "rows", found["loss"], "of all other rows"), rows)


def _columns(model: FittedModel) -> Table:
    return Table(("column", "kind", "why"), [(c.name, c.kind, c.reason) for c in model.schema.columns])


def _usage(model: FittedModel, folder: Path) -> dict[str, str]:
    """How to predict: on the command line and in Python."""
    place = str(folder)
    shell = shlex.join(["nasfast", "predict", place, "TABLE.csv", "--out", "predictions.csv"])
    code = (
        "from nasfast.automl.folder import load_model\n"
        "from nasfast.tables import read_table\n\n"
        f"model = load_model({place!r})\n"
        "table = read_table('TABLE.csv').data\n"
        f"model.predict(table)  # {'probabilities [rows, classes]' if model.task.classes else 'numbers [rows, 1]'}\n"
        "model.explain(table)  # what each column adds [rows, columns, outputs]"
    )
    return {"shell": shell + "\n" + shell + " --explain", "python": code}
