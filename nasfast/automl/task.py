"""What is to be predicted, and how predictions are judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nasfast.errors import ConfigError
from nasfast.tables import TargetSpec

Kind = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True)
class Task:
    """A target: its kind, and the classes in their order."""

    kind: Kind
    classes: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:
        """Columns of a prediction: probabilities of the classes, or one number."""
        return len(self.classes) if self.classes else 1

    @property
    def logits(self) -> int:
        """Numbers that a member gives per row: one of two classes, one of a number."""
        return len(self.classes) if self.kind == "multiclass" else 1


def task_of(target: TargetSpec) -> Task:
    """The task that a target poses.

    Raises:
        ConfigError: It has several labels.
    """
    if target.task == "multilabel":
        raise ConfigError(
            f"--target {target.name!r} has several labels in a row: fit one model per label, or say --task multiclass"
        )
    return Task(target.task, target.classes)


def probabilities(raw: NDArray[np.float64], task: Task) -> NDArray[np.float64]:
    """Probabilities [N, classes] of raw outputs [N, logits]; numbers of a regression as they are."""
    if task.kind == "regression":
        return raw
    if task.kind == "binary":
        p = 1 / (1 + np.exp(-np.clip(raw, -50, 50)))
        return np.concatenate([1 - p, p], axis=1)
    e = np.exp(raw - raw.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
