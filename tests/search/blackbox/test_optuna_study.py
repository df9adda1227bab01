"""Optuna's file in a run folder: what it shows, a stop at any time, and what is wrong with it in one line."""

import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from nasfast.config.blackbox import BlackBoxConfig
from nasfast.errors import RunError
from nasfast.estimators.table import TableEstimator
from nasfast.runs.mark import End, Mark
from nasfast.search.blackbox.optuna_study import STUDY, StudyFile, _distribution
from nasfast.search.blackbox.runner import resume_blackbox, run_blackbox
from nasfast.spaces.base import Decision
from nasfast.spaces.joint import JointSpace
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.spaces.nasbench_macro import NASBenchMacro
from nasfast.strategies.registry import make_strategy
from tests.helpers.require import require
from tests.helpers.runs import load_study, logged, study_of

optuna = require("optuna")
SPACE = NASBenchMacro()
RUNGS = (3, 9, 27)
OPTUNAS = ("asha", "hyperband", "bohb")


def score_of(row, epochs):
    return float(sum(row) - 3 / epochs + np.random.default_rng([epochs, *row]).normal())


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "curves.json"
    rows = SPACE.all_rows()
    path.write_text(json.dumps({SPACE.decode(row): {str(e): score_of(row, e) for e in RUNGS} for row in rows}))
    return path


def config_of(table, **settings):
    given = {"space": "nasbench-macro", "table": str(table), "strategy": "asha", "evaluations": 60, "ask": 2}
    return BlackBoxConfig.of(given | {"checkpoint_seconds": 0} | settings)


@pytest.fixture(scope="module")
def whole(table, tmp_path_factory):
    """A run that was never stopped."""
    path = tmp_path_factory.mktemp("whole") / "run"
    run_blackbox(config_of(table), path)
    return path


@pytest.mark.parametrize("name", OPTUNAS)
def test_trials_are_those_of_the_search(name, table, tmp_path):
    run = tmp_path / "run"
    result = run_blackbox(config_of(table, strategy=name, constraint=["params<=1.5M"]), run)
    study = load_study(run / "optuna.journal")
    scores, rows = {}, logged(run)
    for row in rows:
        scores.setdefault(row["arch"], {})[int(row["metrics"]["fidelity"])] = row["metrics"]["score"]
    seen = {}
    for trial in study.trials:
        arch, state = trial.user_attrs["arch"], trial.state.name
        assert trial.params == SPACE.choices(SPACE.encode(arch))
        assert all(scores[arch][epochs] == score for epochs, score in trial.intermediate_values.items())
        if trial.intermediate_values:
            last = max(trial.intermediate_values)
            assert trial.user_attrs["epochs"] == last
            seen.setdefault(arch, {}).update(trial.intermediate_values)
            assert state != "COMPLETE" or (last, trial.value) == (27, trial.intermediate_values[27])
        assert (trial.datetime_complete is None) == (state == "RUNNING")
    assert seen == scores
    states = {trial.state.name for trial in study.trials}
    assert states >= {"COMPLETE", "PRUNED", "FAIL"}
    assert study.best_value == max(s[27] for s in scores.values() if 27 in s)
    assert result.best.score == study.best_value


def test_other_searches_have_none(table, tmp_path):
    for name in ("random", "successive-halving"):
        run_blackbox(config_of(table, strategy=name), tmp_path / name)
        assert not (tmp_path / name / "optuna.journal").exists()


def test_the_file_says_what_the_strategy_says(tmp_path):
    """Through no table or version of Optuna's own: written and read by its public functions."""
    strategy = make_strategy("asha")
    strategy.rungs = RUNGS
    strategy.init(SPACE, 0)
    file = StudyFile(tmp_path / "optuna.journal", strategy)
    for step in range(30):  # with a write between the estimates of trials that go on
        rows = strategy.ask(2)
        file.write()
        violations = np.full(len(rows), float(step == 3))
        strategy.tell(rows, np.array([[score_of(row, 3)] for row in rows]), violations)
    strategy.ask(2)
    file.write()
    study = load_study(file.path)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE"]
    assert len(study.trials) == len(strategy.trials()) > 30
    assert {trial.state.name for trial in study.trials} == {"COMPLETE", "PRUNED", "FAIL", "RUNNING"}
    for shown, trial in zip(study.trials, strategy.trials(), strict=True):
        row = [trial.params[decision.name] for decision in SPACE.decisions]
        assert (shown.number, shown.state, shown.values) == (trial.number, trial.state, trial.values)
        assert shown.params == SPACE.choices(row)
        assert list(shown.intermediate_values.values()) == list(trial.intermediate_values.values())
        assert list(shown.intermediate_values) == list(RUNGS[: len(trial.intermediate_values)])
        assert shown.user_attrs["arch"] == SPACE.decode(row)
        assert shown.user_attrs.get("epochs") == max(shown.intermediate_values, default=None)
        assert shown.datetime_start == trial.datetime_start
        assert shown.distributions.keys() == shown.params.keys()


