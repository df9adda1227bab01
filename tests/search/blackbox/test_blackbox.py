"""The black-box loop and its run folder: objectives, constraints, what is logged, kill and resume, report, commands."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from nasfast.cli.app import app
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.config.objectives import Constraint, Objective
from nasfast.errors import ConfigError, DataError, NasfastError, RunError, SpaceError
from nasfast.estimators.base import Estimate
from nasfast.report import build_report
from nasfast.runs.checkpoint import CheckpointError
from nasfast.search.blackbox.problem import Problem
from nasfast.search.blackbox.runner import resume_blackbox, run_blackbox
from nasfast.search.blackbox.search import BlackBoxSearch, SearchStuck
from nasfast.search.gradient.runner import resume_gradient
from nasfast.spaces.nasbench_macro import NASBenchMacro
from nasfast.strategies.registry import make_strategy, plain_strategies
from nasfast.utils.progress import Progress
from tests.helpers.paths import GOLDEN
from tests.helpers.sealed import write_sealed

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
RUNNER = CliRunner()
SPACE = NASBenchMacro()


def score_of(row):
    """Made up, but with a trade-off: larger digits are worth more and cost more."""
    return 50.0 + sum(digit * (9 - place) for place, digit in enumerate(row)) + 0.1 * row[0] * row[7]


class MadeUp:
    """Counts what it is asked."""

    name = "made up"

    def __init__(self):
        self.asked = []

    def estimate(self, rows, fidelity=None):
        self.asked += map(tuple, rows.tolist())
        return [Estimate(score_of(row), {"test_accuracy": score_of(row) - 1}) for row in rows.tolist()]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A whole table of the Macro space, as the command line takes it."""
    path = tmp_path_factory.mktemp("table") / "table.json"
    scores = {"".join(map(str, row)): score_of(row) for row in itertools.product(range(3), repeat=8)}
    path.write_text(json.dumps(scores))
    return path


def config_of(table="unused", **settings):
    base = {"space": "nasbench-macro", "table": str(table), "evaluations": 60, "checkpoint_seconds": 1e9}
    return BlackBoxConfig.of(base | settings)


def search_of(strategy="regularized-evolution", evaluations=60, batch=1, settings=None, **problem):
    problem = Problem(SPACE, MadeUp(), **problem)
    search = BlackBoxSearch(problem, make_strategy(strategy, settings).init(SPACE, 0), evaluations, batch)
    while not search.done():
        search.step()
    return search


