"""The black-box strategies: state, resume, what they find, constraints, and the controller."""

import itertools
import json
import pickle

import numpy as np
import pytest
import torch

from nasfast.errors import ConfigError, NasfastError, SpaceError
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.spaces.nasbench_macro import NASBenchMacro
from nasfast.strategies.blackbox.evolution import RegularizedEvolution
from nasfast.strategies.blackbox.local_search import LocalSearch
from nasfast.strategies.blackbox.nsga2 import NSGA2
from nasfast.strategies.blackbox.policies import CategoricalPolicy, LSTMPolicy
from nasfast.strategies.blackbox.policy_gradient import PPO
from nasfast.strategies.registry import MORPHISM, STRATEGIES, make_strategy, plain_strategies

SPACE = NASBenchMacro()
TARGET = np.array([2, 2, 2, 1, 2, 2, 1, 0])
SMALL = {
    "regularized-evolution": {"population": 8, "sample": 4},
    "nsga2": {"population": 6},
    "ppo": {"hidden": 8, "batch": 4},
    "reinforce-lstm": {"hidden": 8},
    "bayesian": {"initial": 6, "batch": 12, "candidates": 30},
}


def score(rows):
    """How many decisions are those of the target: one global optimum, no other local one."""
    return (rows == TARGET).sum(1).astype(float)


def values_of(rows):
    return np.stack([score(rows), -rows.sum(1).astype(float)], 1)


def strategy_of(name, seed=0, space=SPACE):
    return make_strategy(name, SMALL.get(name)).init(space, seed)


def go_on(strategy, steps, batch=3, limit=None):
    """Ask and tell; returns the asked rows."""
    asked = []
    for _ in range(steps):
        rows = strategy.ask(batch)
        violations = None if limit is None else np.maximum(0.0, rows.sum(1) - limit).astype(float)
        strategy.tell(rows, values_of(rows), violations)
        asked.append(rows)
    return np.concatenate(asked) if asked else np.empty((0, 8), int)


@pytest.fixture(params=[n for n in STRATEGIES if n not in MORPHISM])  # test_train_estimator.py has those
def name(request):
    return request.param


def test_same_seed_same_search_and_another_seed_another(name):
    runs = [go_on(strategy_of(name, seed), 12) for seed in (0, 0, 1)]
    assert (runs[0] == runs[1]).all()
    assert (runs[0] != runs[2]).any()


@pytest.mark.parametrize("steps", [0, 1, 5, 14])
def test_state_goes_through_json_and_resumes_bit_for_bit(name, steps):
    whole = strategy_of(name)
    go_on(whole, steps)
    text = json.dumps(whole.state(), allow_nan=False)
    resumed = strategy_of(name, seed=99)
    resumed.load_state(json.loads(text))
    assert json.dumps(resumed.state()) == text
    assert (go_on(whole, 15) == go_on(resumed, 15)).all()
    assert json.dumps(whole.state()) == json.dumps(resumed.state())


def test_pickled_strategy_goes_on(name):
    strategy = strategy_of(name)
    go_on(strategy, 9)
    again = pickle.loads(pickle.dumps(strategy))
    assert (go_on(strategy, 9) == go_on(again, 9)).all()


def test_asked_rows_are_of_the_space(name):
    space = NASBench201()
    strategy = strategy_of(name, space=space)
    for _ in range(10):
        rows = strategy.ask(4)
        assert rows.shape == (4, 6)
        assert rows.dtype == np.int64
        space.check(rows)
        strategy.tell(rows, rows.sum(1).astype(float))


def test_told_in_another_order_and_by_others(name):
    strategy = strategy_of(name)
    rows = [strategy.ask(2) for _ in range(6)]
    foreign = SPACE.sample(np.random.default_rng(5), 5)
    for told in [*rows[::-1], foreign]:
        strategy.tell(told[::-1], values_of(told[::-1]))
    assert go_on(strategy, 5).shape == (15, 8)


