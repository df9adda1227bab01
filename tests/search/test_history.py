"""The best, the front and the rungs of a search, trial by trial, against what ranks all trials again."""

import json

import numpy as np
import pytest

from nasfast.config.objectives import FIDELITY, Constraint, Objective
from nasfast.estimators.base import Estimate
from nasfast.search.blackbox.dashboard import note
from nasfast.search.blackbox.problem import Problem
from nasfast.search.blackbox.search import BlackBoxSearch
from nasfast.search.history import History, Trial
from nasfast.spaces.nasbench_macro import NASBenchMacro
from nasfast.spaces.population import non_dominated
from nasfast.strategies.registry import make_strategy

SPACE = NASBenchMacro()


def random_trials(generator, count, fidelities, broken):
    """Few values and few architectures, so that many are equal."""
    for number in range(count):
        row = tuple(generator.integers(0, 3, 3).tolist())
        metrics = {"score": float(generator.integers(0, 12)), "params": float(generator.integers(0, 12))}
        if fidelities:
            metrics[FIDELITY] = float(generator.choice(fidelities))
        yield Trial(number, row, metrics, float(generator.random()) if generator.random() < broken else 0.0)


def plain_kept(trials):
    kept = [trial for trial in trials if trial.violation == 0]
    most = max((trial.metrics.get(FIDELITY, 0.0) for trial in kept), default=0.0)
    return [trial for trial in kept if trial.metrics.get(FIDELITY, 0.0) == most]


def plain_front(trials, objectives):
    different = list({trial.row: trial for trial in reversed(plain_kept(trials))}.values())
    values = np.array([[o.value(t.metrics) for o in objectives] for t in different]).reshape(-1, len(objectives))
    front = [trial for trial, on in zip(different, non_dominated(values), strict=True) if on]
    return sorted(front, key=lambda trial: (-objectives[0].value(trial.metrics), trial.number))


def plain_rungs(trials, first):
    for fidelity in sorted({trial.metrics.get(FIDELITY, 0.0) for trial in trials}):
        found = [trial for trial in trials if trial.metrics.get(FIDELITY, 0.0) == fidelity]
        kept = [trial for trial in found if trial.violation == 0]
        best = max(kept, key=lambda trial: first.value(trial.metrics), default=None)
        yield fidelity, len({trial.row for trial in found}), best


@pytest.mark.parametrize("texts", [("score",), ("-params",), ("score", "-params"), ("-params", "score")])
@pytest.mark.parametrize("fidelities", [(), (1, 3, 9)])
@pytest.mark.parametrize("broken", [0.0, 0.3, 0.95])
def test_standing_is_that_of_ranking_all_trials_again(texts, fidelities, broken):
    objectives = [Objective.parse(text) for text in texts]
    for seed in range(4):
        trials, history = [], History(objectives)
        for trial in random_trials(np.random.default_rng(seed), 120, fidelities, broken):
            trials.append(trial)
            history.add(trial)
            kept = plain_kept(trials)
            best = max(kept, key=lambda trial: objectives[0].value(trial.metrics), default=None)
            assert history.best is best
            assert (history.top.score if history.top else None) == max((t.score for t in kept), default=None)
            assert history.front() == plain_front(trials, objectives)
            found = [(rung.fidelity, len(rung.rows), rung.best) for rung in history.rungs]
            assert found == list(plain_rungs(trials, objectives[0]))
        assert history.count == 120


class Coarse:
    """Many equal scores."""

    name = "coarse"

    def estimate(self, rows, fidelity=None):
        return [Estimate(float(row.sum() // 3)) for row in rows]


def open_search(name, objectives):
    strategy = make_strategy(name, None)
    if strategy.multi_fidelity:
        strategy.rungs = (1, 3, 9)
    problem = Problem(SPACE, Coarse(), objectives, (Constraint.parse("score<=2"),))
    return BlackBoxSearch(problem, strategy.init(SPACE, 0), 90, 3)


@pytest.mark.parametrize("name", ["random", "nsga2", "asha"])
def test_standing_of_a_search_goes_on_after_a_stop(name):
    objectives = (Objective("score"), Objective("params", False))[: 1 if name == "asha" else 2]
    search = open_search(name, objectives)
    while not search.done():
        if len(search.trials) == 45:  # where someone has looked, and a checkpoint is written
            note(search)
            again = open_search(name, objectives)
            again.load_state(json.loads(json.dumps(search.state())), search.trials)
            search = again
        search.step()
        kept = plain_kept(search.trials)
        if len(search.trials) % 9 == 0 and kept:
            assert search.best() == max(kept, key=lambda trial: trial.score)
            assert search.front() == plain_front(search.trials, objectives)
            assert note(search) == f"best {max(trial.score for trial in kept):.0f}"
    assert any(trial.violation for trial in search.trials)