def test_a_file_that_was_appended_to_reads_as_one_that_was_written_at_once(whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    appended, lines = study_of(run, times=True), (run / "optuna.journal").read_bytes().count(b"\n")
    assert resume_blackbox(run).was_finished  # which writes the file anew
    assert study_of(run, times=True) == appended
    assert (run / "optuna.journal").read_bytes().count(b"\n") < lines


def test_one_who_looks_on_sees_what_is_appended(tmp_path):
    strategy = make_strategy("asha")
    strategy.rungs = RUNGS
    strategy.init(SPACE, 0)
    file = StudyFile(tmp_path / "optuna.journal", strategy)
    file.write()
    open_study = load_study(file.path)
    for count in (2, 4):
        rows = strategy.ask(2)
        file.write()
        assert [trial.state.name for trial in open_study.get_trials()[-2:]] == ["RUNNING", "RUNNING"]
        strategy.tell(rows, np.zeros((2, 1)), np.ones(2))
        file.write()
        assert [trial.state.name for trial in open_study.get_trials()] == ["FAIL"] * count


def stop_after(monkeypatch, count):
    estimate, calls = TableEstimator.estimate, []

    def stop(self, rows, fidelity=None):
        calls.append(fidelity)
        if len(calls) > count:
            raise KeyboardInterrupt
        return estimate(self, rows, fidelity)

    monkeypatch.setattr(TableEstimator, "estimate", stop)


def test_a_stopped_run_has_the_same_file_and_the_times_that_trials_had(table, whole, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 17)
        with pytest.raises(KeyboardInterrupt):
            run_blackbox(config_of(table), run)
    before = study_of(run, times=True)
    assert 5 < len(before) < len(study_of(whole))
    resume_blackbox(run)
    assert study_of(run) == study_of(whole)
    after = study_of(run, times=True)
    ended = [trial for trial in before if trial["state"] != "RUNNING"]
    assert ended
    assert all(trial in after for trial in ended)
    assert [trial["started"] for trial in after[: len(before)]] == [trial["started"] for trial in before]


def test_a_file_that_is_ahead_goes_back_to_the_checkpoint(table, whole, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 17)
        with pytest.raises(KeyboardInterrupt):
            run_blackbox(config_of(table), run)
    earlier = study_of(run)
    shutil.copy(run / "checkpoint.pt", tmp_path)
    resume_blackbox(run)
    shutil.copy(tmp_path / "checkpoint.pt", run)
    with monkeypatch.context() as patch:
        stop_after(patch, 0)
        with pytest.raises(KeyboardInterrupt):
            resume_blackbox(run)
    assert study_of(run) == earlier
    resume_blackbox(run)
    assert study_of(run) == study_of(whole)


def test_a_file_that_is_gone_is_written_again(table, whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "optuna.journal").unlink()
    assert resume_blackbox(run).was_finished
    assert study_of(run) == study_of(whole)


def test_settings_that_are_tuned_are_parameters(tmp_path):
    space = JointSpace(NASBench201(), {"lr": (0.1, 0.2), "flip": (True, False)})
    strategy = make_strategy("asha")
    strategy.rungs = RUNGS
    strategy.init(space, 0)
    rows = strategy.ask(3)
    StudyFile(tmp_path / "optuna.journal", strategy).write()
    for trial, row in zip(study_of(tmp_path), rows, strict=True):
        assert trial["params"] == space.choices(row)
        assert trial["attrs"] == {"arch": space.decode(row)}


def test_values_that_are_equal_are_told_apart_by_their_text():
    assert _distribution(Decision("a", (1, True, 1.0))).choices == ("1", "True", "1.0")
    assert _distribution(Decision("a", (1, None, (2, 3)))).choices == (1, None, "(2, 3)")


# faults


def test_a_file_that_cannot_be_written_ends_the_sitting_and_loses_nothing(table, whole, tmp_path, monkeypatch):
    append, count = StudyFile._append, 0

    def fail_once(self, lines):
        nonlocal count
        count += 1
        if count != 8:
            return append(self, lines)
        self.path = Path("/dev/full")  # a disk that takes nothing more
        return append(self, lines)

    run = tmp_path / "run"
    monkeypatch.setattr(StudyFile, "_append", fail_once)
    with pytest.raises(
        RunError, match="cannot be used: No space left on device; nothing of the search is lost"
    ) as found:
        run_blackbox(config_of(table), run)
    assert "\n" not in str(found.value)
    assert len(logged(run)) == 16
    resume_blackbox(run)
    assert (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert study_of(run) == study_of(whole)


@pytest.mark.parametrize("left", [0.5, 0.9])
def test_an_append_that_was_cut_by_a_kill_is_made_good(left, table, whole, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 17)
        with pytest.raises(KeyboardInterrupt):
            run_blackbox(config_of(table), run)
    file = run / "optuna.journal"
    content = file.read_bytes()
    content = content[: int(left * len(content))]
    file.write_bytes(content)
    Mark(file).write(End(1000, zlib.crc32(content[:1000])))  # the last one on disk, of an earlier append
    assert not content.endswith(b"\n")
    resume_blackbox(run)
    assert study_of(run) == study_of(whole)


def test_no_bit_of_the_file_changes_what_is_shown(table, whole, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 17)
        with pytest.raises(KeyboardInterrupt):
            run_blackbox(config_of(table), run)
    file = run / "optuna.journal"
    content = bytearray(file.read_bytes())
    content[content.index(b'"datetime_start":"') + 21] ^= 1  # another year
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"optuna.journal is damaged: its checksum does not fit; .* without this file"):
        resume_blackbox(run)


def test_what_another_program_adds_to_the_file_is_no_damage(table, whole, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 9)
        with pytest.raises(KeyboardInterrupt):
            run_blackbox(config_of(table), run)
    load_study(run / "optuna.journal").set_user_attr("note", "mine")
    with monkeypatch.context() as patch:
        stop_after(patch, 17)
        with pytest.raises(KeyboardInterrupt):
            resume_blackbox(run)
    load_study(run / "optuna.journal").set_user_attr("note", "mine too")
    resume_blackbox(run)
    assert study_of(run) == study_of(whole)


def overwrite(path):
    path.write_bytes(b"no journal\n" * 1000)


def binary(path):
    path.write_bytes(bytes(range(256)) * 10)


def hole(path):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], lines[5][:40] + b"\n", *lines[6:]]))