# Not those of several fidelities, which draw uniformly at one.
@pytest.mark.parametrize("name", [n for n in plain_strategies() if n not in ("random", "nsga2")])
def test_finds_more_than_random_search(name):
    best = {}
    for which in (name, "random"):
        found = []
        for seed in range(3):
            strategy = make_strategy(which).init(SPACE, seed)
            asked = []
            for _ in range(200):
                rows = strategy.ask(1)
                strategy.tell(rows, score(rows))
                asked.append(rows)
            found.append(np.sort(score(np.concatenate(asked)))[-30:].mean())
        best[which] = np.mean(found)
    assert best[name] > best["random"] + 0.7


def test_nsga2_finds_the_front():
    strategy = make_strategy("nsga2", {"population": 24}).init(SPACE, 0)
    go_on(strategy, 60, batch=24)
    rows, values, _ = strategy.parents
    # With k decisions right, the sum is at least that of the k cheapest right ones: k of the target's, the others 0.
    cheapest = np.concatenate([[0], np.cumsum(np.sort(TARGET[TARGET > 0]))])
    found = {int(right): int(-total) for right, total in values.tolist()}
    assert found == {k + 1: int(total) for k, total in enumerate(cheapest.tolist())}
    assert len(rows) == 24


@pytest.mark.parametrize("name", [n for n in plain_strategies() if n != "random"])
def test_constraints_are_kept_in_the_end(name):
    strategy = make_strategy(name, {"population": 20} if "population" in SMALL.get(name, {}) else None).init(SPACE, 0)
    asked = go_on(strategy, 100, batch=4, limit=6)
    assert (asked[:80].sum(1) > 6).any()
    share = (asked[-80:].sum(1) <= 6).mean()
    assert share > (0.35 if name in ("local-search", "nsga2", "regularized-evolution") else 0.45)


def test_random_and_evolution_do_not_repeat_themselves():
    for name in ("random", "regularized-evolution", "nsga2", "local-search"):
        asked = go_on(strategy_of(name), 60, batch=5)
        assert len({tuple(row) for row in asked.tolist()}) == len(asked), name


def test_evolution_lets_the_oldest_or_the_worst_go():
    members = {}
    for ageing in (True, False):
        strategy = RegularizedEvolution(4, 2, ageing).init(SPACE, 0)
        rows = SPACE.sample(np.random.default_rng(0), 5)
        strategy.tell(rows, np.array([9.0, 1.0, 5.0, 6.0, 7.0]))
        members[ageing] = sorted(value for value, _ in strategy.members)
    assert members == {True: [1, 5, 6, 7], False: [5, 6, 7, 9]}


def test_local_search_goes_to_the_best_neighbour_and_starts_again_at_the_top():
    strategy = LocalSearch().init(SPACE, 0)
    at = []
    for _ in range(17 * 12):
        rows = strategy.ask(1)
        strategy.tell(rows, score(rows))
        at.append(strategy.at)
    climbs = [place for i, place in enumerate(at) if i == 0 or place != at[i - 1]]
    tops = [i for i, place in enumerate(climbs) if place == tuple(TARGET)]
    assert len(tops) == 1
    values = [score(np.array([place]))[0] for place in climbs[: tops[0] + 1]]
    assert values == sorted(values)
    assert all(after - before == 1 for before, after in itertools.pairwise(values))
    assert len(climbs) > tops[0] + 1


def test_constrained_evolution_and_baseline_ignore_what_breaks_the_limits():
    strategy = RegularizedEvolution(4, 2).init(SPACE, 0)
    strategy.tell(SPACE.sample(np.random.default_rng(0), 3), np.array([np.nan, 2.0, np.nan]), np.array([1.0, 0.0, 2.0]))
    assert [value for value, _ in strategy.members] == [2.0]
    policy = make_strategy("reinforce").init(SPACE, 0)
    policy.tell(SPACE.sample(np.random.default_rng(0), 2), np.array([np.nan, 4.0]), np.array([1.0, 0.0]))
    assert policy.mean / policy.weight == pytest.approx(4.0)


