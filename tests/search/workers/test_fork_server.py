"""The process that workers are forked from."""

import os
import subprocess
import sys
from multiprocessing import forkserver

import pytest

from nasfast.search import fork_server
from nasfast.search.fork_server import IS_SERVER, worker_context
from tests.helpers.paths import ROOT


def test_its_environment_is_its_own(monkeypatch):
    seen = []
    monkeypatch.setenv("PYTHONPATH", "/before")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setattr(forkserver, "ensure_running", lambda: seen.append(dict(os.environ)))
    before = dict(os.environ)
    assert worker_context().get_start_method() == "forkserver"
    assert (seen[0]["PYTHONSAFEPATH"], seen[0][IS_SERVER]) == ("1", "1")
    assert seen[0]["PYTHONPATH"].split(os.pathsep) == [path for path in sys.path if path]
    assert dict(os.environ) == before


@pytest.mark.parametrize("name", ["no socket", "no such system"])
def test_where_there_can_be_none_workers_start_anew(name, monkeypatch):
    def refuse():
        raise OSError("AF_UNIX path too long")

    if name == "no socket":
        monkeypatch.setattr(forkserver, "ensure_running", refuse)
    else:
        monkeypatch.setattr(fork_server.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert worker_context().get_start_method() == "spawn"


SCRIPT = """
import sys
from pathlib import Path
from nasfast.search.workers import LocalPool
from tests.helpers.trial_workers import spec

if __name__ == "__main__":
    here = Path(sys.argv[1])
    here.mkdir()
    pool = LocalPool(spec(here / "begun"), 2, here / "logs", 60.0)
    pool.start()
    while pool.free() < 2:
        pool.poll(0.5)
    print("ready")
    pool.close()
"""


def test_the_folder_that_it_stands_in_has_no_say(tmp_path):
    for name in ("statistics", "secrets", "optuna"):
        (tmp_path / f"{name}.py").write_text('raise SystemExit("taken from the wrong folder")\n')
    script = tmp_path / "elsewhere" / "script.py"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, tmp_path / "run"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("ready\n", 0), done.stderr
