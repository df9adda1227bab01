"""The samplers of one-shot training: what they draw, and that their state is plain and complete."""

import json

import numpy as np
import pytest

from nasfast.errors import ConfigError
from nasfast.spaces.registry import DIGITS, make_space
from nasfast.strategies.oneshot.enas import ControllerSamples
from nasfast.strategies.oneshot.path_samplers import ControllerPaths, FairPaths, SandwichPaths, UniformPaths
from nasfast.strategies.registry import make_strategy

CELLS = make_space("nasbench201")
CHAIN = make_space("mobilenet", DIGITS["mobilenet"])


def controller():
    return make_strategy("reinforce", {"policy": "lstm", "batch": 4, "hidden": 8})


MAKERS = {
    "uniform": (UniformPaths, CELLS),
    "fair": (FairPaths, CELLS),
    "sandwich": (SandwichPaths, CHAIN),
    "controller": (lambda: ControllerPaths(controller()), CELLS),
}


@pytest.mark.parametrize("name", MAKERS)
def test_state_is_json_and_goes_on_with_the_same_rows(name):
    make, space = MAKERS[name]
    sampler = make().init(space, 3)
    for _ in range(3):
        rows = sampler.sample(4)
        assert (space.check(rows) == rows).all()
        if name == "controller":
            sampler.controller.tell(rows, rows.sum(1, keepdims=True).astype(float))
    other = make().init(space, 99)
    other.load_state(json.loads(json.dumps(sampler.state())))
    for _ in range(3):
        rows = sampler.sample(5)
        assert (other.sample(5) == rows).all()
        if name == "controller":
            for one in (sampler, other):
                one.controller.tell(rows, rows.sum(1, keepdims=True).astype(float))
    assert other.state() == sampler.state()


@pytest.mark.parametrize("name", MAKERS)
def test_the_seed_decides(name):
    make, space = MAKERS[name]
    draws = [make().init(space, seed).sample(8) for seed in (0, 0, 1)]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).any()


def test_fair_paths_take_every_candidate_exactly_once_per_step():
    sampler = FairPaths().init(CELLS, 0)
    assert sampler.paths == 5
    for _ in range(10):
        rows = sampler.sample(sampler.paths)
        for column in rows.T:
            assert sorted(column.tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("count", [1, 3, 10])
def test_fair_paths_stay_within_one_of_each_other(count):
    """For decisions of any size, and any number of paths per step, at any time."""
    sampler = FairPaths().init(CHAIN, 0)
    seen = [np.zeros(size, int) for size in CHAIN.sizes.tolist()]
    for _ in range(25):
        for row in sampler.sample(count).tolist():
            for counts, value in zip(seen, row, strict=True):
                counts[value] += 1
            assert all(counts.max() - counts.min() <= 1 for counts in seen)


def test_fair_decisions_are_independent():
    rows = FairPaths().init(CELLS, 0).sample(5000)
    pairs = np.bincount(rows[:, 0] * 5 + rows[:, 1], minlength=25)
    assert np.abs(pairs / 5000 - 1 / 25).max() < 0.015


def test_sandwich_takes_the_largest_and_the_smallest_child():
    rows = SandwichPaths().init(CHAIN, 0).sample(4)
    params = [CHAIN.cost(row, size=8).params for row in rows]
    every = [CHAIN.cost(row, size=8).params for row in CHAIN.sample(np.random.default_rng(0), 100)]
    assert params[0] > max(every)
    assert params[1] <= min(every)
    assert params[1] < params[2] < params[0]
    with pytest.raises(ConfigError, match="at least 2 paths per step, got 1"):
        SandwichPaths().init(CHAIN, 0).sample(1)


def test_sandwich_needs_sizes():
    with pytest.raises(ConfigError, match="decisions are sizes, such as mobilenet; 0->1 of nasbench201 is one of none"):
        SandwichPaths().init(CELLS, 0)


def test_controller_samples_what_its_controller_prefers():
    taught = controller().init(CELLS, 0)
    for _ in range(150):
        rows = taught.ask(4)
        taught.tell(rows, (rows[:, :1] == 3).astype(float))
    samples = ControllerSamples(taught).init(CELLS, 1)
    rows = samples.ask(50)
    assert len(np.unique(rows, axis=0)) == 50
    assert (rows[:, 0] == 3).mean() > 0.8
    samples.tell(rows, np.zeros((50, 1)))
    again = samples.ask(50)
    assert not {tuple(row) for row in rows.tolist()} & {tuple(row) for row in again.tolist()}
    assert (ControllerSamples(taught).init(CELLS, 1).ask(50) == rows).all()


def test_a_settled_controller_draws_again_what_it_drew():
    settled = controller().init(CELLS, 0)
    with np.errstate(all="ignore"):
        settled.network.biases.data[:, 2] = 1e3
    settled.network.bound = 1e3
    rows = ControllerSamples(settled).init(CELLS, 0).ask(7)
    assert (rows == 2).all()
    assert len(rows) == 7
