"""Estimators set beside the full training: rank correlations, the run folder, stop and resume, the report."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.stats import kendalltau, spearmanr
from sklearn.datasets import load_digits

from bench.compare import main as bench_main
from nasfast.cli.app import app
from nasfast.compare.methods import REFERENCE
from nasfast.compare.rank_correlation import compare, interval, kendall, spearman
from nasfast.compare.runner import draw_rows, resume_compare, run_compare
from nasfast.config.compare import CompareConfig
from nasfast.data import load_data
from nasfast.errors import ConfigError, DataError, RunError
from nasfast.estimators import Fidelity, TrainSettings
from nasfast.estimators.curves.estimator import CurveEstimator
from nasfast.report.build import build_report
from nasfast.report.comparison import comparison_svg
from nasfast.runs.checkpoint import FORMAT
from nasfast.runs.metrics import MetricsLog
from nasfast.spaces.registry import make_space
from tests.helpers.runs import logged, without_times
from tests.helpers.sealed import write_sealed

SPACE_SET = ("channels=4", "cells=1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """140 of the digits as an image folder."""
    path, digits = tmp_path_factory.mktemp("images"), load_digits()
    for label in range(10):
        (path / str(label)).mkdir()
        for i, image in enumerate(digits.images[digits.target == label][:14]):
            Image.fromarray((image * 15).astype(np.uint8)).convert("RGB").save(path / str(label) / f"{i}.png")
    return path


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Tables of all that is compared, of all but the first, and of another space."""
    space, path = make_space("nasbench201"), tmp_path_factory.mktemp("tables")
    scores = {space.decode(row): float(number) for number, row in enumerate(draw_rows(space, 8, 0))}
    (path / "whole.json").write_text(json.dumps(scores))
    some = list(scores.items())[1:]
    (path / "some.csv").write_text("arch,score\n" + "".join(f"{arch},{score}\n" for arch, score in some))
    (path / "macro.json").write_text('{"22212220": 93.5}')
    return path


