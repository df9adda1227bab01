"""Optional dependencies: a skip where one is missing, a failure where NASFAST_REQUIRE names it, one line for a typo."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

CONFTEST = """\
import shutil
import sys
from tests.helpers import require

pytest_plugins = ["tests.helpers.require"]
require.has_gpu = lambda: False
for name in ("ray", "cupy"):
    sys.modules[name] = None  # importing it says that there is no such module
which = shutil.which
shutil.which = lambda name: None if name == "nvcc" else sys.executable if name == "chromium" else which(name)
"""
TESTS = """\
import sys
import pytest
from tests.helpers.require import require

def test_there():
    assert require("onnx") is sys.modules["onnx"]
    assert require("chromium") == sys.executable

def test_missing():
    require("ray")

def test_of_a_gpu():
    require("cupy")

@pytest.mark.needs("nvcc")
def test_marked():
    pass
"""
WHOLE_FILE = """\
from tests.helpers.require import require
require("ray")

def test_more():
    pass
"""


def run(folder: Path, named: str | None) -> subprocess.CompletedProcess[str]:
    """pytest over a folder of its own, where Ray, CuPy and nvcc are missing."""
    (folder / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (folder / "pytest.ini").write_text(
        "[pytest]\nmarkers =\n  needs: x\naddopts = --strict-markers\n", encoding="utf-8"
    )
    (folder / "test_all.py").write_text(TESTS, encoding="utf-8")
    (folder / "test_file.py").write_text(WHOLE_FILE, encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("NASFAST_", "PYTEST_"))}
    env |= {"PYTHONPATH": str(ROOT)} | ({} if named is None else {"NASFAST_REQUIRE": named})
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rfEs", "--continue-on-collection-errors"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def outcomes(result: subprocess.CompletedProcess[str]) -> dict[str, int]:
    line = result.stdout.strip().splitlines()[-1]
    return {name.rstrip("s"): int(number) for number, name in re.findall(r"(\d+) (\w+)", line)}


@pytest.mark.parametrize("named", [None, "", "onnx,matplotlib"])
def test_what_is_not_required_is_skipped(tmp_path: Path, named: str | None) -> None:
    result = run(tmp_path, named)
    assert result.returncode == 0, result.stdout
    found = outcomes(result)
    assert (found["passed"], found["skipped"]) == (1, 4)
    assert "needs ray" in result.stdout


def test_all_leaves_out_only_what_needs_a_gpu(tmp_path: Path) -> None:
    result = run(tmp_path, "all")
    assert result.returncode == 1
    found = outcomes(result)
    # A mark fails the set-up of its test, a file that needs something its collection: both count as errors.
    assert (found["passed"], found["failed"], found["error"], found["skipped"]) == (1, 1, 2, 1), result.stdout
    assert "NASFAST_REQUIRE asks for ray, and it is missing" in result.stdout
    assert "NASFAST_REQUIRE asks for nvcc, and it is missing" in result.stdout


def test_only_what_is_named_fails(tmp_path: Path) -> None:
    found = outcomes(run(tmp_path, "nvcc, cupy"))
    assert (found["passed"], found["failed"], found["error"], found["skipped"]) == (1, 1, 1, 2)


def test_a_name_that_is_none_ends_the_run_with_one_line(tmp_path: Path) -> None:
    result = run(tmp_path, "ray,matplotlob")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "NASFAST_REQUIRE must be all or a comma list of cupy, matplotlib," in result.stderr
    assert "got 'matplotlob'" in result.stderr
    assert "passed" not in result.stdout