@pytest.mark.parametrize("kind", ["categorical", "lstm"])
def test_policy_samples_what_its_probabilities_say(kind):
    sizes = [2, 3, 1]
    draw = np.random.default_rng(0)
    policy = CategoricalPolicy(sizes) if kind == "categorical" else LSTMPolicy(sizes, 8, 5.0, draw)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(torch.from_numpy(draw.normal(size=tuple(parameter.shape))))
    every = np.array([[a, b, 0] for a in range(2) for b in range(3)])
    with torch.no_grad():
        logs, entropy = policy.score(every)
    assert logs.exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert (entropy > 0).all()
    rows = policy.sample(draw.random((40_000, 3)))
    for row, log in zip(every, logs.tolist(), strict=True):
        assert (rows == row).all(1).mean() == pytest.approx(np.exp(log), abs=0.01)


def test_lstm_policy_depends_on_earlier_decisions():
    policy = LSTMPolicy([3, 3], 8, 5.0, np.random.default_rng(0))
    logs = policy.log_probabilities(torch.tensor([[0, 0], [1, 0], [1, 2]]))
    assert torch.equal(logs[0, 0], logs[1, 0])
    assert not torch.equal(logs[0, 1], logs[1, 1])
    assert torch.equal(logs[1, 1], logs[2, 1])


def test_ppo_stays_near_the_policy_that_drew():
    """With one update per batch, no advantage moves a probability much beyond the clip; without the clip it does."""
    moved = {}
    for clip in (0.1, 1e6):
        strategy = PPO(policy="categorical", batch=16, lr=0.05, epochs=40, clip=clip).init(SPACE, 0)
        rows = strategy.ask(16)
        before = strategy.network.score(rows)[0].detach()
        strategy.tell(rows, score(rows))
        moved[clip] = float((strategy.network.score(rows)[0].detach() - before).abs().mean())
    assert moved[0.1] < moved[1e6] / 2


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("anealing", {}, "unknown strategy 'anealing': expected one of random, local-search"),
        ("regularised-evolution", {}, "did you mean regularized-evolution"),
        ("random", {"population": 3}, "random has no setting 'population'; expected one of none"),
        ("regularized-evolution", {"population": "many"}, "population must be of type int, got 'many'"),
        ("regularized-evolution", {"population": 1}, "population must be at least 2, got 1"),
        ("regularized-evolution", {"sample": 99}, r"sample must be at most population \(30\), got 99"),
        ("nsga2", {"population": 0}, "population must be at least 2"),
        ("reinforce", {"policy": "mlp"}, "policy must be one of categorical, lstm, got 'mlp'"),
        ("reinforce", {"lr": "0"}, "lr and bound must be above 0"),
        ("ppo", {"clip": 0}, "clip must be at least"),
        ("local-search", {"greedy": 1}, "greedy must be of type bool"),
        ("morphism-hill-climbing", {"begin": 1}, "begin must be of type str, got 1"),
        ("lamarckian", {"crossover": "0.5"}, "lamarckian: crossover must be 0, a child has one parent; got 0.5"),
    ],
)
def test_bad_settings_are_named(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        make_strategy(name, settings)


def test_settings_may_be_text():
    assert make_strategy("nsga2", {"population": "8", "crossover": "1"}) == NSGA2(8, 1.0)
    assert make_strategy("local-search", {"greedy": "true"}).greedy is True
    assert make_strategy("morphism-evolution", {"begin": "11111111"}).begin == "11111111"


def test_tell_refuses_foreign_rows_and_values_that_are_no_numbers(name):
    strategy = strategy_of(name)
    rows = strategy.ask(2)
    with pytest.raises(SpaceError, match=r"layer0 must be 0 to 2, got \d"):
        strategy.tell(rows + 7, values_of(rows))
    with pytest.raises(NasfastError, match="values must be finite"):
        strategy.tell(rows, np.full((2, 2), np.nan))
