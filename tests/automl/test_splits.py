"""Folds: what they may not mix."""

import numpy as np
import pytest

from nasfast.automl.splits import make_folds, number_of_folds
from nasfast.automl.task import Task
from nasfast.errors import DataError

TWO = Task("binary", ("a", "b"))
NUMBER = Task("regression")


def test_every_row_judges_once_and_folds_have_the_classes_shares():
    y = np.array([0] * 90 + [1] * 30, float)
    folds = make_folds(y, TWO, seed=0)
    assert len(folds) == number_of_folds(120) == 8
    assert sorted(np.concatenate([f.valid for f in folds])) == list(range(120))
    for fold in folds:
        assert not set(fold.train) & set(fold.valid)
        assert len(fold.train) + len(fold.valid) == 120
        assert abs(y[fold.valid].mean() - 0.25) < 0.05


@pytest.mark.parametrize(("rows", "folds"), [(9, 2), (20, 5), (1_500, 8), (1_501, 5), (50_000, 3), (200_000, 1)])
def test_fewer_folds_for_more_rows(rows, folds):
    assert number_of_folds(rows) == folds


@pytest.mark.parametrize("task", [TWO, NUMBER])
def test_groups_are_never_on_both_sides(task):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 25, 300)
    y = (groups % 2).astype(float)
    for fold in make_folds(y, task, seed=1, groups=groups):
        assert not set(groups[fold.train]) & set(groups[fold.valid])


def test_nothing_is_judged_by_what_was_before():
    rng = np.random.default_rng(0)
    time = rng.integers(0, 50, 400).astype(float)  # many rows of one moment
    folds = make_folds(np.zeros(400), NUMBER, seed=0, time=time)
    assert len(folds) >= 3
    for fold in folds:
        assert time[fold.train].max() < time[fold.valid].min()
    assert max(fold.valid.max() for fold in folds) <= 399
    few = np.arange(400) % 3
    assert len(make_folds(np.zeros(400), NUMBER, seed=0, groups=few)) == 3
    one = make_folds(np.zeros(400), NUMBER, seed=0, folds=1, time=time)
    assert 0.1 < len(one[0].valid) / 400 < 0.2
    assert len(one) == 1
    assert time[one[0].train].max() < time[one[0].valid].min()


def test_one_part_is_held_out_of_a_large_table():
    fold, *more = make_folds(np.arange(200_000, dtype=float), NUMBER, seed=0)
    assert not more
    assert 0.1 < len(fold.valid) / 200_000 < 0.2


def test_a_class_with_fewer_rows_than_folds_is_no_error():
    y = np.array([0] * 60 + [1] * 57 + [2] * 3, float)
    with pytest.warns(UserWarning, match="least populated class"):
        folds = make_folds(y, Task("multiclass", ("a", "b", "c")), seed=0)
    assert sorted(np.concatenate([f.valid for f in folds])) == list(range(120))


def test_too_little_of_anything_is_said():
    with pytest.raises(DataError, match="3 rows with a target are too few for 2 folds"):
        make_folds(np.zeros(3), NUMBER, seed=0)
    with pytest.raises(DataError, match="--group has one value in all rows"):
        make_folds(np.zeros(100), NUMBER, seed=0, groups=np.zeros(100, int))
    with pytest.raises(DataError, match="--time has one moment only"):
        make_folds(np.zeros(100), NUMBER, seed=0, time=np.zeros(100))
