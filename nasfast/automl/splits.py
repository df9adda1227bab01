"""Which rows a member trains on and which it is judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from nasfast.automl.task import Task
from nasfast.errors import DataError

Rows = NDArray[np.int64]

_FOLDS = ((1_500, 8), (25_000, 5), (100_000, 3))
"""Folds up to a number of rows; above the last, one part is held out."""

_ROWS_OF_FOLD = 4
_HELD_OUT = 0.15


@dataclass(frozen=True)
class Fold:
    """Rows to train on and rows, apart from them, that judge."""

    train: Rows
    valid: Rows


def number_of_folds(rows: int) -> int:
    """More folds where rows are few, but four rows in each; 1 is a single held-out part."""
    wanted = next((folds for most, folds in _FOLDS if rows <= most), 1)
    return wanted if wanted == 1 else max(min(wanted, rows // _ROWS_OF_FOLD), 2)


def make_folds(
    y: NDArray[np.float64],
    task: Task,
    seed: int,
    folds: int | None = None,
    groups: NDArray[np.int64] | None = None,
    time: NDArray[np.float64] | None = None,
) -> list[Fold]:
    """Folds of equal size: by class where there are classes, never through a group, never training on what is later.

    Args:
        y: Targets [N].
        groups: A number per row [N]; rows of one group stay together.
        time: When each row was [N]; a fold is judged by rows after all that it was trained on.

    Raises:
        DataError: Fewer rows, groups or moments than folds.
    """
    rows = len(y)
    count = number_of_folds(rows) if folds is None else folds
    if rows < 2 * max(count, 2):
        raise DataError(
            f"{rows} rows with a target are too few for {max(count, 2)} folds: at least {2 * max(count, 2)}"
        )
    if time is not None:
        return _by_time(time, count)
    if groups is not None:
        found = len(np.unique(groups))
        if found < 2:
            raise DataError("--group has one value in all rows: at least two are needed to keep them apart")
        count = min(count, found)
    # One held-out part is the first fold of as many as make it that large.
    parts = count if count > 1 else round(1 / _HELD_OUT)
    if groups is not None:
        parts = min(parts, len(np.unique(groups)))
    # Classes with fewer rows than folds would make scikit-learn warn; they are spread as far as they go.
    stratified = task.kind != "regression" and np.bincount(y.astype(np.int64)).max() >= parts
    split = _splitter(parts, seed, stratified, groups is not None)
    place = np.zeros(rows)
    made = [Fold(train, valid) for train, valid in split.split(place, y if stratified else None, groups)]
    return made if count > 1 else [min(made, key=lambda fold: abs(len(fold.valid) - _HELD_OUT * rows))]


def _splitter(parts: int, seed: int, stratified: bool, grouped: bool) -> KFold:
    kind = {
        (False, False): KFold,
        (True, False): StratifiedKFold,
        (False, True): GroupKFold,
        (True, True): StratifiedGroupKFold,
    }[stratified, grouped]
    return kind(parts, shuffle=True, random_state=seed)


def _by_time(time: NDArray[np.float64], count: int) -> list[Fold]:
    order = np.argsort(time, kind="stable")
    moments = time[order]
    # Cuts between moments, so that rows of one moment stay together: the first part trains only.
    shares = [1 - _HELD_OUT] if count == 1 else [k / (count + 1) for k in range(1, count + 1)]
    cuts = [int(np.searchsorted(moments, moments[int(len(order) * share)])) for share in shares]
    ends = [*cuts[1:], len(order)]
    made = [Fold(order[:cut], order[cut:end]) for cut, end in zip(cuts, ends, strict=True) if 0 < cut < end]
    if not made:
        raise DataError("--time has one moment only; give a column whose values differ")
    return made
