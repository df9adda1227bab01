"""Optuna's file in a run folder: what it shows, a stop at any time, and what is wrong with it in one line."""

import json
import shutil
import sqlite3
from contextlib import closing, contextmanager
from functools import partial

import numpy as np
import pytest

from nasfast.config.blackbox import BlackBoxConfig
from nasfast.errors import RunError
from nasfast.estimators.table import TableEstimator
from nasfast.search.blackbox.optuna_study import STUDY, StudyFile
from nasfast.search.blackbox.runner import resume_blackbox, run_blackbox
from nasfast.spaces.joint import JointSpace
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.spaces.nasbench_macro import NASBenchMacro
from nasfast.strategies.registry import make_strategy
from tests.helpers.require import require
from tests.helpers.runs import logged, study_of

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
    study = optuna.load_study(study_name=STUDY, storage=f"sqlite:///{run / 'optuna.sqlite3'}")
    scores, rows = {}, logged(run)
    for row in rows:
        scores.setdefault(row["arch"], {})[int(row["metrics"]["budget"])] = row["metrics"]["score"]
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
        assert not (tmp_path / name / "optuna.sqlite3").exists()


def test_tables_are_filled_as_optuna_fills_them(whole, tmp_path):
    """A version of Optuna that keeps a study otherwise shows here."""
    path = tmp_path / "theirs.sqlite3"
    theirs = optuna.create_study(study_name=STUDY, storage=f"sqlite:///{path}", direction="maximize")
    theirs.add_trials(optuna.load_study(study_name=STUDY, storage=f"sqlite:///{whole / 'optuna.sqlite3'}").trials)
    contents = []
    for file in (path, whole / "optuna.sqlite3"):
        with closing(sqlite3.connect(file)) as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            contents.append({name: sorted(rows_of(connection, name)) for name in tables})
    assert contents[0] == contents[1]


def rows_of(connection, table):
    """Rows without a number of their own, which no one refers to."""
    rows = connection.execute(f"SELECT * FROM {table}").fetchall()
    own = table.startswith("trial_")
    return [row[own:] for row in rows]


def stop_after(monkeypatch, count):
    estimate, calls = TableEstimator.estimate, []

    def stop(self, rows, budget=None):
        calls.append(budget)
        if len(calls) > count:
            raise KeyboardInterrupt
        return estimate(self, rows, budget)

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
    (run / "optuna.sqlite3").unlink()
    assert resume_blackbox(run).was_finished
    assert study_of(run) == study_of(whole)


def test_settings_that_are_tuned_are_parameters(tmp_path):
    space = JointSpace(NASBench201(), {"lr": (0.1, 0.2), "flip": (True, False)})
    strategy = make_strategy("asha")
    strategy.rungs = RUNGS
    strategy.init(space, 0)
    rows = strategy.ask(3)
    StudyFile(tmp_path / "optuna.sqlite3", strategy).write()
    for trial, row in zip(study_of(tmp_path), rows, strict=True):
        assert trial["params"] == space.choices(row)
        assert trial["attrs"] == {"arch": space.decode(row)}


# faults


@contextmanager
def locked(file, connection):
    """Another process writes to it."""
    connection.execute("ROLLBACK")
    with closing(sqlite3.connect(file.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        connection.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def full(file, connection):
    """Its disk takes nothing more."""
    connection.execute("PRAGMA max_page_count = 1")
    connection.execute("CREATE TABLE large AS SELECT zeroblob(1000000)")
    yield


@pytest.mark.parametrize(("fault", "message"), [(locked, "held a lock on it"), (full, "no space is left on its disk")])
def test_a_file_that_cannot_be_written_ends_the_sitting_and_loses_nothing(
    fault, message, table, whole, tmp_path, monkeypatch
):
    update, count = StudyFile._update, 0

    def fail_once(self, connection, study):
        nonlocal count
        count += 1
        if count != 9:
            return update(self, connection, study)
        with fault(self, connection):
            return update(self, connection, study)

    run = tmp_path / "run"
    monkeypatch.setattr(StudyFile, "_update", fail_once)
    monkeypatch.setattr("nasfast.search.blackbox.runner.StudyFile", partial(StudyFile, wait=0.2))
    with pytest.raises(
        RunError, match=f"optuna.sqlite3 cannot be used: .*{message}.*; nothing of the search is"
    ) as found:
        run_blackbox(config_of(table), run)
    assert "\n" not in str(found.value)
    assert len(logged(run)) == 16
    resume_blackbox(run)
    assert (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert study_of(run) == study_of(whole)


def cut(path):
    path.write_bytes(path.read_bytes()[:5000])


def overwrite(path):
    path.write_bytes(b"no database" * 1000)


def empty(path):
    path.write_bytes(b"")


def without_study(path):
    optuna.delete_study(study_name=STUDY, storage=f"sqlite:///{path}")


def later(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE version_info SET schema_version = 99")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "optuna.sqlite3 cannot be used: database disk image is malformed; nothing of the search is lost"),
        (overwrite, "optuna.sqlite3 cannot be used: file is not a database; .* without this file it is written again"),
        (empty, "optuna.sqlite3 cannot be used: no such table"),
        (without_study, "optuna.sqlite3 cannot be used: it holds no study 'nasfast'"),
        (later, "optuna.sqlite3 has Optuna's tables of version 99; this nasfast writes version 12"),
    ],
)
def test_a_damaged_file_is_named_before_anything_is_computed(damage, message, table, whole, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 17)
        with pytest.raises(KeyboardInterrupt):
            run_blackbox(config_of(table), run)
    damage(run / "optuna.sqlite3")
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(RunError, match=message) as found:
        resume_blackbox(run)
    assert "\n" not in str(found.value)
    assert (run / "metrics.jsonl").read_bytes() == before
    (run / "optuna.sqlite3").unlink()
    resume_blackbox(run)
    assert (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert study_of(run) == study_of(whole)


def test_the_journal_of_a_file_that_was_removed_is_not_rolled_back_onto_the_new_one(table, whole, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(whole, path)
    study = path / "optuna.sqlite3"
    before = study_of(path)
    with closing(sqlite3.connect(study, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")  # pages are written, and their journal before, within a transaction
        connection.execute("BEGIN")
        for table in ("trial_user_attributes", "trial_params", "trial_intermediate_values"):
            connection.execute(f"DELETE FROM {table}")
        connection.executemany("INSERT INTO trials (study_id, state) VALUES (1, ?)", [("FAIL",)] * 5000)
        journal = (path / "optuna.sqlite3-journal").read_bytes()
        connection.execute("ROLLBACK")
    assert int.from_bytes(journal[8:12], "big") > 0  # pages that would be rolled back
    study.unlink()
    (path / "optuna.sqlite3-journal").write_bytes(journal)
    resume_blackbox(path)
    assert study_of(path) == before


def test_what_could_not_be_written_is_written_the_next_time(table, tmp_path, monkeypatch):
    strategy = make_strategy("asha", {})
    strategy.rungs = (1, 3, 9)
    strategy.init(SPACE, 0)
    file = StudyFile(tmp_path / "optuna.sqlite3", strategy)
    file.write()
    rows = strategy.ask(2)
    strategy.tell(rows, np.array([[1.0], [2.0]]))
    with monkeypatch.context() as patch:
        patch.setattr(StudyFile, "_parts", lambda self, trial: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            file.write()
    file.write()
    study = optuna.load_study(study_name=STUDY, storage=f"sqlite:///{file.path}")
    assert [list(trial.intermediate_values.values()) for trial in study.trials] == [[1.0], [2.0]]
