"""What a report reads from a run folder, whatever of it is there yet."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasfast.runs.folder import RunFolder
from nasfast.runs.genotype import read_genotype
from nasfast.spaces.genotype import Genotype
from nasfast.training.mistakes import Mistakes, mistakes_path, read_mistakes

Row = dict[str, Any]


@dataclass
class RunData:
    """The content of one run folder; lists and dictionaries are empty where the run has not got that far."""

    name: str
    path: Path
    config: Row = field(default_factory=dict)
    epochs: list[Row] = field(default_factory=list)
    retrain: dict[str, list[Row]] = field(default_factory=dict)
    results: dict[str, Row] = field(default_factory=dict)
    guards: list[Row] = field(default_factory=list)
    genotype: Genotype | None = None
    mistakes: dict[str, Mistakes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def version(self) -> str:
        """Of the nasfast that made the run."""
        return str(self.config.get("nasfast", "")).strip()

    def column(self, key: str) -> list[float]:
        """The numbers ``key`` of the epochs that have it."""
        return [value for row in self.epochs if (value := number(row, key)) is not None]

    def mean(self, key: str) -> float | None:
        """Of a column; None where it has no number."""
        column = self.column(key)
        return sum(column) / len(column) if column else None

    @property
    def search_seconds(self) -> float | None:
        """All that the epochs took; None where none says."""
        seconds = self.column("seconds")
        return sum(seconds) if seconds else None

    def result(self, label: str, key: str) -> float | None:
        """A number of the result row of ``label``, or None."""
        return number(self.results.get(label, {}), key)


def number(row: Row, key: str) -> float | None:
    """``row[key]`` as a float; None where it is missing or no number."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)


def load_run(path: Path) -> RunData:
    """Read a run folder.

    Raises:
        NasfastError: There is no run folder at ``path``, its config.json is of another version, or a file is damaged.
    """
    run = RunFolder.open(path, lock=False)
    data = RunData(name=path.resolve().name, path=path, config=run.read_config())
    _read_metrics(run, data)
    if run.genotype_path.is_file():
        data.genotype = read_genotype(run)
    for label in data.results:
        mistakes = mistakes_path(run, label)
        if mistakes.is_file():
            data.mistakes[label] = read_mistakes(mistakes)
        else:
            data.notes.append(f"{mistakes.name} is missing: what {label} got wrong is not shown")
    return data


def _read_metrics(run: RunFolder, data: RunData) -> None:
    epochs: dict[Any, Row] = {}
    retrain: dict[str, dict[Any, Row]] = {}
    for row in run.metrics.rows():
        label = str(row.get("label", "derived"))
        match row.get("kind"):
            case "epoch":
                epochs[row.get("epoch")] = row
            case "retrain_epoch":
                retrain.setdefault(label, {})[row.get("epoch")] = row
            case "result":
                data.results[label] = row
            case "guard":
                data.guards.append(row)
    data.epochs = list(epochs.values())
    data.retrain = {label: list(by_epoch.values()) for label, by_epoch in retrain.items()}


def flatten(config: Row, prefix: str = "") -> list[tuple[str, str]]:
    """Nested configuration as dotted names and texts, in the order of the file."""
    pairs: list[tuple[str, str]] = []
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            pairs.extend(flatten(value, f"{name}."))
        else:
            pairs.append((name, value if isinstance(value, str) else json.dumps(value)))
    return pairs
