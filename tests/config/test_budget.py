"""Budgets: their text, what is counted, and that searches of every kind keep them."""

import json
import re

import pytest
from click.testing import CliRunner

from nasfast.cli.app import app
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.config.budget import Budget, Meter, Spent
from nasfast.config.gradient import SearchConfig
from nasfast.config.oneshot import OneShotConfig
from nasfast.errors import ConfigError
from nasfast.spaces.nasbench_macro import NASBenchMacro
from nasfast.utils.clock import clock
from tests.helpers.runs import logged, tiny_options

RUNNER = CliRunner()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Budget()),
        ("200 trials", Budget(trials=200)),
        ("1 trial", Budget(trials=1)),
        ("90s", Budget(seconds=90)),
        ("30m", Budget(seconds=1800)),
        ("30 min", Budget(seconds=1800)),
        ("1.5h", Budget(seconds=5400)),
        ("2D", Budget(seconds=172800)),
        ("1h 30m", Budget(seconds=5400)),
        ("1h30m", Budget(seconds=5400)),
        ("1 Hour 30 minutes 5 sec", Budget(seconds=5405)),
        ("5 minutes", Budget(seconds=300)),
        ("1.5 h", Budget(seconds=5400)),
        ("2 hours", Budget(seconds=7200)),
        ("1 day, 3 trials", Budget(3, 86400)),
        ("90 seconds", Budget(seconds=90)),
        ("1 gpu-hour", Budget(gpu_hours=1)),
        ("8 cpu hours", Budget(cpu_hours=8)),
        ("10 gpu-hours", Budget(gpu_hours=10)),
        ("0.5 cpu-hours, 2h,20 trials", Budget(20, 7200, 0.5)),
    ],
)
def test_texts(text, expected):
    assert Budget.parse(text) == expected
    assert expected.timed == (text not in ("", "200 trials", "1 trial"))


@pytest.mark.parametrize(
    "text",
    [
        "30",
        "m",
        "-3 trials",
        "0 trials",
        "1.5 trials",
        "ten trials",
        "3 weeks",
        "1e3 s",
        "∞ h",
        "30m 1h",
        "1h 1h",
        "1h 30",
        "1h 3 trials",
        "1 trial 2 trials",
        "1 h our",
        "h",
        "1:30",
    ],
)
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(
        ConfigError,
        match=re.escape("--budget must be like '30m', '1h 30m', '2 hours', '200 trials'")
        + ".*"
        + re.escape(repr(text)),
    ):
        Budget.parse(text)


def test_two_limits_of_one_kind_are_refused():
    with pytest.raises(ConfigError, match="two limits of one kind: '1h, 20m'"):
        Budget.parse("1h, 20m")


def test_any_limit_ends_it():
    budget = Budget.parse("10 trials, 1h, 2 gpu-hours")
    for spent, share in (
        (Spent(), 0),
        (Spent(5), 0.5),
        (Spent(1, 2700.0), 0.75),
        (Spent(10), 1),
        (Spent(0, 0, 9, 3.0), 1.5),
    ):
        assert budget.share(spent) == share
        assert budget.is_spent(spent) == (share >= 1)
    assert not Budget().is_spent(Spent(10**9, 1e9, 1e9, 1e9))
    assert budget.text(Spent(3, 61.0, 0, 0.25)) == "1:01 of 1:00:00, 3 of 10 trials, 0.25 of 2 gpu-hours"
    assert clock(3599) == "59:59"


def test_meter_counts_all_sittings_and_workers(monkeypatch):
    now = 1000.0
    monkeypatch.setattr("nasfast.config.budget.monotonic", lambda: now)
    alone = Meter(threads=4, gpus=1.0, before=Spent(7, 100.0, 1.0, 2.0))
    shared = Meter(threads=2, gpus=0.5, worker_seconds=lambda: 7200.0)
    now += 1800.0
    assert alone.spent(9) == Spent(9, 1900.0, 1.0 + 0.5 * 4, 2.0 + 0.5)
    assert shared.spent(3) == Spent(3, 1800.0, 4.0, 1.0)


