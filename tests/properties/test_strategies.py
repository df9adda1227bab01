"""A strategy that is stored and loaded, or pickled, at any moment goes on with the bits of one that never was."""

from __future__ import annotations

import json
import pickle
from functools import cache

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from nasfast.spaces.base import Space
from nasfast.spaces.nasbench_macro import NASBenchMacro
from nasfast.spaces.registry import make_space
from nasfast.strategies.base import Strategy
from nasfast.strategies.registry import MORPHISM, STRATEGIES, make_strategy

SMALL = {
    "regularized-evolution": {"population": 4, "sample": 2},
    "nsga2": {"population": 4},
    "reinforce": {"batch": 3},
    "ppo": {"hidden": 4, "batch": 3},
    "reinforce-lstm": {"hidden": 4, "batch": 3},
    "bayesian": {"initial": 3, "batch": 3, "candidates": 8},
    "morphism-evolution": {"population": 3},
    "lamarckian": {"population": 3},
}


@cache
def space_of(name: str) -> Space:
    if name in MORPHISM:
        return make_space("mobilenet", {"stages": "8:1", "depths": "1,2", "widths": "1,1.5", "kernels": "3,5"})
    return NASBenchMacro()


def strategy_of(name: str, seed: int) -> Strategy:
    strategy = make_strategy(name, SMALL.get(name))
    if strategy.multi_fidelity:
        strategy.rungs = (1, 3, 9)  # type: ignore[attr-defined]
    return strategy.init(space_of(name), seed)


class Twins(RuleBasedStateMachine):
    """One strategy that is left alone, and its twin that is stored and loaded in between."""

    name: str

    def __init__(self) -> None:
        super().__init__()
        self.whole, self.twin = strategy_of(self.name, 3), strategy_of(self.name, 3)
        self.pending: list[np.ndarray] = []

    @rule(count=st.integers(1, 4))
    def ask(self, count: int) -> None:
        rows, others = self.whole.ask(count), self.twin.ask(count)
        assert rows.tolist() == others.tolist()
        assert self.whole.fidelities(rows) == self.twin.fidelities(others)
        self.pending.append(rows)

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def tell(self, data: st.DataObject) -> None:
        """What was asked last or earlier, in whichever order, with values that are often equal."""
        rows = self.pending.pop(data.draw(st.integers(0, len(self.pending) - 1)))
        rows = rows[data.draw(st.permutations(range(len(rows))))]
        few = st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows))
        values = np.array([data.draw(few), data.draw(few)], float).T
        violations = np.array(data.draw(few), float) * data.draw(st.sampled_from([0, 0, 1]))
        for strategy in (self.whole, self.twin):
            strategy.tell(rows, values, violations)

    @rule()
    def load(self) -> None:
        stored = json.loads(json.dumps(self.twin.state(), allow_nan=False))
        self.twin = strategy_of(self.name, 99)
        self.twin.load_state(stored)

    @rule()
    def unpickle(self) -> None:
        self.twin = pickle.loads(pickle.dumps(self.twin))

    @invariant()
    def states_are_equal(self) -> None:
        assert json.dumps(self.whole.state()) == json.dumps(self.twin.state())


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_that_was_loaded_goes_on_as_if_it_had_not_been(name: str) -> None:
    machine = type("Twins", (Twins,), {"name": name})
    run_state_machine_as_test(machine, settings=settings(max_examples=6, stateful_step_count=12))
