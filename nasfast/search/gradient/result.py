"""What is done with the architecture that a search by gradients has found in a space: look it up, or train it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nasfast.errors import RunError, SpaceError
from nasfast.estimators.table import TableEstimator
from nasfast.runs.folder import RunFolder
from nasfast.search.gradient.loop import SearchLoop
from nasfast.spaces.base import Rows, Space
from nasfast.training.config import RetrainConfig, RetrainResult
from nasfast.training.space_trainer import retrain_row
from nasfast.utils.files import atomic_write
from nasfast.utils.numbers import metric_text
from nasfast.utils.progress import Progress
from nasfast.utils.sealed import read_sealed, sealed

FORMAT_NAME = "nasfast.derived"
_LABELS = ("derived", "derived, no cap", "random")


@dataclass(frozen=True)
class SpaceResult:
    """Architectures by label: "derived", "random" and, where the guard's cap changed it, "derived, no cap".

    Attributes:
        space: What was searched.
        rows: Their choices.
        metrics: What is known of each: parameters, FLOPs, and what the table or the retraining says.
    """

    space: Space
    rows: dict[str, tuple[int, ...]]
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """The derived architecture's text."""
        return self.space.decode(self.rows["derived"])

    def lines(self) -> list[str]:
        """The derived architecture, and what a table says of it and of the others, a line each."""
        found = [f"derived    {self.architecture}"]
        for label, metrics in self.metrics.items():
            if "score" in metrics:
                name = "test_accuracy" if "test_accuracy" in metrics else "score"
                number, text = metric_text(name, metrics[name]), self.space.decode(self.rows[label])
                found.append(f"{label:<15} in the table: {name.replace('_', ' ')} {number}, {text}")
        return found


def check_table(loop: SearchLoop) -> TableEstimator | None:
    """The table that a run's architectures are looked up in; None where they are trained.

    Raises:
        DataError: It cannot be read, or is of another space.
    """
    space, config = loop.space, loop.config
    return TableEstimator(config.table, space, config.table_data) if space is not None and config.table else None


def finish_space(
    run: RunFolder, loop: SearchLoop, derived: Rows, training: RetrainConfig, seed: int, progress: Progress
) -> tuple[SpaceResult, dict[str, RetrainResult]]:
    """Look the derived architecture up beside a random one, or train both; write architectures.json.

    Args:
        seed: Of the random architecture.
    """
    space, config, dataset = loop.space, loop.config, loop.dataset
    assert space is not None
    free = loop.strategy.architecture.derive(None)
    assert isinstance(free, np.ndarray)
    found = dict(zip(_LABELS, (derived, free, space.sample(np.random.default_rng(seed), 1)[0]), strict=True))
    if np.array_equal(derived, free):
        del found[_LABELS[1]]
    rows = {label: tuple(row.tolist()) for label, row in found.items()}
    result = SpaceResult(space, rows, {label: {} for label in rows})
    for label, row in rows.items():
        cost = space.cost(row, dataset.num_classes, dataset.channels, dataset.size[0])
        result.metrics[label] |= {"params": cost.params, "flops": cost.flops}
    results: dict[str, RetrainResult] = {}
    table = check_table(loop)
    if table is not None:
        for label, estimate in zip(rows, table.estimate(np.array(list(rows.values()))), strict=True):
            result.metrics[label] |= {"score": estimate.score, **estimate.metrics}
    elif config.retrain:
        for label in ("derived", "random"):
            results[label] = retrain_row(
                space, rows[label], loop.dataset, run, training, label, progress, settings=loop.config.space_settings()
            )
            result.metrics[label] |= {"test_accuracy": results[label].test_acc}
    atomic_write(run.architectures_path, json.dumps(sealed(_content(result)), indent=2) + "\n")
    return result, results


def _content(result: SpaceResult) -> dict[str, Any]:
    architectures = {
        label: {"arch": result.space.decode(row), "row": list(row), "metrics": result.metrics[label]}
        for label, row in result.rows.items()
    }
    return {"format": FORMAT_NAME, "version": 2, "space": result.space.name, "architectures": architectures}


def read_result(run: RunFolder, space: Space) -> SpaceResult:
    """What :func:`finish_space` wrote.

    Raises:
        RunError: The file is damaged, or holds no architectures of this space.
    """
    path = run.architectures_path
    try:
        content = read_sealed(path, f"architectures of {space.name}", RunError)
        entries = content["architectures"]
        rows = {label: tuple(space.check(entry["row"])[0].tolist()) for label, entry in entries.items()}
        metrics = {label: dict(entry["metrics"]) for label, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, SpaceError) as error:
        raise RunError(f"{path} cannot be read as architectures of {space.name}: {error}") from error
    if "derived" not in rows:
        raise RunError(f"{path} holds no derived architecture")
    return SpaceResult(space, rows, metrics)
