"""A black-box search whose estimator looks at images: settings, run folder, stop and resume, report."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from nasfast.cli.app import app
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.errors import ConfigError, DataError
from nasfast.estimators.zero_cost import ZeroCostEstimator
from nasfast.report import build_report
from nasfast.runs.folder import RunFolder
from nasfast.search.blackbox import estimator as blackbox_estimator
from nasfast.search.blackbox.runner import resume_blackbox, run_blackbox
from nasfast.training.model_file import load_model
from tests.cli.test_cli import write_images
from tests.helpers.runs import logged, search_state

RUNNER = CliRunner()
TINY = {
    "estimator": "zero-cost", "space_set": ["channels=4", "cells=1"], "proxy": ["naswot", "synflow"],
    "proxy_images": 16, "evaluations": 24, "ask": 3, "threads": 1, "checkpoint_seconds": 0,
    "set": ["population=6", "sample=3"],
}  # fmt: skip


def tiny(**settings):
    return BlackBoxConfig.of(TINY | settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped."""
    path = tmp_path_factory.mktemp("whole") / "run"
    run_blackbox(tiny(), path)
    return path


def test_metrics_are_the_proxies_on_the_task(whole):
    result = resume_blackbox(whole)
    assert result.was_finished
    rows = logged(whole)
    assert len(rows) == 24
    for row in rows:
        metrics = row["metrics"]
        assert set(metrics) == {"score", "naswot", "synflow", "cost", "params", "flops"}
        assert metrics["score"] == metrics["naswot"]
        cost = result.space.cost(row["row"], 10, size=8)
        assert (metrics["params"], metrics["flops"]) == (cost.params, cost.flops)
    assert result.best.score == max(row["metrics"]["score"] for row in rows)
    page = build_report(whole).read_text()
    assert "estimator zero-cost, data digits" in page
    assert "Leaderboard" in page
    assert "naswot" in page


def test_functions_that_were_scored_before_cost_nothing(whole):
    space = tiny().make_space()
    forms = [space.graph(row["row"]).form() for row in logged(whole)]
    first = [form not in forms[:i] for i, form in enumerate(forms)]
    assert [row["metrics"]["cost"] > 0 for row in logged(whole)] == first


@pytest.mark.parametrize("after", [5, 17])
def test_stopped_run_resumes_with_the_same_bits(after, whole, tmp_path, monkeypatch):
    estimate, asked = ZeroCostEstimator.estimate, []

    def stop(self, rows, fidelity=None):
        if len(asked) >= after:
            raise KeyboardInterrupt
        asked.extend(rows.tolist())
        return estimate(self, rows, fidelity)

    with monkeypatch.context() as patch:
        patch.setattr(ZeroCostEstimator, "estimate", stop)
        with pytest.raises(KeyboardInterrupt):
            run_blackbox(tiny(), tmp_path / "run")
    assert 0 < len(logged(tmp_path / "run")) < 24
    assert not resume_blackbox(tmp_path / "run").was_finished
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert search_state(tmp_path / "run") == search_state(whole)


def test_images_of_another_folder_are_refused(tmp_path):
    folder = write_images(tmp_path / "images", count=20)
    config = tiny(data=str(folder), evaluations=3, threads=1)
    run_blackbox(config, tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["blackbox"]
    assert stored["data"] == str(folder.resolve())
    (folder / "cat" / "0.png").write_bytes((folder / "dog" / "0.png").read_bytes())
    with pytest.raises(DataError, match="the images are not those that it began with"):
        resume_blackbox(tmp_path / "run")


def test_batch_is_one_of_the_train_images(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        blackbox_estimator, "ZeroCostEstimator", lambda space, images, *rest, **more: seen.update(images=images)
    )
    config = tiny(proxy_images=32)
    blackbox_estimator.make_task(config, config.make_space(), Path("none"), blackbox_estimator.Progress(quiet=True))
    assert seen["images"].shape == (32, 3, 8, 8)
    assert abs(float(seen["images"].mean())) < 0.2
    assert len(torch.unique(seen["images"].flatten(1), dim=0)) == 32
    config = tiny(proxy_images=5000)
    with pytest.raises(DataError, match="--proxy-images 5000 is more than the 14"):
        blackbox_estimator.make_task(config, config.make_space(), Path("none"), blackbox_estimator.Progress(quiet=True))


def test_config_holds_the_options_of_its_estimator_alone(whole):
    stored = json.loads((whole / "config.json").read_text())["blackbox"]
    assert {"proxy", "proxy_images", "data", "device"} <= set(stored)
    assert not {"table", "epochs_seen", "crop_pad", "checkpoint_steps"} & set(stored)
    table = BlackBoxConfig.of({"table": "t.json"}).to_dict()
    assert not {"proxy", "data", "device", "flip"} & set(table)
    assert BlackBoxConfig.of(stored).to_dict() == stored
    assert BlackBoxConfig.of(table).to_dict() == table


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"estimator": "zero-cost", "table": "t.json"}, "--table belongs to --estimator table, got --estimator zero"),
        ({"table": "t.json", "proxy": ["zen"]}, "--proxy belongs to --estimator zero-cost, got --estimator table"),
        ({"table": "t.json", "data": "digits"}, "--data belongs to --estimator zero-cost, train, extrapolate or inh"),
        ({"estimator": "zero-cost", "cutout": 3}, "--cutout does not go with --space"),
        ({"estimator": "zero-cost", "proxy": ["zenn"]}, "unknown zero-cost proxy 'zenn'"),
        ({"estimator": "zero-cost", "proxy_images": 1}, "--proxy-images must be at least 2"),
    ],
)
def test_options_that_do_not_go_together_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        BlackBoxConfig.of(settings)


def test_front_of_two_proxies_by_the_command(tmp_path):
    options = ["--space", "nasbench201", "--strategy", "nsga2", "--estimator", "zero-cost", "--proxy", "synflow"]
    options += ["--proxy", "naswot", "--objective", "synflow", "--objective", "naswot", "--objective=-params"]
    options += ["--proxy-images", "8", "--evaluations", "12", "--proxy-draws", "2", "--set", "population=4"]
    result = RUNNER.invoke(app, ["search", *options, "--out", str(tmp_path / "run"), "--quiet"])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "run" / "architectures.json").read_text())
    assert found["objectives"] == ["synflow", "naswot", "-params"]
    assert found["best"]["metrics"]["uncertainty"] > 0


def test_the_best_architecture_is_trained_and_tested(whole):
    for command in (["retrain", "--epochs", 1], ["evaluate"]):
        result = RUNNER.invoke(app, [command[0], str(whole), *map(str, command[1:]), "--quiet"])
        assert result.exit_code == 0, result.output
    assert result.stdout.startswith("best: test accuracy ")
    found = load_model(RunFolder.open(whole, lock=False), "best").info
    assert found.arch == json.loads((whole / "architectures.json").read_text())["best"]["arch"]
    assert found.settings == {"channels": "4", "cells": "1"}
