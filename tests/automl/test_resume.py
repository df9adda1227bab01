"""A fit that was stopped leaves a model, and goes on to the same bits."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from nasfast.api import fit_model, resume_fit
from nasfast.automl.clock import Deadline
from nasfast.automl.folder import load_model
from nasfast.automl.names import is_model
from nasfast.automl.search import Search
from nasfast.automl.work import Work
from nasfast.errors import ConfigError, DataError, RunError
from tests.automl.conftest import QUICK, fit
from tests.helpers.real_tables import mixed_rows, tumours, write_rows


class Stop(Exception):
    """In place of a kill."""


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_fit_of_trials_that_was_stopped_ends_with_the_same_bits(tmp_path, monkeypatch, after):
    path = tumours(tmp_path, rows=200)
    whole = fit([path], "target", tmp_path / "whole", "3 trials", replay=())
    real = Work.add

    def stops(self, number, *rest):
        real(self, number, *rest)
        if number + 1 == after:
            raise Stop

    monkeypatch.setattr(Work, "add", stops)
    with pytest.raises(Stop):
        fit([path], "target", tmp_path / "cut", "3 trials", replay=())
    monkeypatch.setattr(Work, "add", real)
    again = resume_fit(tmp_path / "cut")
    prepared = whole.problem.prepared
    assert (again.model.predict_prepared(prepared) == whole.model.predict_prepared(prepared)).all()
    assert not (tmp_path / "cut" / "work").exists()
    with pytest.raises(RunError, match="it is finished"):
        resume_fit(tmp_path / "cut")


def test_damage_to_what_was_tried_is_said(tmp_path, monkeypatch):
    path = tumours(tmp_path, rows=200)
    monkeypatch.setattr(Work, "remove", lambda self: None)
    fit([path], "target", tmp_path / "m")
    work = tmp_path / "m" / "work"
    names = sorted(p.name for p in work.iterdir())
    assert names == sorted(["fit.json", *(f"{i}.{e}" for i in range(len(QUICK)) for e in ("json", "safetensors"))])
    for file in sorted(work.iterdir()):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        with pytest.raises(RunError):
            resume_fit(tmp_path / "m")
        file.write_bytes(content)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")  # as many rows, in another order
    with pytest.raises(DataError, match="not the one of the earlier fit"):
        resume_fit(tmp_path / "m")


def test_a_replay_takes_the_settings_of_the_fit_and_its_table(tmp_path, monkeypatch):
    path = tumours(tmp_path, rows=200)
    first = fit_model(
        path, target="target", budget="3 trials", seed=4, metric="log_loss", threads=1, out=tmp_path / "a"
    )
    again = fit_model(path, target="target", threads=1, replay=tmp_path / "a", out=tmp_path / "b")
    assert again.metric.name == "log_loss"
    prepared = first.problem.prepared
    assert (again.model.predict_prepared(prepared) == first.model.predict_prepared(prepared)).all()
    assert (tmp_path / "b" / "report.html").is_file()
    with pytest.raises(ConfigError, match="of a fit of 'target' cannot have"):
        fit_model(path, target="mean radius", replay=tmp_path / "a", out=tmp_path / "c")
    with pytest.raises(DataError, match="not the one of the earlier fit"):
        fit_model(tumours(tmp_path, rows=199), target="target", replay=tmp_path / "a", out=tmp_path / "c")
    monkeypatch.setattr("nasfast.automl.fit.describe", lambda *_: (_ for _ in ()).throw(Stop))
    with pytest.raises(Stop):
        fit_model(path, target="target", budget="2 trials", threads=1, out=tmp_path / "cut")
    with pytest.raises(RunError, match="does not say what was tried"):
        fit_model(path, target="target", replay=tmp_path / "cut", out=tmp_path / "d")


def test_what_is_kept_for_the_end_follows_from_this_start_not_from_the_time_before(binary_fit):
    def usable(spent, before):
        deadline = Deadline(time.monotonic() - spent, 120.0)
        model, nothing = binary_fit.model, lambda *_: None
        search = Search(
            binary_fit.problem, binary_fit.metric, model.preparation, deadline, None, *[nothing] * 3, before=before
        )
        return search._usable()

    assert usable(spent=100, before=95) == pytest.approx(8, abs=1)
    assert usable(spent=5, before=0) == pytest.approx(103, abs=1)


def test_a_table_in_memory_cannot_go_on_from_files(tmp_path, monkeypatch):
    monkeypatch.setattr(Work, "remove", lambda self: None)
    fit(mixed_rows(100), "bought", tmp_path / "m")
    with pytest.raises(RunError, match="a table in memory"):
        resume_fit(tmp_path / "m")
    with pytest.raises(RunError, match="holds no fit that was stopped"):
        resume_fit(tmp_path)


def test_kills_at_random_moments_leave_a_model_or_none_and_never_half_of_one(tmp_path):
    path = write_rows(tmp_path / "sales.csv", mixed_rows(200))
    moments = random.Random(5)
    command = [sys.executable, "-m", "nasfast", "fit", str(path), "--target", "bought", "--budget", "60s"]
    for number in range(4):
        folder = tmp_path / f"m{number}"
        process = subprocess.Popen([*command, "--out", str(folder)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not is_model(folder) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(moments.uniform(0, 2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        model = load_model(folder)
        assert json.loads((folder / "model.json").read_text())["format"] == 1
        assert model.target.name == "bought"
