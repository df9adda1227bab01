"""Trainings that go on from the rung below: bits, costs, divergence, kill and resume, workers, settings."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from nasfast.cli.app import app
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.data import load_data
from nasfast.errors import ConfigError, RunError
from nasfast.estimators import Fidelity, RungEstimator, TrainEstimator, TrainSettings
from nasfast.estimators.curves.watched import CurveWatcher
from nasfast.runs.checkpoint import CheckpointError
from nasfast.search.blackbox.runner import resume_blackbox, run_blackbox
from nasfast.spaces.joint import JointSpace
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.strategies.registry import MULTI_FIDELITY
from nasfast.training.evaluate import TrainError
from nasfast.training.space_trainer import SpaceTask
from nasfast.training.trainer import Trainer
from nasfast.utils.progress import Progress
from tests.helpers.runs import assert_same_bits, logged, search_state, study_of

RUNNER = CliRunner()
SPACE = NASBench201(4, 1)
ROW = np.array([[3, 2, 3, 1, 4, 3]])
RUNGS = (2, 6, 18)
SETTINGS = TrainSettings(batch_size=32, lr=0.1)
TINY = {
    "estimator": "train", "strategy": "asha", "continue_rungs": True, "space_set": ["channels=4", "cells=1"],
    "epochs": 4, "set": ["reduction=2"], "batch_size": 16, "fidelity_images": 0.03, "evaluations": 12, "ask": 2,
    "threads": 1, "checkpoint_seconds": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


def climber(data, folder, rungs=RUNGS, settings=SETTINGS, space=SPACE, images=0.1):
    return RungEstimator(space, data, folder, rungs, settings, Fidelity(rungs[-1], images))


def weights(path):
    state = torch.load(path, weights_only=True)
    return {name: state[name] for name in ("network", "optimizer", "sampler", "augmenter", "step")}


def test_steps_have_the_bits_of_one_training_that_was_measured_on_its_way(data, tmp_path):
    found = [climber(data, tmp_path).estimate(ROW, rung)[0] for rung in RUNGS]  # another process goes on with each
    plain = TrainEstimator(SPACE, data, tmp_path / "plain", SETTINGS, Fidelity(18, 0.1))
    whole = plain.estimate(ROW)[0]
    estimator = climber(data, tmp_path)
    assert_same_bits(weights(estimator.path_of(ROW[0])), weights(plain.path_of(ROW[0])))
    watcher, task = CurveWatcher(), SpaceTask(SPACE, ROW[0])
    Trainer(task, watcher, plain.data, tmp_path / "plain", SETTINGS.of(18), "watched").run(Progress(quiet=True))
    assert [estimate.score for estimate in found] == [watcher.curve[rung - 1] for rung in RUNGS]
    assert (found[-1].score, found[-1].metrics, found[-1].uncertainty) == (
        whole.score,
        whole.metrics,
        whole.uncertainty,
    )
    assert [estimate.metrics["epochs"] for estimate in found] == list(RUNGS)
    assert len(list(tmp_path.glob("*.pt"))) == 1


def test_a_rung_costs_the_epochs_between(data, tmp_path):
    estimator, plain = climber(data, tmp_path), TrainEstimator(SPACE, data, tmp_path, SETTINGS, Fidelity(18, 0.1))
    for rung, added in zip(RUNGS, (2, 4, 12), strict=True):
        assert estimator.cost(ROW[0], rung) == plain.cost(ROW[0], added)
        assert estimator.estimate(ROW, rung)[0].cost == plain.cost(ROW[0], added)


def test_rungs_below_are_answered_again_and_nothing_is_trained_twice(data, tmp_path, monkeypatch):
    found = [climber(data, tmp_path).estimate(ROW, rung) for rung in RUNGS]
    monkeypatch.setattr(Trainer, "take_step", None)
    assert [climber(data, tmp_path).estimate(ROW, rung) for rung in RUNGS] == found


@pytest.mark.parametrize("saved", [False, True])
def test_a_training_that_is_cut_between_rungs_goes_on_to_the_same_bits(saved, data, tmp_path, monkeypatch):
    whole, cut = climber(data, tmp_path / "whole"), climber(data, tmp_path / "cut")
    expected = [whole.estimate(ROW, rung) for rung in RUNGS[:2]]
    assert cut.estimate(ROW, 2) == expected[0]
    step, taken = Trainer.take_step, []

    def stop(self):
        if len(taken) == 4:
            if saved:
                self.save()
            raise KeyboardInterrupt
        taken.append(step(self))

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "take_step", stop)
        with pytest.raises(KeyboardInterrupt):
            cut.estimate(ROW, 6)
    assert [climber(data, tmp_path / "cut").estimate(ROW, rung) for rung in RUNGS[:2]] == expected
    assert_same_bits(*(weights(each.path_of(ROW[0])) for each in (whole, cut)))


def test_what_does_not_fit_is_named(data, tmp_path):
    estimator = climber(data, tmp_path)
    with pytest.raises(CheckpointError, match=r"retrain-.*-rungs.pt has no training to 2 epochs, which the one to 6"):
        estimator.estimate(ROW, 6)
    with pytest.raises(ConfigError, match="the fidelity must be one of 2, 6, 18 epochs, got 3"):
        estimator.estimate(ROW, 3)
    estimator.estimate(ROW, 2)
    with pytest.raises(RunError, match=r"was made with rungs \[2, 6, 18\], not \[2, 18\]"):
        climber(data, tmp_path, (2, 18)).estimate(ROW, 2)
    with pytest.raises(RunError, match=r"was made with lr 0\.1, not 0\.2"):
        climber(data, tmp_path, settings=TrainSettings(32, lr=0.2)).estimate(ROW, 6)
    for rungs in ((), (0, 18), (6, 2, 18), (2, 2, 18), (2, 6)):
        with pytest.raises(ConfigError, match="rungs must be epochs that rise to the default fidelity's 18, got"):
            RungEstimator(SPACE, data, tmp_path, rungs, SETTINGS, Fidelity(18))


def test_what_has_diverged_stays_so_and_is_not_trained_on(data, tmp_path, monkeypatch):
    wild = TrainSettings(batch_size=32, lr=1e38)
    for _ in range(2):
        with pytest.raises(TrainError, match="not finite"):
            climber(data, tmp_path / "one", settings=wild).estimate(ROW, 2)
    joint = JointSpace(SPACE, {"lr": (0.1, 1e38)})
    rows = np.array([[*ROW[0], 0], [*ROW[0], 1]])
    sound, diverged = climber(data, tmp_path / "joint", space=joint).estimate(rows, 2)
    assert sound.score > diverged.score == 0
    monkeypatch.setattr(Trainer, "train", None)
    above = climber(data, tmp_path / "joint", space=joint).estimate(rows[1:], 6)[0]
    assert (above.score, above.cost) == (0, 2 * diverged.cost - 288 * joint.cost(rows[1], 10, 3, 8).flops)


# runs


def tiny(**settings):
    return BlackBoxConfig.of(TINY | settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped."""
    path = tmp_path_factory.mktemp("whole") / "run"
    run_blackbox(tiny(), path)
    return path