def without_seconds(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_loop_spends_its_evaluations_and_keeps_the_best():
    search = search_of(evaluations=47, batch=5)
    assert [trial.number for trial in search.trials] == list(range(47))
    assert search.best().score == max(trial.score for trial in search.trials)
    for trial in search.trials:
        assert trial.score == score_of(trial.row)
        cost = SPACE.cost(trial.row)
        assert (trial.metrics["params"], trial.metrics["flops"]) == (cost.params, cost.flops)


def test_known_architectures_are_not_estimated_again():
    search = search_of("reinforce", 300, settings={"lr": 0.3})
    asked = search.problem.estimator.asked
    assert len(asked) == len(set(asked)) == len({trial.row for trial in search.trials}) < 300


def test_constraints_on_costs_hold_before_anything_is_estimated():
    limit = Constraint.parse("params<=1.2M")
    for name in plain_strategies():
        search = search_of(name, 80, batch=3, constraints=(limit,))
        assert search.rejected > 0
        assert all(SPACE.cost(row).params <= 1.2e6 for row in search.problem.estimator.asked), name
        assert all(trial.violation == 0 for trial in search.trials)


def test_constraints_on_scores_are_judged_afterwards():
    search = search_of(constraints=(Constraint.parse("score<=80"),), evaluations=100)
    assert any(trial.violation > 0 for trial in search.trials)
    assert search.best().score <= 80
    assert search.rejected == 0


def test_front_is_what_nothing_dominates():
    objectives = (Objective.parse("score"), Objective.parse("-params"))
    search = search_of("nsga2", 200, batch=20, objectives=objectives)
    front = {trial.row for trial in search.front()}
    points = {t.row: (t.score, -t.metrics["params"]) for t in search.trials}
    for row, (score, size) in points.items():
        beaten = any(s >= score and p >= size and (s, p) != (score, size) for s, p in points.values())
        assert (row in front) == (not beaten)
    assert len(front) > 5


def test_impossible_constraints_end_the_search_with_a_line(monkeypatch):
    monkeypatch.setattr("nasfast.search.blackbox.search._MOST_REJECTED", 300)
    with pytest.raises(
        SearchStuck, match=r"none of the last 300 proposals keeps params<=1000; the last one has params"
    ):
        search_of("random", 5, batch=100, constraints=(Constraint.parse("params<=1K"),))
    with pytest.raises(SearchStuck, match="none of 60 evaluated architectures keeps score>=1000"):
        search_of(constraints=(Constraint.parse("score>=1000"),)).best()


def test_estimates_that_are_no_numbers_stop_the_search():
    class Broken(MadeUp):
        def estimate(self, rows, fidelity=None):
            return [Estimate(float("nan"))] * len(rows)

    search = BlackBoxSearch(Problem(SPACE, Broken()), make_strategy("random").init(SPACE, 0), 5)
    with pytest.raises(NasfastError, match=r"made up: score of \d{8} is nan"):
        search.step()


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (Objective, "score!", "--objective must be a metric"),
        (Objective, "--params", "--objective must be a metric"),
        (Constraint, "params<5", "--constraint must be like"),
        (Constraint, "params<=much", "--constraint must be like"),
        (Constraint, "params<=nan", "--constraint must be like"),
        (
            Constraint,
            "test_accuracy>=90",
            "--constraint: test_accuracy is a fraction from 0 to 1, got 'test_accuracy>=90'",
        ),
        (Constraint, "valid_accuracy<=-1", "valid_accuracy is a fraction from 0 to 1"),
    ],
)
def test_bad_objectives_and_constraints_are_named(kind, text, message):
    with pytest.raises(ConfigError, match=message):
        kind.parse(text)


def test_unknown_metric_names_those_there_are():
    with pytest.raises(ConfigError, match=r"no metric 'latency'; expected one of flops, params, score, test_accuracy"):
        search_of("nsga2", objectives=(Objective("score"), Objective("latency", False)))


def test_several_objectives_need_a_strategy_for_them():
    with pytest.raises(ConfigError, match="RegularizedEvolution has one objective, got score, -params; use nsga2"):
        search_of(objectives=(Objective("score"), Objective("params", False)))


@pytest.mark.parametrize("name", plain_strategies())
def test_stopped_run_resumes_with_the_same_bits(name, table, tmp_path):
    """Stopped between any two steps, by an error that leaves the last checkpoint behind."""
    config = config_of(table, strategy=name, ask=4, evaluations=64, checkpoint_seconds=0)
    whole = run_blackbox(config, tmp_path / "whole")

    class Stop(MadeUp):
        def estimate(self, rows, fidelity=None):
            if len(self.asked) > 30:
                raise KeyboardInterrupt
            return super().estimate(rows, fidelity)

    with pytest.raises(KeyboardInterrupt):
        run_blackbox(config, tmp_path / "cut", estimator=Stop())
    assert 30 < len(without_seconds(tmp_path / "cut")) < 64
    resumed = resume_blackbox(tmp_path / "cut", estimator=_Scores())
    assert resumed.best == whole.best.__class__(whole.best.number, whole.best.row, resumed.best.metrics)
    rows = [[(r["number"], r["arch"]) for r in without_seconds(tmp_path / which)] for which in ("whole", "cut")]
    assert rows[0] == rows[1]
    states = [_state(tmp_path / which) for which in ("whole", "cut")]
    assert states[0] == states[1]


