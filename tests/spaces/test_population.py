"""Population arithmetic: against plain loops, on NumPy and, where it is installed, on CuPy."""

import itertools

import numpy as np
import pytest

from nasfast.spaces.population import (
    crossover,
    crowding_distance,
    hash_rows,
    mutate_each,
    mutate_one,
    non_dominated,
    non_dominated_ranks,
    one_hot,
    unique_rows,
)
from tests.helpers.require import require

SIZES = np.array([3, 1, 5, 2])


@pytest.fixture(params=["numpy", "cupy"])
def xp(request):
    return np if request.param == "numpy" else require(request.param)


def on_host(array):
    return array.get() if hasattr(array, "get") else array


def rows_of(xp, count, sizes=SIZES, seed=0):
    return xp.asarray(np.random.default_rng(seed).integers(0, sizes, (count, len(sizes))))


def test_hash_is_the_number_of_the_row_where_that_fits(xp):
    rows = xp.asarray(list(itertools.product(*(range(size) for size in SIZES.tolist()))))
    assert on_host(hash_rows(rows, xp.asarray(SIZES))).tolist() == list(range(30))


def test_hash_tells_rows_of_large_spaces_apart(xp):
    sizes = np.full(80, 7)
    rows = on_host(rows_of(xp, 2000, sizes)).copy()
    rows[1] = rows[0]
    rows[1, -1] = (rows[1, -1] + 1) % 7
    rows[2, :2] = rows[0, 1::-1]
    codes = on_host(hash_rows(xp.asarray(rows), xp.asarray(sizes)))
    assert len(set(codes.tolist())) == len({tuple(row) for row in rows.tolist()})


def test_unique_rows_keeps_the_first_of_each(xp):
    rows = rows_of(xp, 200)
    seen, expected = set(), []
    for place, row in enumerate(on_host(rows).tolist()):
        if tuple(row) not in seen:
            seen.add(tuple(row))
            expected.append(place)
    assert on_host(unique_rows(rows, xp.asarray(SIZES))).tolist() == expected


def test_one_hot_marks_every_choice(xp):
    rows = rows_of(xp, 20)
    encoded = on_host(one_hot(rows, xp.asarray(SIZES)))
    assert encoded.shape == (20, 11)
    parts = np.split(encoded, np.cumsum(SIZES)[:-1], axis=1)
    for at, part in enumerate(parts):
        assert (part.sum(1) == 1).all()
        assert (part.argmax(1) == on_host(rows)[:, at]).all()


def test_mutate_one_changes_one_open_decision_evenly(xp):
    rows = xp.zeros((20_000, 4), int)
    draws = xp.asarray(np.random.default_rng(0).random((20_000, 2)))
    children = on_host(mutate_one(rows, xp.asarray(SIZES), draws))
    changed = children != 0
    assert (changed.sum(1) == 1).all()
    assert not changed[:, 1].any()
    assert np.abs(changed.mean(0)[[0, 2, 3]] - 1 / 3).max() < 0.02
    values = np.bincount(children[changed[:, 2], 2], minlength=5)
    assert values[0] == 0
    assert np.abs(values[1:] / values.sum() - 1 / 4).max() < 0.02
    assert (children < SIZES).all()


def test_mutate_each_changes_decisions_at_its_rate(xp):
    rows = rows_of(xp, 20_000)
    draws = xp.asarray(np.random.default_rng(0).random((20_000, 4, 2)))
    children = on_host(mutate_each(rows, xp.asarray(SIZES), draws, 0.3))
    changed = (children != on_host(rows)).mean(0)
    assert changed[1] == 0
    assert np.abs(changed[[0, 2, 3]] - 0.3).max() < 0.02
    assert ((children >= 0) & (children < SIZES)).all()


def test_crossover_takes_either_parent(xp):
    ones, others = xp.zeros((1000, 4), int), xp.ones((1000, 4), int)
    mixed = on_host(crossover(ones, others, xp.asarray(np.random.default_rng(0).random((1000, 4)))))
    assert abs(mixed.mean() - 0.5) < 0.03


def _dominates(a, b, va, vb):
    if va > 0 or vb > 0:
        return va < vb
    return all(x >= y for x, y in zip(a, b, strict=True)) and any(x > y for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("constrained", [False, True])
def test_ranks_are_those_of_plain_peeling(xp, constrained):
    draw = np.random.default_rng(1)
    values = draw.integers(0, 6, (60, 3)).astype(float)
    violations = np.where(draw.random(60) < 0.4, draw.integers(1, 4, 60), 0).astype(float) * constrained
    left, rank, expected = set(range(60)), 0, [0] * 60
    while left:
        front = {
            i for i in left if not any(_dominates(values[j], values[i], violations[j], violations[i]) for j in left)
        }
        for i in front:
            expected[i] = rank
        left -= front
        rank += 1
    found = non_dominated_ranks(xp.asarray(values), xp.asarray(violations) if constrained else None)
    assert on_host(found).tolist() == expected
    if not constrained:
        masks = [on_host(non_dominated(xp.asarray(values), chunk)).tolist() for chunk in (7, 512)]
        assert masks[0] == masks[1] == [r == 0 for r in expected]


def test_crowding_distance_by_hand(xp):
    values = xp.asarray([[0.0, 4.0], [1.0, 3.0], [4.0, 0.0], [3.0, 1.0], [9.0, 9.0]])
    ranks = xp.asarray([1, 1, 1, 1, 0])
    found = on_host(crowding_distance(values, ranks)).tolist()
    assert found == [np.inf, (3 + 3) / 4, np.inf, (3 + 3) / 4, np.inf]


def test_crowding_of_equal_values_is_no_nan(xp):
    found = on_host(crowding_distance(xp.ones((5, 2)), xp.zeros(5, int)))
    assert sorted(found.tolist()) == [0, 0, 0, np.inf, np.inf]


def test_empty_population(xp):
    empty = xp.zeros((0, 4), int)
    sizes = xp.asarray(SIZES)
    assert hash_rows(empty, sizes).shape == (0,)
    assert unique_rows(empty, sizes).shape == (0,)
    assert mutate_one(empty, sizes, xp.zeros((0, 2))).shape == (0, 4)
    assert non_dominated_ranks(xp.zeros((0, 2))).shape == (0,)
    assert non_dominated(xp.zeros((0, 2))).shape == (0,)
    assert crowding_distance(xp.zeros((0, 2)), xp.zeros(0, int)).shape == (0,)