@pytest.fixture(scope="module")
def settings(folder, tables):
    return {
        "space": "nasbench201", "space_set": SPACE_SET, "architectures": 8, "data": str(folder), "epochs": 5,
        "batch_size": 16, "oneshot_epochs": 1, "calibration": 16, "threads": 1, "table": str(tables / "whole.json"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    return run_compare(CompareConfig.of(settings), tmp_path_factory.mktemp("runs") / "run")


def test_rank_correlations_are_those_of_scipy():
    generator = np.random.default_rng(0)
    for _ in range(20):
        ours, truth = generator.integers(0, 6, (2, 15)).astype(float)
        assert kendall(ours, truth) == pytest.approx(kendalltau(ours, truth).statistic)
        assert spearman(ours, truth) == pytest.approx(spearmanr(ours, truth).statistic)
    assert kendall(np.zeros(5), np.arange(5.0)) is None
    assert spearman(np.zeros(5), np.arange(5.0)) is None


def test_interval_holds_tau_and_narrows():
    generator = np.random.default_rng(1)

    def of(count):
        truth = generator.normal(size=count)
        score = truth + generator.normal(size=count)
        rows = [{i: {"score": v, "uncertainty": None, "cost": 2.0, "seconds": 1.0} for i, v in enumerate(values)}
                for values in (score, truth)]  # fmt: skip
        return compare("a", "b", *rows, seed=0)

    few, many = of(15), of(150)
    for found in (few, many):
        assert found.low < found.tau < found.high
    assert many.high - many.low < 0.6 * (few.high - few.low)
    assert (many.count, many.flops, many.seconds, many.uncertainty) == (150, 2.0, 1.0, None)


def test_interval_of_scores_that_tell_one_from_the_rest_holds_none():
    truth = np.arange(12.0)
    low, high = interval(np.where(truth == 11, 1.0, 0.0), truth, 0)
    assert low == 0 < high
    assert interval(np.ones(12), truth, 0) == (None, None)


def test_every_estimator_has_cost_and_rank(finished):
    by_name = {row.name: row for row in finished.comparisons}
    families = {row.family for row in finished.comparisons}
    assert families == {
        "training", "lower fidelity", "learning curve", "zero-cost", "one-shot", "inherited weights", "predictor",
        "table",
    }  # fmt: skip
    reference = by_name[REFERENCE]
    assert (reference.tau, reference.count, finished.omitted) == (pytest.approx(1.0), 8, {})
    for name in ("1 of 5 epochs", "a quarter of the images", "images of 4 pixels", "half the channels"):
        assert 0 < by_name[name].flops < 0.5 * reference.flops
        assert by_name[name].uncertainty > 0
    assert by_name["learning curve, 3 of 5 epochs seen"].flops < reference.flops
    assert by_name["naswot"].flops > 0 == by_name["params"].flops
    shared = by_name["one-shot, shared statistics"].flops
    assert by_name["one-shot, recalibrated"].flops > shared
    assert all(row.count == (4 if row.family == "predictor" else 8) for row in finished.comparisons)


def test_table_is_one_more_estimator(finished):
    estimates = [row for row in logged(finished.path) if row["kind"] == "estimate"]
    by_number = {row["number"]: row["score"] for row in estimates if row["method"] == REFERENCE}
    (found,) = (row for row in finished.comparisons if row.family == "table")
    assert (found.name, found.count, found.flops, found.uncertainty) == ("table", 8, 0.0, None)
    assert [row["score"] for row in estimates if row["method"] == "table"] == list(range(8))
    assert found.tau == pytest.approx(kendall(np.arange(8.0), np.array([by_number[n] for n in range(8)])))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.json", "no table at .*gone.json"),
        ("macro.json", "macro.json is no table of nasbench201"),
        ("some.csv", r"--table must have every architecture that is compared: .*some.csv has no score for 1 of 8 "
         r"architectures, such as \|.*; it holds 7 of 15,625 architectures of nasbench201"),
    ],
)  # fmt: skip
def test_table_is_read_before_anything_is_trained(settings, tables, tmp_path, name, message):
    with pytest.raises(DataError, match=message):
        run_compare(CompareConfig.of(settings | {"table": str(tables / name)}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_run_that_was_cut_goes_on_to_the_same_estimates(finished, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(finished.path, path)
    rows = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    at = next(i for i, row in enumerate(rows) if '"synflow"' in row) - 2  # within the learning curves
    MetricsLog(path / "metrics.jsonl").truncate(len("".join(rows[:at]).encode()))
    for file in ("comparison.json", "candidates/oneshot.pt"):
        (path / file).unlink()
    assert "not finished" in build_report(path).read_text()
    resumed = resume_compare(path)
    assert without_times(logged(path)) == without_times(logged(finished.path))
    assert [row.tau for row in resumed.comparisons] == [row.tau for row in finished.comparisons]


def test_report_draws_and_lists_every_estimator(finished):
    page = build_report(finished.path).read_text()
    for row in finished.comparisons:
        assert page.count(row.name) >= (1 if row.tau is None else 3)  # the table, and two charts where it ranks at all
    assert "nasfast compare --data " in page
    assert "--space nasbench201" in page
    svg = comparison_svg([row.to_dict() for row in finished.comparisons], "flops", "FLOPs")
    drawn = [row for row in finished.comparisons if row.tau is not None]
    assert svg.count("<circle") == len(drawn) > 15


def test_bench_writes_what_a_comparison_has_measured(finished, tmp_path, capsys):
    files = ["--json", str(tmp_path / "out.json"), "--plot", str(tmp_path / "out.svg")]
    assert bench_main([str(finished.path), *files]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert [row["name"] for row in found["estimators"]] == [row.name for row in finished.comparisons]
    assert found["accuracies"].startswith("percent")
    for row, ours in zip(found["estimators"], finished.comparisons, strict=True):
        unit = 1 if ours.family in ("zero-cost", "table") else 100
        assert row["uncertainty"] == (ours.uncertainty and unit * ours.uncertainty)
    assert found["settings"]["epochs"] == 5
    assert "data_root" not in found["settings"]
    assert found["environment"]["threads"] == 1
    assert (tmp_path / "out.svg").read_text().startswith("<svg")
    lines = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    taus = [float(line[2].replace("−", "-")) for line in lines[1:] if line[2].strip()]
    assert len(lines) == len(finished.comparisons)  # a head, and all but the reference
    assert taus == sorted(taus, reverse=True)


def test_bench_refuses_a_comparison_that_is_not_finished(finished, tmp_path, capsys):
    shutil.copytree(finished.path, tmp_path / "run")
    (tmp_path / "run" / "comparison.json").unlink()
    assert bench_main([str(tmp_path / "run")]) == 1
    assert "is no finished comparison; go on with nasfast compare --resume" in capsys.readouterr().err


class TwoFunctions:
    name = "two"

    def sample(self, generator, count):
        return generator.integers(0, 2, (count, 1))

    def canonical(self, row):
        return str(row[0])


def test_drawn_architectures_are_different_functions():
    space = make_space("nasbench201")
    rows = draw_rows(space, 40, 0)
    assert len({space.canonical(row) for row in rows}) == 40
    with pytest.raises(DataError, match="two: found 2 different architectures, expected 3"):
        draw_rows(TwoFunctions(), 3, 0)


def test_errors_name_what_is_wrong(settings, finished, tmp_path):
    with pytest.raises(ConfigError, match="--epoch does not go with a comparison"):
        CompareConfig.of(settings | {"epoch": 3})
    with pytest.raises(ConfigError, match="--architectures must be at least 8"):
        CompareConfig.of(settings | {"architectures": 3})
    with pytest.raises(RunError, match="exists already"):
        run_compare(CompareConfig.of(settings), finished.path)
    write_sealed(tmp_path / "config.json", {"format": FORMAT})
    with pytest.raises(RunError, match="no settings of a comparison"):
        resume_compare(tmp_path)


def test_command_line_resumes_a_finished_comparison(finished):
    result = CliRunner().invoke(app, ["compare", "--resume", str(finished.path), "--quiet"])
    assert result.exit_code == 0
    assert "one-shot, recalibrated" in result.output
    result = CliRunner().invoke(app, ["compare", "--resume", str(finished.path), "--epochs", "6"])
    assert result.exit_code == 2


def test_curve_is_that_of_the_whole_training(tmp_path):
    data, space = load_data("digits"), make_space("nasbench201", {"channels": "4", "cells": "1"})
    row = space.sample(np.random.default_rng(0), 1)
    settings = TrainSettings(batch_size=256, lr=0.1)
    estimator = CurveEstimator(space, data, tmp_path, 3, settings, Fidelity(6))
    one, again = estimator.estimate(row)[0], estimator.estimate(row)[0]
    assert one == again
    assert one.uncertainty > 0
    longer = CurveEstimator(space, data, tmp_path / "other", 3, settings, Fidelity(60)).estimate(row)[0]
    assert longer.cost == one.cost
    assert longer.score != one.score
    with pytest.raises(ConfigError, match="seen must be 3 to 5 epochs, got 6"):
        CurveEstimator(space, data, tmp_path, 6, settings, Fidelity(6))
