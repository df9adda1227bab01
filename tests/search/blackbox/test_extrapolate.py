"""A black-box search that trains in part: extrapolated curves, early termination, stop and resume, workers, errors."""

import json
import signal

import numpy as np
import pytest
from click.testing import CliRunner

from nasfast.cli.app import app
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.errors import ConfigError
from nasfast.estimators.base import StatefulEstimator
from nasfast.estimators.curves import CurveEnsemble
from nasfast.estimators.curves.watched import read_curve
from nasfast.report import build_report
from nasfast.runs.checkpoint import CheckpointError
from nasfast.search.blackbox.estimator import make_task
from nasfast.search.blackbox.runner import resume_blackbox, run_blackbox
from nasfast.training.trainer import Trainer
from nasfast.utils.progress import Progress
from tests.helpers.runs import logged, search_state

RUNNER = CliRunner()
TINY = {
    "space_set": ["channels=4", "cells=1"], "batch_size": 32, "lr": 0.1, "evaluations": 6, "fidelity_images": 0.3,
    "ask": 2, "threads": 1, "checkpoint_seconds": 0, "set": ["population=3", "sample=2"],
}  # fmt: skip
EXTRAPOLATE = {"estimator": "extrapolate", "epochs": 8, "observe": 3}
STOP = {"estimator": "train", "epochs": 8, "stop_early": 0.2}
STEPS = 344 // 32  # an epoch's: three tenths of four fifths of the 1,437 train images
IMAGES = 3 * STEPS * 32 + 288  # an epoch's, forward, backward and held out


def tiny(kind, **settings):
    return BlackBoxConfig.of(TINY | kind | settings)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs that were never stopped, by what they do."""
    folder = tmp_path_factory.mktemp("whole")
    kinds = {"extrapolate": EXTRAPOLATE, "stop": STOP, "train": STOP | {"stop_early": None, "evaluations": 2}}
    for name, kind in kinds.items():
        run_blackbox(tiny(kind), folder / name)
    return {name: folder / name for name in kinds}


def metrics_of(run):
    return [row["metrics"] for row in logged(run)]


def checkpoints(run):
    return sorted((run / "candidates").glob("*.pt"))


def forwards(metrics):
    """Images that a trial's cost is of."""
    return metrics["cost"] / metrics["flops"]


def test_scores_are_medians_of_extrapolated_curves(runs):
    found = metrics_of(runs["extrapolate"])
    assert len(found) == 6
    curves = np.array([read_curve(path) for path in checkpoints(runs["extrapolate"])])
    assert curves.shape[1] == 3  # no more was trained
    ahead = CurveEnsemble().extrapolate(curves, [8.0])
    for metrics in found:
        assert set(metrics) == {"score", "seen", "epochs", "uncertainty", "cost", "params", "flops"}
        assert metrics["epochs"] == 3
        assert forwards(metrics) == 3 * IMAGES
    expected = {"seen": curves[:, -1], "score": ahead.median[:, 0], "uncertainty": ahead.std[:, 0]}
    for name, values in expected.items():
        assert sorted(metrics[name] for metrics in found) == pytest.approx(sorted(values)), name
    assert "estimator extrapolate, data digits" in build_report(runs["extrapolate"]).read_text()


def test_a_hopeless_candidate_is_stopped_and_saves_its_flops(runs):
    found, trained = metrics_of(runs["stop"]), metrics_of(runs["train"])
    names = {"score", "valid_loss", "seen", "epochs", "stopped", "uncertainty", "cost", "params", "flops"}
    assert all(set(metrics) == names for metrics in found)
    same = ("score", "valid_loss", "uncertainty", "epochs")
    assert [found[0][name] for name in same] == [trained[0][name] for name in same]  # the first is never stopped
    stopped = [metrics for metrics in found if metrics["stopped"]]
    assert stopped
    for metrics in found:
        assert forwards(metrics) == metrics["epochs"] * IMAGES
    for metrics in stopped:
        assert 5 <= metrics["stopped"] == metrics["epochs"] < 8
        assert metrics["score"] <= found[0]["score"]
        assert metrics["uncertainty"] > 0
    seen = [len(read_curve(path)) for path in checkpoints(runs["stop"])]
    assert sorted(seen) == sorted(metrics["epochs"] for metrics in found)


