"""Strategies at several fidelities: who goes on, what that costs, stop and resume, the command and its report."""

import itertools
import json
import pickle

import numpy as np
import pytest
from click.testing import CliRunner

from nasfast.cli.app import app
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.errors import ConfigError, DataError
from nasfast.estimators.base import Estimate
from nasfast.estimators.table import TableEstimator
from nasfast.report import build_report
from nasfast.search.blackbox.problem import Problem
from nasfast.search.blackbox.runner import resume_blackbox, run_blackbox
from nasfast.search.blackbox.search import BlackBoxSearch
from nasfast.spaces.nasbench_macro import NASBenchMacro
from nasfast.strategies.registry import MULTI_FIDELITY, make_strategy
from tests.helpers.runs import logged, search_state

RUNNER = CliRunner()
SPACE = NASBenchMacro()
RUNGS = (3, 9, 27, 81)
TARGET = np.array([2, 2, 2, 1, 2, 2, 1, 0])


class Curves:
    """Scores of which the shorter trainings know less."""

    name = "curves"

    def __init__(self):
        self.asked = []

    def estimate(self, rows, fidelity=None):
        self.asked += [(tuple(row), fidelity) for row in rows.tolist()]
        noise = [np.random.default_rng([fidelity, *row]).normal() for row in rows.tolist()]
        right = (rows == TARGET).sum(1)
        return [Estimate(float(r - 3 / fidelity**0.5 + 2 * n / fidelity)) for r, n in zip(right, noise, strict=True)]


def strategy_of(name, seed=0, rungs=RUNGS, **settings):
    strategy = make_strategy(name, settings)
    strategy.rungs = rungs
    return strategy.init(SPACE, seed)


def search_of(name, evaluations, batch=1, **settings):
    search = BlackBoxSearch(Problem(SPACE, Curves()), strategy_of(name, **settings), evaluations, batch)
    while not search.done():
        search.step()
    return search


def by_rung(search):
    found = {rung: [] for rung in RUNGS}
    for trial in search.trials:
        found[int(trial.metrics["fidelity"])].append(trial)
    return found


@pytest.mark.parametrize("name", MULTI_FIDELITY)
@pytest.mark.parametrize("batch", [1, 4])
def test_only_some_come_to_the_next_rung_and_all_of_them_from_the_one_before(name, batch):
    found = by_rung(search_of(name, 240, batch))
    assert all(found.values())
    for lower, higher in itertools.pairwise(RUNGS):
        rows = [trial.row for trial in found[lower]]
        assert all(trial.row in rows for trial in found[higher])
        if name in ("asha", "successive-halving"):  # Hyperband lets some brackets begin without halving
            assert len(found[higher]) < 0.62 * len(found[lower])
            scores = {trial.row: trial.score for trial in found[lower]}
            on = [scores[trial.row] for trial in found[higher]]
            assert np.mean(on) > np.mean(list(scores.values())) + 0.5


def test_successive_halving_takes_the_best_third_of_each_rung():
    search = search_of("successive-halving", 40)
    found = by_rung(search)
    assert [len(found[rung]) for rung in RUNGS] == [27, 9, 3, 1]
    for lower, higher in itertools.pairwise(RUNGS):
        best = sorted(found[lower], key=lambda trial: -trial.score)[: len(found[higher])]
        assert {trial.row for trial in best} == {trial.row for trial in found[higher]}
    assert search.best() == found[81][0]


def test_the_best_and_the_front_are_of_the_largest_budget():
    search = search_of("asha", 150)
    assert search.best().metrics["fidelity"] == 81
    assert {trial.metrics["fidelity"] for trial in search.front()} == {81}


