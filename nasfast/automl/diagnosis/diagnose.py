"""All that out-of-fold predictions say of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasfast.automl.diagnosis.board import board
from nasfast.automl.diagnosis.calibration import calibration
from nasfast.automl.diagnosis.curves import class_curves, confusion
from nasfast.automl.diagnosis.dependence import partial_dependence
from nasfast.automl.diagnosis.held_out import HeldOut
from nasfast.automl.diagnosis.importance import permutation_importance
from nasfast.automl.diagnosis.labels import Labels
from nasfast.automl.diagnosis.losses import row_losses
from nasfast.automl.diagnosis.residuals import residuals
from nasfast.automl.diagnosis.slices import worst_slices
from nasfast.automl.diagnosis.timer import Timer
from nasfast.automl.metrics import Metric
from nasfast.automl.model import FittedModel
from nasfast.automl.problem import Array, Problem
from nasfast.automl.search import Found
from nasfast.automl.sources import Source, sources_of

_IMPORTANCE_PART = 0.6  # of the time that the first parts leave


def diagnose(
    found: Found, problem: Problem, model: FittedModel, metric: Metric, p: Array, seconds: float | None
) -> dict[str, Any]:
    """As JSON, the parts by name; what a task does not have, or what there was no time for, is absent.

    Args:
        p: Out-of-fold predictions of the ensemble for the rows that are judged [N, outputs].
        seconds: It may take; None: as long as it takes.
    """
    timer = Timer(seconds)
    judged, task = problem.judged(), problem.task
    y = problem.y[judged]
    labels, sources = Labels(model.preparation), sources_of(model.preparation, model.schema)
    made: dict[str, Any] = {"rows": len(y)}
    if task.classes:
        made |= {"confusion": confusion(y, p), "curves": class_curves(y, p), "calibration": calibration(y, p)}
    else:
        made["residuals"] = residuals(y, p[:, 0], problem.seed)
    name, losses = row_losses(y, p, task)
    made["slices"] = {"loss": name, **worst_slices(losses, problem.prepared.take(judged), sources, labels)}
    members = [(float(w), c.model) for w, c in zip(found.weights, found.candidates, strict=True) if w > 0]

    def held_out(rows: NDArray[np.int64]) -> HeldOut:
        return HeldOut.of(problem, members, found.temperature, rows)

    if not timer.is_over():
        part = timer.part(_IMPORTANCE_PART)
        importance = permutation_importance(held_out, judged, sources, metric, problem.seed, part)
        made |= {"importance": importance} if importance is not None else {}
    if not timer.is_over():
        made["board"] = board(found.candidates, judged, y, p, metric, problem.seed, task)
    if not timer.is_over() and model.background is not None:
        order = _by_importance(sources, made.get("importance"))
        curves = partial_dependence(model.predict_prepared, model.background, problem.prepared, order, labels, timer)
        made["dependence"] = {"rows": len(model.background), "columns": curves}
    return made


def _by_importance(sources: Sequence[Source], importance: dict[str, Any] | None) -> list[Source]:
    """Columns that matter, the most important first; all of them where that was not measured."""
    if importance is None:
        return list(sources)
    by_name = {source.name: source for source in sources}
    return [by_name[column["name"]] for column in importance["columns"] if (column["mean"] or 0.0) > 0]
