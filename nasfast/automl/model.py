"""A fitted model: members and their weights, from a table to predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from nasfast.automl.calibrate import sharpen
from nasfast.automl.ensemble import blend
from nasfast.automl.explain import shapley_values
from nasfast.automl.members.base import Model
from nasfast.automl.prepare import Preparation, Prepared
from nasfast.automl.problem import Array
from nasfast.automl.sources import Source, sources_of
from nasfast.automl.task import Task, task_of
from nasfast.errors import RunError
from nasfast.tables import Schema, TargetSpec, convert


@dataclass(frozen=True)
class FittedModel:
    """Everything that a prediction needs.

    Attributes:
        target: The predicted column, its classes, and how its values are read.
        members: With their weights, which sum to 1.
        temperature: Of the mean's probabilities.
        about: What people want to know of it: scores, settings, data; JSON.
        background: Rows of the training table, prepared: contributions are told against their mean prediction.
    """

    schema: Schema
    preparation: Preparation
    target: TargetSpec
    members: tuple[tuple[str, float, Model], ...]
    temperature: float = 1.0
    about: Mapping[str, Any] = field(default_factory=dict)
    background: Prepared | None = None

    @property
    def task(self) -> Task:
        """What it predicts."""
        return task_of(self.target)

    def prepare(self, table: pa.Table | pa.RecordBatch) -> Prepared:
        """The arrays of a table's rows."""
        return self.preparation.apply(convert(table, self.schema), table.num_rows)

    def predict_prepared(self, prepared: Prepared) -> Array:
        """Probabilities [N, classes], or numbers [N, 1]."""
        if not len(prepared):
            return np.empty((0, self.task.outputs))
        mean = blend(
            [model.predict(prepared) for _, _, model in self.members], np.array([w for _, w, _ in self.members])
        )
        return sharpen(mean, self.temperature) if self.task.classes else mean

    def predict(self, table: pa.Table | pa.RecordBatch) -> Array:
        """Probabilities [N, classes], or numbers [N, 1], of a table's rows in order."""
        return self.predict_prepared(self.prepare(table))

    @property
    def sources(self) -> tuple[Source, ...]:
        """The columns that it looks at."""
        return sources_of(self.preparation, self.schema)

    def explain(self, table: pa.Table | pa.RecordBatch, seed: int = 0) -> Array:
        """What each of :attr:`sources` adds to the predictions of a table's rows [N, sources, outputs].

        They sum to the prediction minus the mean prediction of the background rows.

        Raises:
            RunError: The model was written without background rows.
        """
        return self.explain_prepared(self.prepare(table), seed)

    def explain_prepared(self, prepared: Prepared, seed: int = 0) -> Array:
        """As :meth:`explain`."""
        if self.background is None:
            raise RunError("the model has no background rows to explain predictions by: fit it again")
        return shapley_values(self.predict_prepared, prepared, self.background, self.sources, seed)