class _Scores(MadeUp):
    def estimate(self, rows, fidelity=None):
        return [Estimate(score_of(row)) for row in rows.tolist()]


def _state(run):
    from nasfast.runs.checkpoint import load_checkpoint

    return json.loads(load_checkpoint(run / "checkpoint.pt", "blackbox")["search"])


def start(*arguments):
    command = [sys.executable, "-m", "nasfast.cli.app", "search", *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_command_resumes_with_the_same_bits(number, table, tmp_path):
    options = ["--space", "nasbench-macro", "--strategy", "ppo", "--table", table, "--evaluations", 60]
    options += ["--checkpoint-seconds", 0, "--seed", 3, "--quiet"]
    runs = [tmp_path / "whole", tmp_path / "cut"]
    process = start(*options, "--out", runs[0])
    _, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    process = start(*options, "--out", runs[1])
    log = runs[1] / "metrics.jsonl"
    while not (log.exists() and log.read_bytes().count(b"\n") > 20):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=280)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert f"go on with: nasfast search --resume {runs[1]}" in errors
    assert log.read_bytes().count(b"\n") < 60
    process = start("--resume", runs[1], "--quiet")
    output, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    assert "best       " in output
    assert (runs[0] / "metrics.jsonl").read_bytes() == log.read_bytes()
    assert (runs[0] / "architectures.json").read_bytes() == (runs[1] / "architectures.json").read_bytes()
    assert _state(runs[0]) == _state(runs[1])


