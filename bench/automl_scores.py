"""Test errors as bench.automl counts them."""

from __future__ import annotations

from typing import Any

import numpy as np


def test_error(task: str, y: Any, p: Any) -> float:
    """1 - AUC, log loss or RMSE.

    Args:
        task: "binary", "multiclass" or "regression".
        y: Numbers of the classes, or numbers [N].
        p: Probabilities [N, classes], or numbers [N].
    """
    from sklearn.metrics import roc_auc_score

    y, p = np.asarray(y), np.asarray(p, np.float64)
    if task == "regression":
        return float(np.sqrt(((y - p.reshape(len(y))) ** 2).mean()))
    if task == "binary":
        return 1 - float(roc_auc_score(y, p[:, 1]))
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-15)).mean())