def other(path):
    path.write_bytes(b'{"op_code":99}\n[1]\n')


def without_study(path):
    optuna.delete_study(study_name=STUDY, storage=load_study(path)._storage)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [overwrite, binary, hole, other, without_study, empty])
def test_a_damaged_file_is_named_before_anything_is_computed(damage, table, whole, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 17)
        with pytest.raises(KeyboardInterrupt):
            run_blackbox(config_of(table), run)
    damage(run / "optuna.journal")
    before = (run / "metrics.jsonl").read_bytes()
    message = "optuna.journal (cannot be used: it holds no study|is damaged: its checksum).* without this file it is"
    with pytest.raises(RunError, match=message) as found:
        resume_blackbox(run)
    assert "\n" not in str(found.value)
    assert (run / "metrics.jsonl").read_bytes() == before
    (run / "optuna.journal").unlink()
    resume_blackbox(run)
    assert (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert study_of(run) == study_of(whole)


def test_what_could_not_be_written_is_written_the_next_time(table, tmp_path, monkeypatch):
    strategy = make_strategy("asha", {})
    strategy.rungs = (1, 3, 9)
    strategy.init(SPACE, 0)
    file = StudyFile(tmp_path / "optuna.journal", strategy)
    file.write()
    rows = strategy.ask(2)
    strategy.tell(rows, np.array([[1.0], [2.0]]))
    with monkeypatch.context() as patch:
        patch.setattr(StudyFile, "_append", lambda self, lines: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            file.write()
    file.write()
    assert [list(trial.intermediate_values.values()) for trial in load_study(file.path).trials] == [[1.0], [2.0]]