@pytest.mark.parametrize("name", MULTI_FIDELITY)
def test_a_run_trains_each_epoch_once(name, tmp_path, monkeypatch):
    end, epochs = Trainer._end_epoch, []
    monkeypatch.setattr(Trainer, "_end_epoch", lambda self: epochs.append((self.label, self.epoch)) or end(self))
    first = ["first=4"] if name == "successive-halving" else []
    run_blackbox(tiny(strategy=name, set=["reduction=2", *first]), tmp_path / "run")
    rows = logged(tmp_path / "run")
    assert {row["metrics"]["fidelity"] for row in rows} >= {1, 2}
    assert all(row["metrics"]["epochs"] == row["metrics"]["fidelity"] for row in rows)
    longest = {}
    for row in rows:
        longest[row["arch"]] = max(longest.get(row["arch"], 0), row["metrics"]["fidelity"])
    assert len(epochs) == len(set(epochs)) == sum(longest.values())


@pytest.mark.parametrize("after", [3, 7])
def test_stopped_run_resumes_with_the_same_bits_and_trains_nothing_twice(after, whole, tmp_path, monkeypatch):
    """Stopped when a rung is in its checkpoint, and the strategy was not told."""
    train, trained = Trainer.train, []

    def stop(self, progress, rung):
        found = train(self, progress, rung)
        trained.append((self.label, rung))
        if len(trained) == after:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Trainer, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        run_blackbox(tiny(), tmp_path / "run")
    resume_blackbox(tmp_path / "run")
    assert len(trained) == len(set(trained))
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert search_state(tmp_path / "run") == search_state(whole)