def test_hours_of_a_gpu_need_one():
    expected = r"--budget '3 gpu-hours' counts hours of a GPU; it needs --device cuda, got cpu"
    for make in (OneShotConfig.of, BlackBoxConfig.of, SearchConfig.of):
        table = {"table": "t"} if make == BlackBoxConfig.of else {}
        with pytest.raises(ConfigError, match=expected):
            make({"budget": "3 gpu-hours", **table})


def test_a_search_by_gradients_counts_no_trials():
    with pytest.raises(ConfigError, match="counts trials, which a search by gradients has not; see --epochs"):
        SearchConfig.of({"budget": "20 trials"})


def test_one_limit_of_evaluations(tmp_path):
    with pytest.raises(ConfigError, match="--evaluations 5 is --budget '5 trials'; leave it out"):
        OneShotConfig.of({"budget": "1h", "evaluations": 5})
    config = BlackBoxConfig.of({"table": "t", "budget": "1h"})
    assert config.most_evaluations > 10**9
    assert "evaluations" not in config.to_dict()
    assert BlackBoxConfig.of(config.to_dict()) == config


def test_a_search_by_gradients_stops_where_its_budget_is_spent(tmp_path):
    run = tmp_path / "run"
    command = ["search", "--budget", "4s", *tiny_options(epochs=1000, retrain=False), "--out", str(run), "--quiet"]
    result = RUNNER.invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "stopped early: the budget is spent: 0:0" in result.output
    epochs = [row for row in logged(run) if row["kind"] == "epoch"]
    assert 0 < len(epochs) < 900
    assert (run / "genotype.json").is_file()
    again = RUNNER.invoke(app, ["search", "--resume", str(run), "--quiet"])
    assert "there is nothing to resume" in again.output
    other = RUNNER.invoke(app, ["search", "--resume", str(run), "--budget", "1h", "--quiet"])
    assert other.exit_code == 1
    assert "leave out --budget; it can change --retrain, --retrain-epochs" in other.output


def test_a_shared_network_has_its_share_of_a_budget(tmp_path):
    run = tmp_path / "run"
    command = ["search", "--space", "nasbench201", "--strategy", "spos", "--budget", "6s", "--epochs", "1000"]
    command += ["--space-set", "channels=4", "--space-set", "cells=1", "--out", str(run), "--quiet"]
    result = RUNNER.invoke(app, command)
    assert result.exit_code == 0, result.output
    rows = logged(run)
    assert 0 < sum(row["kind"] == "epoch" for row in rows) < 900
    trials = sum(row["kind"] == "trial" for row in rows)
    assert trials > 0
    assert f"{trials} evaluations" in result.output
    assert "budget 6s" in (run / "report.html").read_text()
    assert "evaluations" not in json.loads((run / "config.json").read_text())["oneshot"]
    again = RUNNER.invoke(app, ["search", "--resume", str(run), "--quiet"])
    assert "there is nothing to resume" in again.output


def test_one_architecture_is_evaluated_in_any_case(tmp_path):
    space = NASBenchMacro()
    table = tmp_path / "table.json"
    table.write_text(json.dumps({space.decode(row): float(sum(row)) for row in space.all_rows()}))
    command = ["search", "--space", "nasbench-macro", "--table", str(table), "--budget", "0.001s", "--quiet"]
    result = RUNNER.invoke(app, [*command, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert "1 evaluations" in result.output


def test_a_table_is_searched_for_so_long(tmp_path):
    table = tmp_path / "table.json"
    space = NASBenchMacro()
    table.write_text(json.dumps({space.decode(row): float(sum(row)) for row in space.all_rows()}))
    command = ["search", "--space", "nasbench-macro", "--table", str(table), "--strategy", "random", "--budget", "1s"]
    result = RUNNER.invoke(app, [*command, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert re.search(r"the budget is spent: 0:\d\d of 0:01", result.output)
    assert f"{len(logged(tmp_path / 'run'))} evaluations" in result.output