@pytest.mark.parametrize(
    ("name", "kind", "after"),
    [
        ("extrapolate", EXTRAPOLATE, 3 * STEPS + 15),  # in an epoch of the second training
        ("extrapolate", EXTRAPOLATE, 5 * 3 * STEPS),  # at the end of the fifth
        ("stop", STOP, 20),  # in the first training
        ("stop", STOP, 13 * STEPS),  # where the second is stopped
        ("stop", STOP, 13 * STEPS + 1),  # in the third
        ("stop", STOP, 13 * STEPS + 28),
    ],
)
def test_stopped_run_resumes_with_the_same_bits_and_trains_no_step_twice(
    name, kind, after, runs, tmp_path, monkeypatch
):
    run, step, steps = tmp_path / "run", Trainer.take_step, []

    def count(self):
        step(self)
        steps.append(self.label)
        if len(steps) == after:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "take_step", count)
    with pytest.raises(KeyboardInterrupt):
        run_blackbox(tiny(kind), run)
    assert len(steps) == after
    assert not resume_blackbox(run).was_finished
    assert len(steps) == STEPS * sum(len(read_curve(path)) for path in checkpoints(run))
    assert (run / "metrics.jsonl").read_bytes() == (runs[name] / "metrics.jsonl").read_bytes()
    assert search_state(run) == search_state(runs[name])


def test_second_training_is_stopped_where_the_test_of_the_resume_cuts_it(runs):
    assert [metrics["stopped"] for metrics in metrics_of(runs["stop"])[:2]] == [0, 5]


