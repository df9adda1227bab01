"""A black-box search whose trials run on workers: the same bits in any order, kill and resume, budgets, the report."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner

from nasfast.cli.app import app
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.config.objectives import Constraint
from nasfast.errors import ConfigError, RunError
from nasfast.estimators.base import Estimate
from nasfast.report import build_report
from nasfast.runs.folder import RunFolder
from nasfast.search.blackbox.parallel import TrialSearch
from nasfast.search.blackbox.problem import Problem
from nasfast.search.blackbox.runner import resume_blackbox, run_blackbox
from nasfast.search.blackbox.search import SearchStuck
from nasfast.search.workers import Heartbeat, Outcome, Running, TrialRunner, TrialStore
from nasfast.search.workers.worker import answer
from nasfast.spaces.nasbench_macro import NASBenchMacro
from nasfast.strategies.blackbox.multi_fidelity import MultiFidelity
from nasfast.strategies.registry import MORPHISM, STRATEGIES, make_strategy
from tests.helpers.runs import logged, search_state

SPACE = NASBenchMacro()
RUNNER = CliRunner()
TINY = {
    "estimator": "train", "space_set": ["channels=4", "cells=1"], "epochs": 2, "batch_size": 32, "evaluations": 6,
    "fidelity_images": 0.06, "ask": 2, "threads": 2, "checkpoint_seconds": 0, "set": ["population=3", "sample=2"],
}  # fmt: skip


def score_of(row):
    return 50.0 + sum(digit * (9 - place) for place, digit in enumerate(row)) + 0.1 * row[0] * row[7]


class Unhurried:
    """An estimator whose trials take times that only their rows decide, and whose worst rows raise."""

    name = "unhurried"

    def __init__(self, longest=0.05, raises_below=0.0):
        self.longest, self.raises_below = longest, raises_below

    def estimate(self, rows, fidelity=None):
        time.sleep(np.random.default_rng(rows[0]).random() * self.longest)
        if any(score_of(row) < self.raises_below for row in rows.tolist()):
            raise ValueError("too bad to train")
        return [Estimate(score_of(row) + 0.01 * (fidelity or 0)) for row in rows.tolist()]


class Heirs(Unhurried):
    """Scores depend on what a row was made from, and no row may get other ancestors than it had."""

    name = "heirs"

    def __init__(self, raises_below):
        super().__init__(0.0, raises_below)
        self.ancestors, self.estimated = {}, set()

    def note_ancestors(self, row, ancestors):
        assert all(type(elder) is tuple and elder in self.estimated for elder in ancestors)
        assert self.ancestors.setdefault(row, ancestors) == ancestors

    def estimate(self, rows, fidelity=None):
        (row,) = (tuple(row) for row in rows.tolist())
        (found,) = super().estimate(rows, fidelity)
        assert row not in self.estimated
        self.estimated.add(row)
        ancestors = self.ancestors[row]
        inherited = 0.1 * score_of(ancestors[-1]) + len(ancestors) if ancestors else 0.0
        return [Estimate(found.score + inherited)]


class AnyOrder:
    """A pool in this process that ends its jobs in an order of its own."""

    def __init__(self, size, seed, estimator):
        self.size, self._random, self._estimator, self._jobs = size, random.Random(seed), estimator, []

    def start(self):
        pass

    def free(self):
        return self.size - len(self._jobs)

    def submit(self, job):
        self._jobs.append(job)

    def poll(self, seconds):
        job = self._jobs.pop(self._random.randrange(len(self._jobs)))
        try:
            numbers = answer(self._estimator, job)
        except ValueError as error:
            return [Outcome(job, "crashed", "here", 0.0, 0.5, error=str(error))]
        return [Outcome(job, "finished", "here", 0.0, 0.5, numbers)]

    def running(self):
        return [Running(job, "here", time.time(), Heartbeat()) for job in self._jobs]

    def close(self):
        pass


def open_search(path, name, seed=0, size=3, out=4, evaluations=70, estimator=None, **problem):
    estimator = estimator or Unhurried(0.0)
    strategy = make_strategy(name, None)
    if isinstance(strategy, MultiFidelity):
        strategy.rungs = (1, 3, 9)
    strategy.init(SPACE, 0)
    path.mkdir(exist_ok=True)
    runner = TrialRunner(AnyOrder(size, seed, estimator), TrialStore(path / "trials.sqlite"), SPACE.decode)
    return TrialSearch(Problem(SPACE, estimator, **problem), strategy, evaluations, out, runner)


def finish(search, most=10**9):
    while not search.done() and search.ended < most:
        search.step()
    return search


@pytest.fixture
def quick_morphisms(monkeypatch):
    """Which rows grow out of which is a rule of sums: to build their networks takes most of a test's time."""
    monkeypatch.setattr(
        "nasfast.strategies.blackbox.morphism.preserves", lambda space, one, other: other.sum() > one.sum()
    )