def options(run, *more):
    given = ["--space", "nasbench201", "--space-set", "channels=4", "--space-set", "cells=1", "--strategy", "asha"]
    given += ["--estimator", "train", "--continue-rungs", "--epochs", "4", "--set", "reduction=2", "--batch-size", "16"]
    given += ["--fidelity-images", "0.03", "--evaluations", "14", "--quiet", "--out", str(run), *more]
    return given


def test_killed_search_on_workers_resumes_with_the_same_bits(tmp_path):
    workers = ["--workers", "2", "--threads", "2", "--checkpoint-seconds", "1000"]
    result = RUNNER.invoke(app, ["search", *options(tmp_path / "whole", *workers)])
    assert result.exit_code == 0, result.output
    command = [sys.executable, "-m", "nasfast.cli.app", "search", *options(tmp_path / "cut", *workers)]
    process = subprocess.Popen(command, env=os.environ)
    until = time.monotonic() + 120
    while len(list((tmp_path / "cut").glob("candidates/*.pt"))) < 5:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    time.sleep(1)  # its workers end when they see that it has
    resume_blackbox(tmp_path / "cut")
    assert (tmp_path / "cut" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert search_state(tmp_path / "cut") == search_state(tmp_path / "whole")
    assert study_of(tmp_path / "cut") == study_of(tmp_path / "whole")


def test_with_tuned_settings_and_a_lower_fidelity(tmp_path):
    lower = {"fidelity_set": ["channels=2"], "fidelity_size": 4, "tune": ["lr=0.02,0.1", "batch_size=16,32"]}
    run_blackbox(tiny(**lower, strategy="bohb"), tmp_path / "run")
    rows = logged(tmp_path / "run")
    assert {row["metrics"]["fidelity"] for row in rows} == {1, 2, 4}
    assert all(" @ lr=" in row["arch"] for row in rows)
    assert all(row["metrics"]["cost"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "random", "set": []}, "--continue-rungs goes with --strategy successive-halving, asha, hyperb"),
        ({"stop_early": 0.1}, "--stop-early needs trainings of one length, and --strategy asha has several"),
        ({"estimator": "extrapolate"}, "--continue-rungs belongs to --estimator train, got --estimator extrapolate"),
        ({"estimator": "inherit"}, "--continue-rungs belongs to --estimator train, got --estimator inherit"),
        ({"estimator": "zero-cost"}, "--continue-rungs belongs to --estimator train, got --estimator zero-cost"),
        (
            {"estimator": "table", "table": "t.json"},
            "--continue-rungs belongs to --estimator train, got",
        ),
    ],
)
def test_options_that_do_not_go_together_are_named(settings, message):
    base = TINY if "estimator" not in settings else {"strategy": "asha", "continue_rungs": True}
    with pytest.raises(ConfigError, match=message):
        BlackBoxConfig.of(base | settings | ({"epochs": 8} if "stop_early" in settings else {}))