@pytest.mark.parametrize("name", MULTI_FIDELITY)
def test_finds_more_than_full_trainings_of_the_same_cost(name):
    ours, plain = [], []
    for seed in range(3):
        search = search_of(name, 240, seed=seed)
        epochs = sum(trial.metrics["fidelity"] for trial in search.trials)
        ours.append((np.array(search.best().row) == TARGET).sum())
        rows = SPACE.sample(np.random.default_rng(seed), int(epochs // 81))
        plain.append((rows == TARGET).sum(1).max())
    assert np.mean(ours) > np.mean(plain)


def test_bohb_draws_where_good_ones_are():
    searches = {name: search_of(name, 400) for name in ("bohb", "hyperband")}
    late = {
        name: np.mean([(np.array(t.row) == TARGET).sum() for t in by_rung(search)[3][-60:]])
        for name, search in searches.items()
    }
    assert late["bohb"] > late["hyperband"] + 0.7


@pytest.mark.parametrize("name", MULTI_FIDELITY)
def test_state_and_pickle_go_on_with_the_same_bits(name):
    whole = search_of(name, 90, batch=3)
    first = search_of(name, 45, batch=3)
    state = json.loads(json.dumps(first.strategy.state()))
    again = strategy_of(name)
    again.load_state(state)
    for strategy in (again, pickle.loads(pickle.dumps(first.strategy))):
        search = BlackBoxSearch(first.problem, strategy, 90, 3)
        search.trials = list(first.trials)
        while not search.done():
            search.step()
        assert [(t.row, t.metrics) for t in search.trials] == [(t.row, t.metrics) for t in whole.trials]


def test_an_architecture_is_estimated_once_at_each_budget():
    search = search_of("hyperband", 300)
    assert len(search.problem.estimator.asked) == len(set(search.problem.estimator.asked))


def test_what_breaks_a_constraint_does_not_go_on():
    strategy = strategy_of("asha")
    for _ in range(30):
        rows = strategy.ask(1)
        assert strategy.fidelities(rows) == [3]
        strategy.tell(rows, np.zeros((1, 1)), np.ones(1))


@pytest.mark.parametrize("rungs", [(), (9, 3), (3, 3), (None, 3)])
def test_rungs_that_do_not_rise_are_refused(rungs):
    with pytest.raises(ConfigError, match="rungs must be fidelities that rise"):
        strategy_of("asha", rungs=rungs)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "curves.json"
    rows = SPACE.all_rows()
    scores = {rung: [e.score for e in Curves().estimate(rows, rung)] for rung in (3, 27)}
    content = {SPACE.decode(row): {str(r): s[i] for r, s in scores.items()} for i, row in enumerate(rows)}
    path.write_text(json.dumps(content))
    return path


def config_of(table, **settings):
    given = {"space": "nasbench-macro", "table": str(table), "strategy": "hyperband", "evaluations": 60, "ask": 2}
    return BlackBoxConfig.of(given | {"checkpoint_seconds": 0} | settings)


def test_tables_tell_epochs_apart(table, tmp_path):
    estimator = TableEstimator(table, SPACE)
    assert estimator.fidelities == [3, 27]
    rows = SPACE.sample(np.random.default_rng(0), 3)
    assert [e.score for e in estimator.estimate(rows, 3)] == [e.score for e in Curves().estimate(rows, 3)]
    assert estimator.estimate(rows) == estimator.estimate(rows, 27)
    broken = tmp_path / "broken.json"
    names = [SPACE.decode(row) for row in rows]
    broken.write_text(json.dumps({names[0]: {"3": 1.0, "27": 2.0}, names[1]: {"3": 1.0}}))
    with pytest.raises(DataError, match=f"{names[1]} must have a score after 3, 27 epochs"):
        TableEstimator(broken, SPACE)


@pytest.mark.parametrize("name", MULTI_FIDELITY)
def test_stopped_run_resumes_with_the_same_bits(name, table, tmp_path, monkeypatch):
    config = config_of(table, strategy=name)
    run_blackbox(config, tmp_path / "whole")
    estimate, calls = TableEstimator.estimate, []

    def stop(self, rows, fidelity=None):
        calls.append(fidelity)
        if len(calls) > 17:
            raise KeyboardInterrupt
        return estimate(self, rows, fidelity)

    with monkeypatch.context() as patch:
        patch.setattr(TableEstimator, "estimate", stop)
        with pytest.raises(KeyboardInterrupt):
            run_blackbox(config, tmp_path / "cut")
    resume_blackbox(tmp_path / "cut")
    for file in ("metrics.jsonl", "architectures.json"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    states = [search_state(tmp_path / which) for which in ("cut", "whole")]
    assert states[0] == states[1]


def test_the_report_shows_the_rungs_and_leads_with_the_longest(table, tmp_path):
    result = run_blackbox(config_of(table), tmp_path / "run")
    assert result.best.metrics["fidelity"] == 27
    page = build_report(result.path).read_text()
    assert "<h2>Rungs</h2>" in page
    assert "27 epochs" in page
    rows = logged(tmp_path / "run")
    longest = {row["arch"] for row in rows if row["metrics"]["fidelity"] == 27}
    leaders = page.split('id="leaderboard"')[1].split("</table>")[0]
    named = {name for name in {row["arch"] for row in rows} if f"<code>{name}</code>" in leaders}
    assert named
    assert named <= longest < {row["arch"] for row in rows}


def test_trains_the_good_ones_for_longer_by_the_command(tmp_path):
    run = tmp_path / "run"
    options = ["--space", "nasbench201", "--space-set", "channels=4", "--space-set", "cells=1", "--strategy", "asha"]
    options += ["--estimator", "train", "--epochs", "4", "--set", "reduction=2", "--batch-size", "16"]
    options += ["--fidelity-images", "0.03", "--evaluations", "9", "--out", str(run), "--quiet"]
    result = RUNNER.invoke(app, ["search", *options])
    assert result.exit_code == 0, result.output
    rows = logged(run)
    assert {row["metrics"]["fidelity"] for row in rows} == {1, 2, 4}
    assert all(row["metrics"]["epochs"] == row["metrics"]["fidelity"] for row in rows)


def test_budgets_that_are_not_there_are_named(table, tmp_path):
    flat = tmp_path / "flat.json"
    flat.write_text(json.dumps({SPACE.decode(row): 1.0 for row in SPACE.all_rows()}))
    with pytest.raises(ConfigError, match="needs scores after several numbers of epochs; table has none"):
        run_blackbox(config_of(flat), tmp_path / "run")
    with pytest.raises(ConfigError, match="needs scores after several numbers of epochs; table has 3"):
        run_blackbox(config_of(table, epochs_seen=3), tmp_path / "run")
    train = BlackBoxConfig.of({"estimator": "train", "strategy": "bohb", "epochs": 4, "min_epochs": 2})
    with pytest.raises(ConfigError, match="--epochs 4 leaves no smaller one of --min-epochs 2 or more"):
        run_blackbox(train, tmp_path / "run")
    assert not (tmp_path / "run").exists()
