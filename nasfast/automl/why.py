"""Why a model predicts what it does, as a text for each row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nasfast.automl.model import FittedModel
from nasfast.automl.prepare import Prepared
from nasfast.automl.problem import Array

_STRONGEST = 3
_ROWS = 256  # explained at a time: the contributions of all rows of a batch are not kept


def reasons(model: FittedModel, prepared: Prepared, chosen: NDArray[np.int64]) -> list[str]:
    """Of each row its strongest columns and what each adds, such as ``age +0.12, city -0.05``.

    Args:
        chosen: The output [N] that is explained: the predicted class, or 0 of a number.
    """
    names = [source.name for source in model.sources]
    texts: list[str] = []
    for at in range(0, len(prepared), _ROWS):
        rows = np.arange(at, min(at + _ROWS, len(prepared)))
        values = model.explain_prepared(prepared.take(rows))
        own = np.take_along_axis(values, chosen[rows][:, None, None], axis=2)[:, :, 0]
        texts += [_reason(names, row) for row in own]
    return texts


def _reason(names: list[str], values: Array) -> str:
    order = np.argsort(-np.abs(values), kind="stable")[:_STRONGEST]
    return ", ".join(f"{names[i]} {signed(values[i])}" for i in order if values[i])


def signed(value: float) -> str:
    """With its sign and two digits; in full where it is large."""
    return f"{value:+.0f}" if abs(value) >= 10 else f"{value:+.2g}"
