"""NASFAST_REQUIRE_CUDA=1 turns every kind of skip into a failure, and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CONFTEST = """\
from tests.helpers.require_cuda import (
    pytest_collection_modifyitems,
    pytest_make_collect_report,
    pytest_runtest_makereport,
)
"""
SETTINGS = """\
[pytest]
markers =
  without_gpu: x
  gpu: x
addopts = --strict-markers
"""
TESTS = """\
import pytest

def test_passes():
    pass

@pytest.mark.skipif(True, reason="by a mark")
def test_marked():
    pass

def test_itself():
    pytest.skip("by itself")

@pytest.fixture
def missing():
    pytest.skip("by a fixture")

def test_fixture(missing):
    pass

@pytest.mark.xfail(strict=True)
def test_known_fault():
    assert False

@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    return request.param

def test_op(device):
    pass

@pytest.mark.without_gpu
def test_of_machines_without_gpu():
    pass
"""
WHOLE_FILE = """\
import pytest
pytest.skip("as a file", allow_module_level=True)
"""
REASONS = ("by a mark", "by itself", "by a fixture", "as a file")


def run(folder: Path, required: str | None, gpu: bool, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest over a folder of its own, with torch's answer about a GPU replaced."""
    (folder / "conftest.py").write_text(
        CONFTEST + f"import torch\ntorch.cuda.is_available = lambda: {gpu}\n", encoding="utf-8"
    )
    (folder / "pytest.ini").write_text(SETTINGS, encoding="utf-8")
    (folder / "test_all.py").write_text(TESTS, encoding="utf-8")
    (folder / "test_file.py").write_text(WHOLE_FILE, encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("NASFAST_", "PYTEST_"))}
    env["PYTHONPATH"] = str(ROOT)
    if required is not None:
        env["NASFAST_REQUIRE_CUDA"] = required
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--continue-on-collection-errors", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def counts(result: subprocess.CompletedProcess[str]) -> dict[str, int]:
    line = result.stdout.strip().splitlines()[-1]
    return {name.rstrip("s"): int(number) for number, name in re.findall(r"(\d+) (\w+)", line)}


@pytest.mark.parametrize("required", [None, "0"])
def test_skips_are_skips_by_default(tmp_path: Path, required: str | None) -> None:
    result = run(tmp_path, required, gpu=False)
    assert result.returncode == 0, result.stdout
    found = counts(result)
    assert (found["passed"], found["skipped"], found["xfailed"]) == (4, 4, 1)


def test_every_skip_fails_where_cuda_is_required(tmp_path: Path) -> None:
    result = run(tmp_path, "1", gpu=False)
    assert result.returncode != 0
    found = counts(result)
    assert (found["passed"], found["xfailed"]) == (4, 1)
    assert (found["failed"], found["error"]) == (1, 3), result.stdout  # marks and fixtures skip before the test runs
    assert "skipped" not in found
    for reason in REASONS:
        assert f"nothing may be skipped with NASFAST_REQUIRE_CUDA=1, but: Skipped: {reason}" in result.stdout


def test_tests_of_machines_without_a_gpu_are_left_out_where_there_is_one(tmp_path: Path) -> None:
    result = run(tmp_path, None, gpu=True)
    found = counts(result)
    assert (found["passed"], found["deselected"]) == (3, 1)


def test_tests_of_ops_on_the_gpu_can_be_selected(tmp_path: Path) -> None:
    result = run(tmp_path, None, False, "-m", "gpu", "-v", "test_all.py")
    assert re.findall(r"test_all.py::(\S+) PASSED", result.stdout) == ["test_op[cuda]"]