@pytest.mark.usefixtures("quick_morphisms")
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_has_the_same_bits_in_any_order_and_after_a_stop(name, tmp_path):
    estimator = Unhurried(0.0, raises_below=85.0)
    searches = [open_search(tmp_path / str(i), name, i, size, estimator=estimator) for i, size in enumerate((1, 3, 4))]
    whole = finish(searches[0])
    assert whole.ended == 70
    assert whole.failed
    assert all(score_of(trial.row) < 85 for trial in whole.failed)
    assert all(score_of(trial.row) >= 85 for trial in whole.trials)
    for other in searches[1:]:
        finish(other)
        assert other.trials == whole.trials
        assert other.failed == whole.failed
    cut = finish(open_search(tmp_path / "cut", name, 7, estimator=estimator), most=33)
    state, trials = json.loads(json.dumps(cut.state())), list(cut.trials)
    finish(cut, most=41)  # later than the last checkpoint; the store has it
    cut.runner.close()
    again = open_search(tmp_path / "cut", name, 8, estimator=estimator)
    again.load_state(state, trials)
    assert again.ended == 33
    assert finish(again).trials == whole.trials
    assert again.failed == whole.failed
    assert again.strategy.state() == whole.strategy.state()


@pytest.mark.parametrize("fewer", [33, 34])
def test_a_smaller_budget_than_what_is_out_ends_the_search(fewer, tmp_path):
    cut = finish(open_search(tmp_path / "run", "asha"), most=32)
    assert cut.ended + len(cut.pending) > fewer
    cut.evaluations = fewer
    assert finish(cut).ended == fewer
    assert len(cut.trials) == len(finish(open_search(tmp_path / "whole", "asha"), most=fewer).trials)


@pytest.mark.usefixtures("quick_morphisms")
@pytest.mark.parametrize("stopped", [5, 33])
@pytest.mark.parametrize("name", MORPHISM)
def test_rows_have_the_same_ancestors_whatever_the_timing_and_after_a_stop(name, stopped, tmp_path):
    """Some trials fail, some proposals break a constraint, and rows are proposed again while they are out."""
    limit = (Constraint.parse("params<=1.5M"),)

    def start(folder, seed, size, estimator, count=70):
        return open_search(tmp_path / folder, name, seed, size, 4, count, estimator, constraints=limit)

    estimators = [Heirs(85.0) for _ in range(3)]
    whole, other = (finish(start(str(size), size, size, estimators[size])) for size in (1, 2))
    assert whole.failed
    assert whole.rejected
    assert max(map(len, estimators[1].ancestors.values())) > 1
    cut = finish(start("cut", 7, 3, estimators[0]), most=stopped)
    state, trials = json.loads(json.dumps(cut.state())), list(cut.trials)
    finish(cut, most=stopped + 8)  # later than the last checkpoint; the store has it
    cut.runner.close()
    again = start("cut", 8, 3, estimators[0])
    again.load_state(state, trials)
    finish(again)
    for search in (other, again):
        assert search.trials == whole.trials
        assert search.failed == whole.failed
        states = [json.dumps(each.strategy.state()) for each in (search, whole)]  # as text: NaN where one is broken
        assert states[0] == states[1]
    assert estimators[0].ancestors == estimators[1].ancestors == estimators[2].ancestors


def test_constraints_hold_before_anything_is_run(tmp_path):
    limit = Constraint.parse("params<=1.2M")
    search = finish(open_search(tmp_path, "regularized-evolution", constraints=(limit,)))
    assert search.rejected > 0
    assert all(SPACE.cost(record.row).params <= 1.2e6 for record in search.runner.store.records())
    assert len(search.trials) == 70


def test_costs_are_computed_once_a_session(tmp_path, monkeypatch):
    counted, cost = [], NASBenchMacro.cost
    monkeypatch.setattr(NASBenchMacro, "cost", lambda *args, **kw: counted.append(args[1]) or cost(*args, **kw))
    estimator = Unhurried(0.0, raises_below=85.0)
    cut = finish(open_search(tmp_path, "random", estimator=estimator), most=33)
    assert cut.failed
    assert len(counted) == cut.ended + len(cut.pending)
    state, trials = json.loads(json.dumps(cut.state())), list(cut.trials)
    cut.runner.close()
    again = open_search(tmp_path, "random", estimator=estimator)
    again.load_state(state, trials)
    finish(again)
    assert len(counted) == 70 + len(state["pending"])
    for trial in again.trials:
        found = cost(SPACE, trial.row)
        assert (trial.metrics["params"], trial.metrics["flops"]) == (found.params, found.flops)