@pytest.mark.parametrize(("name", "kind"), [("extrapolate", EXTRAPOLATE), ("stop", STOP)])
def test_killed_run_finds_its_trainings_in_their_checkpoints(name, kind, runs, tmp_path, monkeypatch):
    """The search was saved at its start alone; it asks again for what is trained."""
    run, train_all, ended = tmp_path / "run", Trainer.run, []

    def kill(self, *given, **settings):
        if len(ended) == 3:
            raise MemoryError
        ended.append(self.label)
        return train_all(self, *given, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", kill)
        with pytest.raises(MemoryError):
            run_blackbox(tiny(kind, checkpoint_seconds=1e9), run)
    trained, train = [], Trainer.train

    def note(self, *given):
        trained.append(self.label)
        return train(self, *given)

    monkeypatch.setattr(Trainer, "train", note)
    resume_blackbox(run)
    assert not set(trained) & set(ended)
    assert metrics_of(run) == metrics_of(runs[name])


def test_stopper_is_the_same_after_it_was_told(tmp_path):
    config = tiny(STOP, stop_early=0.5, epochs=6)
    space = config.make_space()
    rows = space.sample(np.random.default_rng(1), 5)
    one, other = (make_task(config, space, tmp_path, Progress(quiet=True)).estimator for _ in range(2))
    numbers = [estimate.numbers() for estimate in one.estimate(rows[:4])]
    other.recall(rows[:4], numbers)
    assert isinstance(one, StatefulEstimator)
    assert one.estimate(rows[4:]) == other.estimate(rows[4:])
    before, after = one.stopper.state(), other.stopper.state()
    assert len(before["finished"]) < 5
    assert after["finished"] == before["finished"]
    assert all(after["curves"][trial] == before["curves"][trial] for trial in before["finished"])


def test_missing_checkpoint_of_a_finished_training_is_named(tmp_path):
    run = tmp_path / "run"
    given = {name: value for name, value in (TINY | STOP).items() if name != "evaluations"}
    run_blackbox(BlackBoxConfig.of(given | {"budget": "2 trials"}), run)
    for path in checkpoints(run):
        path.unlink()
    assert resume_blackbox(run).was_finished
    with pytest.raises(CheckpointError, match=r"candidates.*retrain-.*\.pt"):
        resume_blackbox(run, changed={"budget": "4 trials"})


def test_workers_extrapolate_the_same(tmp_path):
    settings = {"strategy": "random", "set": [], "evaluations": 4}
    run_blackbox(tiny(EXTRAPOLATE, **settings), tmp_path / "one")
    run_blackbox(tiny(EXTRAPOLATE, **settings, workers="2", threads=2), tmp_path / "two")
    one, two = logged(tmp_path / "one"), logged(tmp_path / "two")
    assert [row["arch"] for row in one] == [row["arch"] for row in two]
    for mine, theirs in zip(one, two, strict=True):
        assert mine["metrics"] == pytest.approx(theirs["metrics"], rel=1e-9)
        assert mine["metrics"]["seen"] == theirs["metrics"]["seen"]


@pytest.mark.parametrize(
    ("options", "metric"),
    [
        (["--estimator", "extrapolate", "--observe", "3"], "seen"),
        (["--estimator", "train", "--stop-early", "0.1"], "stopped"),
    ],
)
def test_by_the_command(options, metric, tmp_path):
    run = tmp_path / "run"
    given = ["search", "--space", "nasbench201", "--strategy", "random", *options, "--data", "digits", "--epochs", "6"]
    given += ["--batch-size", "16", "--fidelity-images", "0.02", "--evaluations", "3", "--out", str(run), "--quiet"]
    given += ["--space-set", "channels=4", "--space-set", "cells=1", "--threads", "1"]
    result = RUNNER.invoke(app, given)
    assert result.exit_code == 0, result.output
    best = json.loads((run / "architectures.json").read_text())["best"]
    assert best["arch"] in result.output
    assert metric in best["metrics"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (EXTRAPOLATE | {"observe": 8}, "--observe must be below --epochs 8, got 8"),
        (EXTRAPOLATE | {"observe": 2}, "--observe must be at least 3, got 2"),
        (EXTRAPOLATE | {"stop_early": 0.1}, "--stop-early belongs to --estimator train, got --estimator extrapolate"),
        (EXTRAPOLATE | {"min_epochs": 2}, "--min-epochs belongs to --estimator train, got --estimator extrapolate"),
        (STOP | {"observe": 3}, "--observe belongs to --estimator extrapolate, got --estimator train"),
        (STOP | {"stop_early": 0.0}, "--stop-early must be a probability above 0 and below 1, got 0.0"),
        (STOP | {"stop_early": 1.0}, "--stop-early must be a probability"),
        (STOP | {"stop_early": float("nan")}, "--stop-early must be a probability"),
        (STOP | {"epochs": 3}, "--stop-early needs --epochs 4 or more, got 3"),
        (STOP | {"workers": "2"}, "--stop-early compares each training with the best one so far, which --workers do"),
        (STOP | {"strategy": "asha", "set": []}, "--stop-early needs trainings of one length, and --strategy asha"),
        (STOP | {"strategy": "nsga2", "set": []}, "--stop-early .* other objectives may want: got score, -params"),
    ],
)
def test_options_that_do_not_go_together_are_named(settings, message):
    with pytest.raises(ConfigError, match=message) as found:
        BlackBoxConfig.of(TINY | settings)
    assert "\n" not in str(found.value)


def test_a_budget_that_the_estimators_do_not_know_is_named(tmp_path):
    for kind, message in (
        (EXTRAPOLATE, "the first 3 epochs are extrapolated to later ones, got a fidelity of 3"),
        (STOP, "early termination compares trainings of 8 epochs, got a fidelity of 3"),
    ):
        config = tiny(kind)
        space = config.make_space()
        estimator = make_task(config, space, tmp_path, Progress(quiet=True)).estimator
        with pytest.raises(ConfigError, match=message):
            estimator.estimate(space.sample(np.random.default_rng(0), 1), 3)
