"""Inherited weights on workers, by the command: the bits of any number of workers, kill and resume, what is missing."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest

from nasfast.config.blackbox import BlackBoxConfig
from nasfast.errors import RunError
from nasfast.runs.folder import RunFolder
from nasfast.search.blackbox.estimator import worker_estimator
from nasfast.search.workers import TrialStore
from nasfast.strategies.registry import MORPHISM
from nasfast.training.trainer import Trainer
from nasfast.utils.progress import Progress
from tests.helpers.runs import assert_same_bits, logged, search_state
from tests.search.blackbox.test_inherit import COUNT, options, origins, run, weights

OUT = ("--ask", "4")  # as many as two workers have out by themselves


def records(path):
    """The trials in a run's store; [] where there is none yet."""
    file = RunFolder(path).trials_path
    if not file.exists() or not file.stat().st_size:
        return []
    with closing(TrialStore(file)) as store:
        return store.records()


def finished(path):
    return [record for record in records(path) if record.state == "finished"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of morphism-evolution on two workers that was never stopped."""
    path = tmp_path_factory.mktemp("whole") / "run"
    result = run(*options("morphism-evolution", *OUT, "--workers", "2"), "--out", path)
    assert result.exit_code == 0, result.output
    return path


def assert_same_search(one, other):
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    assert search_state(one) == search_state(other)
    assert_same_bits(weights(one), weights(other))


@pytest.mark.parametrize("strategy", MORPHISM)
def test_two_workers_give_the_bits_of_one(strategy, whole, tmp_path):
    path = whole
    if strategy != "morphism-evolution":
        path = tmp_path / "two"
        result = run(*options(strategy, *OUT, "--workers", "2"), "--out", path)
        assert result.exit_code == 0, result.output
    result = run(*options(strategy, *OUT, "--workers", "1"), "--out", tmp_path / "one")
    assert result.exit_code == 0, result.output
    assert_same_search(path, tmp_path / "one")
    heirs = [trial for trial in logged(path) if tuple(trial["row"]) in origins(path)]
    assert len(heirs) >= 2
    assert all(trial["metrics"]["epochs"] == 1 for trial in heirs)
    assert all([attempt.state for attempt in record.attempts] == ["finished"] for record in records(path))


def start(*arguments):
    command = [sys.executable, "-m", "nasfast.cli.app", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)


def test_killed_search_resumes_with_the_same_bits_and_trains_nothing_twice(whole, tmp_path):
    path = tmp_path / "run"
    given = options("morphism-evolution", *OUT, "--workers", "2", "--checkpoint-seconds", "1000")
    process = start(*given, "--out", path)
    until = time.monotonic() + 240
    while len(finished(path)) < 4:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=120)
    before = finished(path)
    assert 4 <= len(before) < COUNT
    process = start("search", "--resume", path, "--quiet")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert all(record in finished(path) for record in before)
    assert_same_search(path, whole)


@pytest.mark.parametrize(
    "what",
    [
        {"estimator": "inherit", "strategy": "morphism-evolution"},
        {"estimator": "train", "strategy": "asha", "continue_rungs": True},
    ],
)
def test_a_worker_that_does_not_see_the_run_folder_says_so(what, tmp_path):
    settings = BlackBoxConfig.of({"workers": "2"} | what).to_dict()
    folder = str(tmp_path / "elsewhere" / "candidates")
    with pytest.raises(RunError, match=r"does not see the run folder .*elsewhere, which has weights to go on from"):
        worker_estimator(settings, None, None, folder, None, Progress(quiet=True), 0)


def test_weights_that_are_gone_are_named_and_nothing_starts_from_scratch_in_their_place(tmp_path, monkeypatch):
    train = Trainer.run

    def lose(self, *given, **settings):
        result = train(self, *given, **settings)
        self.checkpoint.unlink()
        return result

    monkeypatch.setattr(Trainer, "run", lose)
    result = run(*options("morphism-evolution"), "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "which was trained, are not at" in result.stderr