def test_a_search_all_of_whose_trials_fail_ends_with_the_error(tmp_path):
    search = finish(open_search(tmp_path, "random", evaluations=8, estimator=Unhurried(0.0, raises_below=1e9)))
    assert (len(search.failed), search.trials) == (8, [])
    with pytest.raises(SearchStuck, match="all of 8 trials failed; the first one: too bad to train"):
        search.best()


def config_of(**settings):
    base = {"space": "nasbench-macro", "evaluations": 30, "estimator": "train", "threads": 2, "checkpoint_seconds": 0}
    return replace(BlackBoxConfig.of(base | settings), space_set=())


def test_worker_processes_give_the_bits_of_one(tmp_path):
    for workers, path, longest in (("1", tmp_path / "one", 0.05), ("3", tmp_path / "three", 0.5)):  # time to start
        result = run_blackbox(config_of(workers=workers, ask=6), path, space=SPACE, estimator=Unhurried(longest))
        assert result.evaluations == 30
    assert (tmp_path / "one" / "metrics.jsonl").read_bytes() == (tmp_path / "three" / "metrics.jsonl").read_bytes()
    assert search_state(tmp_path / "one") == search_state(tmp_path / "three")
    with closing(TrialStore(RunFolder(tmp_path / "three").trials_path)) as store:
        assert len({attempt.worker for record in store.records() for attempt in record.attempts}) > 1


def test_failed_trials_are_logged_and_reported(tmp_path):
    estimator = Unhurried(0.0, raises_below=85.0)
    result = run_blackbox(config_of(workers="2"), tmp_path / "run", space=SPACE, estimator=estimator)
    failed = [row for row in logged(tmp_path / "run") if row["kind"] == "failed"]
    assert len(failed) == result.failed > 0
    assert result.failed + result.evaluations == 30
    page = build_report(tmp_path / "run").read_text()
    assert "Trials on workers" in page
    assert page.count("<details><summary>") == len({tuple(row["row"]) for row in failed})
    assert "ValueError: too bad to train" in page
    assert page.count('<rect class="bad"') == 2 * len({tuple(row["row"]) for row in failed})


@contextmanager
def locked(store):
    """Another process holds the store."""
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def full(store):
    """The store's disk takes nothing more."""
    store._connection.execute("PRAGMA max_page_count = 1")
    yield


@pytest.mark.parametrize(("fault", "message"), [(locked, "held a lock on it"), (full, "no space is left on its disk")])
def test_a_store_that_cannot_be_written_ends_the_sitting_and_loses_nothing(fault, message, tmp_path, monkeypatch):
    run_blackbox(config_of(workers="2"), tmp_path / "whole", space=SPACE, estimator=Unhurried())
    record, count = TrialStore.record, 0

    def fail_once(self, outcome, final):
        nonlocal count
        count += 1
        if count != 9:
            return record(self, outcome, final)
        with fault(self):
            return record(self, replace(outcome, error="x" * 10_000), final)

    monkeypatch.setattr(TrialStore, "record", fail_once)
    monkeypatch.setattr("nasfast.search.workers.open.TrialStore", partial(TrialStore, wait=0.2))
    with pytest.raises(RunError, match=message):
        run_blackbox(config_of(workers="2"), tmp_path / "run", space=SPACE, estimator=Unhurried())
    assert len(finished(tmp_path / "run")) == 8
    result = resume_blackbox(tmp_path / "run", space=SPACE, estimator=Unhurried())
    assert (result.evaluations, result.failed) == (30, 0)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


# the command


def start(*arguments):
    command = [sys.executable, "-m", "nasfast.cli.app", "search", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)


