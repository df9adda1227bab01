"""The public functions: a search of each kind in one call, what comes back, errors that name the argument."""

import json
import logging

import numpy as np
import pytest

import nasfast
from nasfast.api import KINDS
from nasfast.errors import ConfigError, RunError
from nasfast.estimators import Estimate
from nasfast.spaces.mobilenet import MobileNetSpace
from tests.helpers.runs import TINY


class Counting:
    """An estimator of one's own: architectures with large choices are good."""

    name = "counting"

    def estimate(self, rows, fidelity=None):
        return [Estimate(float(np.sum(row))) for row in rows]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A finished search by gradients, through the public function."""
    return nasfast.run_search(out=tmp_path_factory.mktemp("api") / "run", **TINY)


def test_a_search_by_gradients_is_one_call(searched):
    assert not searched.was_finished
    assert searched.genotype is not None
    assert set(searched.results) == {"derived", "random"}
    assert searched.report.stat().st_size > 10_000
    assert str(searched).startswith("searched   2 epochs")


def test_a_finished_run_is_resumed_to_the_same_result(searched):
    searched.report.unlink()
    again = nasfast.resume_run(searched.path)
    assert again.was_finished
    assert again.genotype == searched.genotype
    assert again.report.is_file()


def test_what_was_found_is_retrained_tested_and_exported(searched, tmp_path):
    trained = nasfast.retrain_run(searched.path, label="again", epochs=1)
    accuracy, loss = nasfast.evaluate_model(searched.path, label="again")
    assert accuracy == pytest.approx(trained.test_acc)
    assert 0 <= accuracy <= 1
    assert loss == pytest.approx(trained.test_loss)
    path = nasfast.export_model(searched.path, label="again", format="pt2", out=tmp_path / "model.pt2")
    assert path.stat().st_size > 1000
    with pytest.raises(RunError, match="again"):
        nasfast.evaluate_model(searched.path, label="agaim")


def test_a_space_is_searched_by_evaluations_with_an_estimator_of_ones_own(tmp_path):
    space = MobileNetSpace(
        stages=((8, 1), (16, 2)),
        depths=(1, 2),
        widths=(1.0,),
        kernels=(3,),
        expansions=(2, 4),
        features=32,
        image_size=8,
    )
    found = nasfast.run_search(
        out=tmp_path / "run", space=space, strategy="random", estimator=Counting(), evaluations=8, threads=1
    )
    assert found.space is space
    assert found.evaluations == 8
    assert found.best.score == max(trial.score for trial in found.front)
    stored = json.loads((tmp_path / "run/config.json").read_text())["blackbox"]
    assert (stored["space"], stored["table"]) == (space.name, "counting")
    again = nasfast.resume_run(tmp_path / "run", budget="12 trials", space=space, estimator=Counting())
    assert again.evaluations == 12


def test_errors_name_the_argument_and_the_command_names_the_option(tmp_path):
    with pytest.raises(ConfigError, match=r"^batch_size must be at least 2") as caught:
        nasfast.run_search(out=tmp_path / "run", data="digits", batch_size=0)
    assert "--" not in str(caught.value)
    with pytest.raises(ConfigError, match="unknown setting 'epohcs'; did you mean epochs"):
        nasfast.run_search(out=tmp_path / "run", epohcs=3)
    with pytest.raises(ConfigError, match="did you mean regularized-evolution"):
        nasfast.run_search(out=tmp_path / "run", space="nasbench201", strategy="regularised-evolution")
    assert not (tmp_path / "run").exists()


def test_resuming_changes_what_no_step_has_read_and_nothing_else(searched, tmp_path):
    with pytest.raises(
        ConfigError, match=r"^resume takes its settings from .*; leave out budget, lr; it can change retr"
    ):
        nasfast.resume_run(searched.path, budget="5m", lr=0.1)
    with pytest.raises(RunError, match="is finished: nothing is left that reads retrain_epochs"):
        nasfast.resume_run(searched.path, retrain_epochs=5)
    kept = json.loads((searched.path / "config.json").read_text())
    assert kept["search"]["retrain_epochs"] == TINY["retrain_epochs"]


def test_a_retraining_takes_other_settings_until_it_begins(searched, tmp_path):
    stopped = nasfast.run_search(out=tmp_path / "run", **TINY | {"retrain": False, "retrain_batch_size": 2})
    assert not stopped.results
    changed = {"retrain": True, "retrain_batch_size": TINY["retrain_batch_size"]}
    result = nasfast.resume_run(tmp_path / "run", **changed)
    assert not result.was_finished
    for label, found in searched.results.items():
        assert (result.results[label].test_acc, result.results[label].test_loss) == (found.test_acc, found.test_loss)
    assert nasfast.resume_run(tmp_path / "run").was_finished
    with pytest.raises(ConfigError, match="retrain_batch_size"):
        nasfast.resume_run(tmp_path / "run", retrain_batch_size=1)


def test_every_kind_of_run_has_a_page_and_settings_of_its_own():
    from nasfast.report.build import _PAGES

    assert set(_PAGES) == {kind.key for kind in KINDS}
    assert len({kind.key for kind in KINDS}) == len(KINDS) == 4


def test_a_callers_log_hears_what_the_command_says(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="nasfast"):
        nasfast.run_search(
            out=tmp_path / "run", space="nasbench201", space_set=("channels=4", "cells=1"), strategy="spos",
            data="digits", epochs=1, batch_size=256, evaluations=2, ask=2, calibration=64, threads=1,
        )  # fmt: skip
    assert any("paths are computed" in record.message for record in caplog.records)


def test_an_estimator_by_name(tmp_path):
    space = nasfast.make_space("nasbench201", {"channels": 4, "cells": 1})
    estimator = nasfast.make_estimator("zero-cost", space, data="digits", proxy=("synflow",), proxy_images=8)
    rows = space.sample(np.random.default_rng(0), 2)
    assert all(np.isfinite(found.score) for found in estimator.estimate(rows))
    with pytest.raises(ConfigError, match=r"^out: train trains networks"):
        nasfast.make_estimator("train", space, data="digits")


SPACE = """
from nasfast.spaces.registry import register_space
from nasfast.spaces.nasbench_macro import NASBenchMacro

@register_space("{name}")
class Mine(NASBenchMacro):
    name = "{name}"

    def __init__(self, width: float = 0.25) -> None:
        super().__init__(width)
"""


def test_a_space_of_ones_own_has_a_name_on_the_command_line(tmp_path):
    from click.testing import CliRunner

    from nasfast.cli.app import app
    from nasfast.spaces.registry import SPACES

    plugin = tmp_path / "mine.py"
    plugin.write_text(SPACE.format(name="my-macro"))
    options = [
        "--estimator",
        "zero-cost",
        "--evaluations",
        "2",
        "--proxy-images",
        "8",
        "--strategy",
        "random",
        "--quiet",
    ]
    command = ["search", "--plugin", plugin, "--space", "my-macro", *options, "--out", tmp_path / "run"]
    try:
        result = CliRunner().invoke(app, [str(word) for word in command])
        assert result.exit_code == 0, result.output
        assert "searched   my-macro, 2 evaluations" in result.stdout
        with pytest.raises(ConfigError, match="there is a space 'my-macro' already"):
            nasfast.register_space("my-macro")(MobileNetSpace)
    finally:
        SPACES._entries.pop("my-macro", None)
    result = CliRunner().invoke(app, ["search", "--plugin", str(tmp_path / "none.py"), "--space", "my-macro"])
    assert result.exit_code == 1
    assert "--plugin must be a Python file" in result.stderr
