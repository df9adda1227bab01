"""The model card: what the model is, what it was made of, how good it is and where it ends; for people and programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasfast.automl.model import FittedModel
from nasfast.automl.names import CARD_FILES
from nasfast.automl.summary import FAMILY_NAMES
from nasfast.utils.files import atomic_write

FORMAT = 1
_SURE = 1.96
_FEW = 50  # rows of a class, below which what is said of it is little


def write_card(model: FittedModel, folder: Path) -> None:
    """Write ``card.md`` and ``card.json`` into the folder of a model.

    Raises:
        RunError: They cannot be written.
    """
    card = model_card(model)
    text, data = CARD_FILES
    atomic_write(folder / text, card_text(card))
    atomic_write(folder / data, json.dumps(card, indent=1, allow_nan=False) + "\n")


def model_card(model: FittedModel) -> dict[str, Any]:
    """As JSON, of a model whose fit is over."""
    about = model.about
    error = _finite(about["standard_error"])
    return {
        "format": FORMAT,
        "task": {"kind": model.task.kind, "target": model.target.name, "reason": about["task_reason"]},
        "classes": [{"name": n, "rows": r} for n, r in zip(model.task.classes, about["class_rows"], strict=True)],
        "metric": {
            "name": about["metric"],
            "score": _finite(about["score"]),
            "standard_error": error,
            "interval": interval(about["score"], error),
            "optimism": _finite(about["optimism"]),
            "judged": about["split"],
        },
        "families": about.get("diagnosis", {}).get("board", {}).get("families", {}),
        "members": [{"name": name, "weight": weight} for name, weight, _ in model.members],
        "data": about["data"] | {"used": about["rows"], "roles": about["roles"]},
        "columns": [{"name": c.name, "kind": c.kind, "reason": c.reason} for c in model.schema.columns],
        "limits": limits(model),
        "seed": about["seed"],
        "seconds": about["seconds"],
        "versions": about["versions"],
        "date": about["date"],
    }


def interval(score: float, error: float | None) -> list[float] | None:
    """Of 95 %."""
    return None if error is None else [score - _SURE * error, score + _SURE * error]


def limits(model: FittedModel) -> list[str]:
    """What a user of the model has to know, a sentence each."""
    about = model.about
    found = [
        "The score is an estimate on rows of the same table: rows that come from elsewhere, or later, may fare worse."
    ]
    if "group" not in about["roles"]:
        found.append(
            "Rows were taken as independent: where several are of one person, machine or place, the score is too good."
        )
    counts = list(zip(model.task.classes, about["class_rows"], strict=True))
    few = [f"{name!r} ({rows})" for name, rows in counts if rows < _FEW]
    if few:
        found.append(f"Classes with few rows, of which little is known: {', '.join(few[:8])}.")
    slices = about.get("diagnosis", {}).get("slices", {}).get("found", [])
    if slices:
        worst = ", ".join(f"{s['column']!r} = {s['slice']}" for s in slices[:5])
        found.append(f"It is clearly worse than elsewhere where {worst}.")
    if any(c.kind == "category" for c in model.schema.used):
        found.append("A level of a category that was not in the table is taken for a rare one.")
    if model.background is not None:
        found.append(f"The folder holds {len(model.background)} rows of the table, as numbers, to explain predictions.")
    return found


def card_text(card: Mapping[str, Any]) -> str:
    """As Markdown."""
    task, metric, data = card["task"], card["metric"], card["data"]
    between = metric["interval"]
    sure = f" (95 %: {between[0]:.4g} to {between[1]:.4g})" if between else ""
    score = f"{metric['score']:.4g}" if metric["score"] is not None else "unknown"
    luck = f"; {metric['optimism']:.2g} of it may be luck of choosing" if metric["optimism"] is not None else ""
    files = f" ({_listed(data['files'])})" if data["files"] else ""
    blocks = [
        f"# Model of {_plain(task['target'])}",
        f"A {task['kind']} model, made by `nasfast fit` {card['versions']['nasfast']} on {card['date']}.",
        "## Task",
        f"Predicts `{_code(task['target'])}`: {_plain(task['reason'])}.",
        _classes(card["classes"]),
        "## Score",
        f"{metric['name']} **{score}**{sure}, on rows that were not trained on ({_plain(metric['judged'])}){luck}.",
        _families(card["families"], metric["name"]),
        "## Data",
        f"{data['rows']} rows{files}, {data['used']} of them with a target; {data['columns']} columns. "
        f"Checksum (blake2b): `{data['blake2b']}`.",
        _table(["column", "kind", "why"], [[c["name"], c["kind"], c["reason"]] for c in card["columns"]]),
        "## Made of",
        _table(["member", "weight"], [[m["name"], f"{m['weight']:.3f}"] for m in card["members"]]),
        "## Limits",
        "\n".join(f"- {_plain(limit)}" for limit in card["limits"]),
        "## Made with",
        f"Seed {card['seed']}, {card['seconds']:.0f} s; "
        + ", ".join(f"{name} {version}" for name, version in card["versions"].items())
        + ".",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _classes(classes: list[dict[str, Any]]) -> str:
    return _table(["class", "rows"], [[c["name"], str(c["rows"])] for c in classes]) if classes else ""


def _families(families: Mapping[str, Any], metric: str) -> str:
    rows = [
        [FAMILY_NAMES[family], _number(found["score"]), _number(found["error"]), str(found["candidates"])]
        for family, found in families.items()
    ]
    return _table(["", metric, "standard error", "candidates"], rows) if rows else ""


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _listed(names: list[str]) -> str:
    return ", ".join(map(_plain, names[:5])) + (" ..." if len(names) > 5 else "")


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    line = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#&" else c for c in line)


def _code(text: str) -> str:
    """Text between backquotes."""
    return " ".join(text.split()).replace("`", "'")


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