def options(*more):
    given = ["--space", "nasbench201", "--estimator", "train", "--workers", "2", "--epochs", "2", "--batch-size", "32"]
    given += ["--space-set", "channels=4", "--space-set", "cells=1", "--fidelity-images", "0.06", "--threads", "2"]
    return [*given, "--evaluations", "12", "--set", "population=4", "--set", "sample=2", *map(str, more)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped."""
    path = tmp_path_factory.mktemp("whole") / "run"
    result = RUNNER.invoke(app, ["search", *options("--out", path), "--quiet"])
    assert result.exit_code == 0, result.output
    return path


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_search_resumes_with_the_same_bits_and_runs_no_trial_twice(number, whole, tmp_path):
    run = tmp_path / "run"
    process = start(*options("--out", run, "--checkpoint-seconds", 1000, "--quiet"))
    until = time.monotonic() + 120
    while len(finished(run)) < 5:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    before = finished(run)
    assert 5 <= len(before) < 12
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert f"go on with: nasfast search --resume {run}" in errors
    process = start("--resume", run, "--quiet")
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert "12 evaluations" in output
    after = finished(run)
    assert all(record in after for record in before)  # with the one attempt that each has had
    assert (whole / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    assert search_state(run) == search_state(whole)


def finished(run):
    """Finished trials in a run's store with their attempts; [] where there is none yet."""
    path = RunFolder(run).trials_path
    if not path.exists() or not path.stat().st_size:
        return []
    with closing(TrialStore(path)) as store:
        return [record for record in store.records() if record.state == "finished"]


def test_budget_of_trials_and_its_extension(whole, tmp_path):
    given = [option for option in options("--out", tmp_path / "run") if option not in ("--evaluations", "12")]
    result = RUNNER.invoke(app, ["search", *given, "--budget", "5 trials", "--quiet"])
    assert result.exit_code == 0, result.output
    assert "5 evaluations" in result.output
    result = RUNNER.invoke(app, ["search", "--resume", str(tmp_path / "run"), "--budget", "12 trials", "--quiet"])
    assert result.exit_code == 0, result.output
    assert len(finished(tmp_path / "run")) == 12
    assert len(logged(tmp_path / "run")) == 12
    assert "budget 12 trials" in build_report(tmp_path / "run").read_text()


def test_budget_of_hours_counts_every_worker(tmp_path):
    config = replace(config_of(workers="2"), budget="0.001 cpu-hours")  # 3.6 seconds of one thread
    result = run_blackbox(config, tmp_path / "run", space=SPACE, estimator=Unhurried(1.0))
    busy = 0.0
    with closing(TrialStore(RunFolder(tmp_path / "run").trials_path)) as store:
        busy = sum(attempt.ended - attempt.started for record in store.records() for attempt in record.attempts)
    assert 0 < busy < 10
    assert 1 <= result.evaluations < 60


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": "two"}, "--workers must be a number, ray, or ray and a number like ray:8, got 'two'"),
        ({"workers": "0"}, "--workers must be a number"),
        ({"workers": "2", "address": "auto"}, "--address auto is that of a Ray cluster; it needs --workers ray"),
        ({"workers": "2", "worker_gpus": 0.5}, "--worker-gpus goes with --workers ray"),
        ({"trial_timeout": 0.0}, "--trial-timeout must be at least 1"),
        ({"budget": "5 trials"}, "--evaluations 6 is --budget '6 trials'; leave it out"),
        ({"estimator": "table", "table": "t", "workers": "2"}, "--workers belongs to --estimator zero-cost, train, "),
    ],
)
def test_options_that_do_not_go_together_are_named(settings, message):
    base = {} if "estimator" in settings else TINY
    with pytest.raises(ConfigError, match=message):
        BlackBoxConfig.of(base | settings)


class Remembering(Unhurried):
    """Its estimates depend on those before."""

    remember = True

    def recall(self, rows, numbers):
        pass


def test_an_estimator_that_answers_from_memory_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match="unhurried answers from what it has estimated, which --workers do not share"):
        run_blackbox(config_of(workers="2"), tmp_path / "run", space=SPACE, estimator=Remembering())
    assert not (tmp_path / "run").exists()


def test_zero_cost_scores_do_not_depend_on_the_workers(tmp_path):
    settings = {"estimator": "zero-cost", "space_set": ["channels=4", "cells=1"], "evaluations": 30, "ask": 6}
    for workers in ("1", "2"):
        run_blackbox(BlackBoxConfig.of(settings | {"workers": workers, "threads": 2}), tmp_path / workers)
    for one, two in zip(logged(tmp_path / "1"), logged(tmp_path / "2"), strict=True):
        assert one["arch"] == two["arch"]
        assert one["metrics"]["score"] == pytest.approx(two["metrics"]["score"], rel=1e-4)  # other threads round so


def test_what_cannot_be_sent_to_a_worker_is_refused_before_anything_is_written(tmp_path):
    estimator = Unhurried()
    estimator.hook = lambda: None
    with pytest.raises(ConfigError, match="--workers needs an estimator that can be pickled, got Unhurried"):
        run_blackbox(config_of(workers="2"), tmp_path / "run", space=SPACE, estimator=estimator)
    assert not (tmp_path / "run").exists()
