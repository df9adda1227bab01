"""Domination, ranks, and how a search stands, against their definitions written out pair by pair."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nasfast.config.objectives import FIDELITY, Objective
from nasfast.search.history import History, Trial
from nasfast.spaces.population import dominates, non_dominated, non_dominated_ranks, unique_rows

# Few values, so that many are equal; the largest and smallest numbers beside them.
numbers = st.one_of(st.integers(-2, 2).map(float), st.sampled_from([1e300, -1e300, 5e-324]))


@st.composite
def populations(draw: st.DrawFn) -> tuple[list[tuple[float, ...]], list[float]]:
    width = draw(st.integers(1, 3))
    values = draw(st.lists(st.tuples(*[numbers] * width), min_size=1, max_size=14))
    limits = st.lists(st.sampled_from([0.0, 0.0, 0.5, 2.0]), min_size=len(values), max_size=len(values))
    return values, draw(limits)


def beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True)) and one != other


def better(one: tuple[tuple[float, ...], float], other: tuple[tuple[float, ...], float]) -> bool:
    """With violations: whoever keeps the limits, or breaks them less; among those that keep them, the values."""
    if one[1] > 0 or other[1] > 0:
        return one[1] < other[1]
    return beats(one[0], other[0])


@given(populations(), st.integers(1, 6))
def test_the_front_is_what_nothing_beats(case: tuple[list[tuple[float, ...]], list[float]], chunk: int) -> None:
    values, _ = case
    expected = [not any(beats(other, one) for other in values) for one in values]
    assert non_dominated(np.array(values), chunk).tolist() == expected


@given(populations())
def test_ranks_are_the_fronts_of_what_is_left(case: tuple[list[tuple[float, ...]], list[float]]) -> None:
    values, violations = case
    both = list(zip(values, violations, strict=True))
    wins = dominates(np.array(values), np.array(violations))
    assert wins.tolist() == [[better(one, other) for other in both] for one in both]
    ranks = non_dominated_ranks(np.array(values), np.array(violations)).tolist()
    left, rank = set(range(len(both))), 0
    while left:
        front = {i for i in left if not any(better(both[j], both[i]) for j in left)}
        assert {i for i, found in enumerate(ranks) if found == rank} == front
        left, rank = left - front, rank + 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=20))
def test_different_rows_are_the_first_of_each(rows: list[tuple[int, ...]]) -> None:
    expected = [i for i, row in enumerate(rows) if row not in rows[:i]]
    assert unique_rows(np.array(rows, np.int64), np.array([3, 2, 4])).tolist() == expected


@st.composite
def searches(draw: st.DrawFn) -> list[Trial]:
    trials = []
    for number in range(draw(st.integers(1, 20))):
        metrics = {"score": draw(numbers), "params": draw(numbers)}
        metrics[FIDELITY] = float(draw(st.sampled_from([1, 3])))
        row = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
        trials.append(Trial(number, row, metrics, draw(st.sampled_from([0.0, 0.0, 1.0]))))
    return trials


@given(searches(), st.sampled_from([("score",), ("score", "-params"), ("-params", "score")]))
def test_a_search_stands_as_all_its_trials_say(trials: list[Trial], texts: tuple[str, ...]) -> None:
    objectives = [Objective.parse(text) for text in texts]

    def values(trial: Trial) -> tuple[float, ...]:
        return tuple(objective.value(trial.metrics) for objective in objectives)

    history = History(objectives)
    for count, trial in enumerate(trials, 1):
        history.add(trial)
        kept = [other for other in trials[:count] if other.violation == 0]
        most = max((other.metrics[FIDELITY] for other in kept), default=0)
        kept = [other for other in kept if other.metrics[FIDELITY] == most]
        first = [other for i, other in enumerate(kept) if other.row not in [before.row for before in kept[:i]]]
        front = [one for one in first if not any(beats(values(other), values(one)) for other in first)]
        best = max(kept, key=lambda other: (values(other)[0], -other.number), default=None)
        assert history.best is best
        assert history.front() == sorted(front, key=lambda other: (-values(other)[0], other.number))