def test_finished_run_has_nothing_to_resume(table, tmp_path):
    run_blackbox(config_of(table), tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    result = resume_blackbox(tmp_path / "run")
    assert result.was_finished
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_checkpoint_that_does_not_fit_is_refused(table, tmp_path):
    run_blackbox(config_of(table), tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    content = json.loads(config.read_text())
    content["blackbox"]["strategy"] = "nsga2"
    write_sealed(config, content)
    with pytest.raises(CheckpointError, match=r"does not fit the run's config.json and log"):
        resume_blackbox(tmp_path / "run")


def test_space_of_ones_own_runs_and_resumes(tmp_path):
    from tests.spaces.test_spaces import TwoLayers

    class Widest(MadeUp):
        def estimate(self, rows, fidelity=None):
            return [Estimate(float(row.sum())) for row in rows]

    space = TwoLayers()
    result = run_blackbox(config_of(evaluations=12), tmp_path / "run", space=space, estimator=Widest())
    assert space.decode(result.best.row) == "width=8 first=mine second=identity"
    page = build_report(tmp_path / "run").read_text()
    assert "width=8 first=mine second=identity" in page
    assert "It cannot be drawn: unknown space" in page
    assert resume_blackbox(tmp_path / "run", space=space, estimator=Widest()).was_finished
    with pytest.raises(SpaceError, match="searches two-layers, got the space nasbench-macro"):
        resume_blackbox(tmp_path / "run", space=SPACE, estimator=Widest())


@pytest.mark.parametrize("name", plain_strategies())
def test_command_runs_every_strategy_and_reports(name, table, tmp_path):
    out = tmp_path / "run"
    options = ["--space", "nasbench-macro", "--strategy", name, "--estimator", "table", "--table", str(table)]
    result = RUNNER.invoke(app, ["search", *options, "--evaluations", "40", "--out", str(out), "--quiet"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "searched   nasbench-macro, 40 evaluations"
    assert re.fullmatch(r"best       [012]{8}", lines[1])
    assert lines[-1] == f"report     {out}/report.html"
    found = json.loads((out / "architectures.json").read_text())
    assert found["best"]["arch"] == lines[1].split()[1]
    assert found["best"]["metrics"]["score"] == score_of([int(d) for d in found["best"]["arch"]])
    assert found["objectives"] == (["score", "-params"] if name == "nsga2" else ["score"])
    page = (out / "report.html").read_text()
    assert page.count('<figure class="chart scatter">') == (1 if name == "nsga2" else 2)
    assert "Leaderboard" in page
    assert page.count('<circle class="front"') >= 1
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    again = RUNNER.invoke(app, ["report", str(out)])
    assert again.exit_code == 0
    assert (out / "report.html").read_text() == page


@pytest.mark.parametrize(("name", "epochs"), [("random", ()), ("successive-halving", (9, 27))])
def test_search_of_a_csv_file_is_that_of_a_json_file(name, epochs, table, tmp_path):
    scores = {arch: [score + b for b in epochs] or [score] for arch, score in json.loads(table.read_text()).items()}
    (tmp_path / "t.csv").write_text(
        ",".join(["arch", *map(str, epochs or ["score"])]) + "\n"
        + "".join(f"{arch},{','.join(map(str, found))}\n" for arch, found in scores.items())
    )  # fmt: skip
    by_epochs = {arch: dict(zip(map(str, epochs), found, strict=True)) for arch, found in scores.items() if epochs}
    (tmp_path / "t.json").write_text(json.dumps(by_epochs) if epochs else table.read_text())
    for kind in ("csv", "json"):
        options = ["--space", "nasbench-macro", "--strategy", name, "--table", str(tmp_path / f"t.{kind}")]
        result = RUNNER.invoke(
            app, ["search", *options, "--evaluations", "40", "--out", str(tmp_path / kind), "--quiet"]
        )
        assert result.exit_code == 0, result.output
    for file in ("metrics.jsonl", "architectures.json"):
        assert (tmp_path / "csv" / file).read_bytes() == (tmp_path / "json" / file).read_bytes()


def test_report_of_a_run_that_has_just_begun(table, tmp_path):
    config = config_of(table)
    with pytest.raises(KeyboardInterrupt):
        run_blackbox(config, tmp_path / "run", estimator=_Interrupted())
    from nasfast.report.build import build_report

    assert "Nothing was evaluated yet." in build_report(tmp_path / "run").read_text()


class _Interrupted(MadeUp):
    def estimate(self, rows, fidelity=None):
        raise KeyboardInterrupt


def test_config_of_a_run_repeats_it(table, tmp_path):
    options = ["search", "--quiet", "--evaluations", "30"]
    first = ["--space", "nasbench-macro", "--table", str(table), "--set", "population=5", "--set", "sample=2"]
    assert RUNNER.invoke(app, [*options, *first, "--out", str(tmp_path / "a")]).exit_code == 0
    second = ["--config", str(tmp_path / "a" / "config.json"), "--out", str(tmp_path / "b")]
    result = RUNNER.invoke(app, [*options, *second])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == (tmp_path / "b" / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--space", "nasbench-macro"], "--estimator table needs --table FILE"),
        (["--space", "nasbench-macro", "--table", "TABLE", "--epochs", "3"], "--epochs belongs to --estimator train"),
        (["--strategy", "ppo"], "--strategy ppo searches a space by name; add --space"),
        (["--evaluations", "5"], "--evaluations belongs to the search of a space; add --space"),
        (["--space", "nasbench-macro", "--strategy", "pcdarts"], "--strategy pcdarts lets channels pass by"),
        (["--space", "mobilenet", "--strategy", "gdas"], "--strategy gdas mixes operations where they are"),
        (
            ["--space", "nasbench-macro", "--strategy", "darts", "--evaluations", "5"],
            "--evaluations does not go with --strategy darts, which learns by gradients",
        ),
        (["--space", "macro", "--table", "TABLE"], "unknown space 'macro'"),
        (["--space", "darts", "--table", "TABLE"], "no table can hold a score of each; use --estimator oneshot"),
        (
            ["--space", "nasbench-macro", "--table", "TABLE", "--estimator", "oracle"],
            "--estimator must be one of table",
        ),
        (["--space", "nasbench-macro", "--table", "TABLE", "--set", "population"], "--set must be NAME=VALUE"),
        (["--space", "nasbench-macro", "--table", "TABLE", "--set", "age=3"], "has no setting 'age'"),
        (["--space", "nasbench-macro", "--table", "TABLE", "--evaluations", "0"], "--evaluations must be at least 1"),
        (
            ["--space", "nasbench-macro", "--table", "TABLE", "--epochs-seen", "12"],
            "no scores for a fidelity of 12 epochs",
        ),
        (
            ["--space", "nasbench-macro", "--table", "TABLE", "--objective", "score", "--objective=-flops"],
            "follows one objective",
        ),
        (["--space", "nasbench-macro", "--table", "TABLE", "--objective", "latency"], "there is no metric 'latency'"),
    ],
)
def test_what_makes_no_sense_says_why_in_one_line(options, message, table, tmp_path):
    arguments = [str(table) if option == "TABLE" else option for option in options]
    result = RUNNER.invoke(app, ["search", *arguments, "--out", str(tmp_path / "run"), "--quiet"])
    lines = result.stderr.splitlines()
    assert result.exit_code == 1, result.output
    assert len(lines) == 1
    assert lines[0].startswith("nasfast: error: ")
    assert message in lines[0]


def test_networks_are_not_trained_after_a_search_of_a_table(table, tmp_path):
    run_blackbox(config_of(table, evaluations=5), tmp_path / "run")
    for command in ("retrain", "evaluate"):
        result = RUNNER.invoke(app, [command, str(tmp_path / "run")])
        assert result.exit_code == 1
        assert "has searched a table: it has no images" in result.stderr
    with pytest.raises(RunError, match="holds no search settings"):
        resume_gradient(tmp_path / "run")


def test_a_folder_goes_again_where_a_bad_setting_shows_late(table, tmp_path):
    run, other = tmp_path / "run", tmp_path / "slice.json"
    with pytest.raises(ConfigError, match="there is no metric 'nope'"):
        run_blackbox(config_of(table, objective=["nope"]), run)
    assert not run.exists()
    other.write_text(json.dumps(dict([next(iter(json.loads(table.read_text()).items()))])))
    with pytest.raises(DataError, match="has no score for"):
        run_blackbox(config_of(other), run)
    assert not run.exists()
    assert run_blackbox(config_of(table), run).evaluations == 60


def test_a_search_whose_rungs_are_not_reached_says_so(tmp_path, capsys):
    path = tmp_path / "rungs.json"
    path.write_text(
        json.dumps({SPACE.decode(row): {"3": score_of(row), "9": score_of(row)} for row in SPACE.all_rows()})
    )
    for strategy, advice in (("successive-halving", "more evaluations, or a smaller --set first="), ("asha", None)):
        run_blackbox(config_of(path, strategy=strategy, evaluations=12), tmp_path / strategy, Progress())
        text = " ".join(capsys.readouterr().err.split())
        assert ("no architecture came to 9 epochs, the best one is of 3 epochs" in text) == (advice is not None)
        assert advice is None or advice in text


def test_fidelity_is_what_the_search_sees(tmp_path):
    path = GOLDEN / "nasbench201_slice.npz"
    from nasfast.estimators.table import TableEstimator
    from nasfast.spaces.nasbench201 import NASBench201

    space = NASBench201()
    with np.load(path, allow_pickle=False) as file:
        rows, scores = file["ops"].astype(int), file["val_acc_cifar10_e12"]
    problem = Problem(space, TableEstimator(path, space), fidelity=12)
    strategy = make_strategy("random").init(space, 0)
    strategy.ask = lambda count: rows[:count]
    search = BlackBoxSearch(problem, strategy, 5, 5)
    search.step()
    assert [trial.score for trial in search.trials] == [float(score) / 100 for score in scores[:5]]
