"""A black-box search that trains every architecture: settings, fidelities, stop and resume, report."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from nasfast.cli.app import app
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.errors import ConfigError, SpaceError
from nasfast.report import build_report
from nasfast.search.blackbox.runner import resume_blackbox, run_blackbox
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.training.evaluate import TrainError
from nasfast.training.trainer import Trainer
from tests.helpers.runs import logged, search_state

RUNNER = CliRunner()
TINY = {
    "estimator": "train", "space_set": ["channels=4", "cells=1"], "epochs": 2, "batch_size": 32, "evaluations": 6,
    "fidelity_images": 0.06, "ask": 2, "threads": 1, "checkpoint_seconds": 0, "set": ["population=3", "sample=2"],
}  # fmt: skip


def tiny(**settings):
    return BlackBoxConfig.of(TINY | settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped."""
    path = tmp_path_factory.mktemp("whole") / "run"
    run_blackbox(tiny(), path)
    return path


def test_scores_are_accuracies_on_held_out_images(whole):
    rows = logged(whole)
    assert len(rows) == 6
    for row in rows:
        metrics = row["metrics"]
        assert set(metrics) == {"score", "valid_loss", "epochs", "uncertainty", "cost", "params", "flops"}
        assert metrics["epochs"] == 2
        assert 0 <= metrics["score"] <= 1
        assert metrics["score"] * 288 == pytest.approx(round(metrics["score"] * 288))  # a fifth of 1,437
    assert len({row["metrics"]["score"] for row in rows}) > 1
    page = build_report(whole).read_text()
    assert "estimator train, data digits" in page
    assert "Leaderboard" in page


@pytest.mark.parametrize("after", [1, 5])
def test_stopped_run_resumes_with_the_same_bits_and_trains_nothing_twice(after, whole, tmp_path, monkeypatch):
    """Stopped while an architecture is trained, of which there is no checkpoint yet."""
    train, trained = Trainer.train, []

    def stop(self, *given):
        if len(trained) == after:
            raise KeyboardInterrupt
        trained.append(self.label)
        return train(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", stop)
        with pytest.raises(KeyboardInterrupt):
            run_blackbox(tiny(), tmp_path / "run")
    before = set(trained)
    assert len(before) == after

    def note(self, *given):
        trained.append(self.label)
        return train(self, *given)

    monkeypatch.setattr(Trainer, "train", note)
    assert not resume_blackbox(tmp_path / "run").was_finished
    assert len(trained) == len(set(trained))
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert search_state(tmp_path / "run") == search_state(whole)


def test_lower_fidelities_cost_less_and_are_of_the_searched_architecture(whole, tmp_path):
    low = {"fidelity_set": ["channels=2"], "fidelity_size": 4, "fidelity_images": 0.03, "epochs": 1}
    run_blackbox(tiny(evaluations=2, **low), tmp_path / "run")
    for full, cheap in zip(logged(whole)[:2], logged(tmp_path / "run"), strict=True):
        assert full["arch"] == cheap["arch"]
        assert (full["metrics"]["params"], full["metrics"]["flops"]) == (
            cheap["metrics"]["params"],
            cheap["metrics"]["flops"],
        )
        assert 0 < cheap["metrics"]["cost"] < full["metrics"]["cost"] / 8


def test_a_smaller_space_of_other_decisions_is_refused_before_anything_is_written(tmp_path):
    settings = {"space": "darts", "space_set": ["layers=1", "channels=4", "steps=2"], "fidelity_set": ["steps=1"]}
    with pytest.raises(SpaceError, match="the smaller model must have the decisions of darts"):
        run_blackbox(tiny(**settings), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"leave .* to train on"):
        run_blackbox(tiny(batch_size=512), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_space_of_your_own_has_no_settings_for_a_smaller_one(tmp_path):
    class Mine(NASBench201):
        pass

    with pytest.raises(ConfigError, match="--space-set belongs to a space by name"):
        run_blackbox(tiny(), tmp_path / "run", space=Mine(4, 1))
    with pytest.raises(ConfigError, match="--fidelity-set belongs to a space by name, got one of your own"):
        run_blackbox(replace(tiny(fidelity_set=["channels=2"]), space_set=()), tmp_path / "run", space=Mine(4, 1))


def test_a_diverged_training_names_itself(tmp_path):
    with pytest.raises(TrainError, match="not finite"):
        run_blackbox(tiny(lr=1e30), tmp_path / "run")


def test_front_by_the_command_and_retraining_of_the_best(tmp_path):
    run = tmp_path / "run"
    options = ["--space", "nasbench201", "--strategy", "nsga2", "--estimator", "train", "--epochs", "1"]
    options += ["--batch-size", "16", "--fidelity-images", "0.02", "--evaluations", "4", "--set", "population=4"]
    for command in (["search", *options, "--out", str(run)], ["retrain", str(run), "--epochs", "1"]):
        result = RUNNER.invoke(app, [*command, "--quiet"])
        assert result.exit_code == 0, result.output
    found = json.loads((run / "architectures.json").read_text())
    assert found["objectives"] == ["score", "-params"]
    assert found["best"]["metrics"]["cost"] > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"table": "t.json"}, "--table belongs to --estimator table, got --estimator train"),
        ({"epochs": 0}, "--epochs must be at least 1"),
        (
            {"min_epochs": 2},
            "--min-epochs goes with --strategy successive-halving, asha, hyperband, bohb, got",
        ),
        ({"fidelity_images": 0.0}, "--fidelity-images must be"),
        ({"constraint": ["score>=90"]}, "the score is an accuracy here, a fraction from 0 to 1; got .*score>=90"),
        ({"fidelity_set": ["channels"]}, "--fidelity-set must be NAME=VALUE"),
        ({"estimator": "zero-cost", "epochs": 3}, "--epochs belongs to --estimator train, extrapolate or inherit, got"),
    ],
)
def test_options_that_do_not_go_together_are_named(settings, message):
    given = {name: value for name, value in TINY.items() if "estimator" not in settings or name == "estimator"}
    with pytest.raises(ConfigError, match=message):
        BlackBoxConfig.of(given | settings)
