"""Of classes: the confusion matrix, ROC and precision-recall curves."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

from nasfast.automl.diagnosis.numbers import short, shorts
from nasfast.automl.problem import Array

MOST_POINTS = 100
_MOST_SQUARE = 30  # classes whose whole matrix is kept
_MOST_PAIRS = 30
_MOST_CURVES = 6  # classes; of more, curves do not tell anything


def confusion(y: Array, p: Array) -> dict[str, Any]:
    """Rows by class and by what they are taken for: ``counts``, or of many classes ``pairs`` [class, taken for, rows].

    Args:
        y: Numbers of classes [N].
        p: Probabilities [N, classes].
    """
    classes = p.shape[1]
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (y.astype(np.int64), p.argmax(axis=1)), 1)
    if classes <= _MOST_SQUARE:
        return {"counts": counts.tolist()}
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:_MOST_PAIRS]
    own, taken = np.unravel_index(order, counts.shape)
    pairs = [[int(a), int(b), int(counts[a, b])] for a, b in zip(own, taken, strict=True) if counts[a, b]]
    return {"pairs": pairs}


def class_curves(y: Array, p: Array) -> list[dict[str, Any]]:
    """Of each class against the rest; of two classes for the second one alone.

    ``roc`` has points [false positive rate, true positive rate], ``precision_recall`` [recall, precision].
    """
    classes = p.shape[1]
    if classes > _MOST_CURVES:
        return []
    shown = [1] if classes == 2 else range(classes)
    return [_curves(y == c, p[:, c], c) for c in shown if 0 < np.count_nonzero(y == c) < len(y)]


def _curves(positive: Any, scores: Array, number: int) -> dict[str, Any]:
    false, true, _ = roc_curve(positive, scores, drop_intermediate=False)
    precision, recall, _ = precision_recall_curve(positive, scores)
    return {
        "class": int(number),
        "share": short(positive.mean()),
        "area": short(auc(false, true)),
        "average_precision": short(average_precision_score(positive, scores)),
        "roc": thinned(false, true),
        "precision_recall": thinned(recall[::-1], precision[::-1]),
    }


def thinned(x: Array, y: Array, most: int = MOST_POINTS) -> list[list[float | None]]:
    """At most so many of a curve's points, evenly along it; the ends stay."""
    if len(x) > most:
        along = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
        wanted = np.linspace(0.0, along[-1], most)
        kept = np.unique(np.concatenate([[0], np.searchsorted(along, wanted[1:-1]), [len(x) - 1]]))
        x, y = x[kept], y[kept]
    return [shorts(point) for point in zip(x, y, strict=True)]
