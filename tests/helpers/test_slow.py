"""What `make test` leaves out is what the table says, and the table says nothing that does not exist."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

from tests.helpers.paths import ROOT
from tests.helpers.slow import SLOW, _unused
from tests.helpers.slow_table import FIRST_CASE, LONG

FILES = ("tests/kernels/test_shuffle.py", "tests/report/test_report.py", "tests/search/gradient/test_search.py")


@cache
def collected(selection: str) -> list[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--collect-only",
        "-p",
        "no:cacheprovider",
        "-m",
        selection,
    ]
    said = subprocess.run([*command, *FILES], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [line for line in said.splitlines() if "::" in line]


def test_slow_and_not_slow_are_all_and_nothing_needs_the_harness() -> None:
    slow, others = collected("slow"), collected("not slow")
    assert not set(slow) & set(others)
    assert not [name for name in others if "simt" in name]
    assert len([name for name in slow if "simt" in name]) > 10
    browser = [name for name in others if "in_a_browser" in name]
    assert browser
    assert all("full" in name and name.endswith("light]") for name in browser)
    assert [name for name in others if name.startswith(FILES[0]) and "cpu" in name]


def test_of_some_tests_the_first_case_is_kept_and_of_long_ones_none() -> None:
    slow, others = collected("slow"), collected("not slow")
    for test in FIRST_CASE[FILES[2]]:
        begins = f"{FILES[2]}::{test}["
        assert len([name for name in others if name.startswith(begins)]) == 1
        assert [name for name in slow if name.startswith(begins)]
    for test in LONG[FILES[2]]:
        begins = f"{FILES[2]}::{test}"
        assert not [name for name in others if name.startswith(begins)]
        assert [name for name in slow if name.startswith(begins)]


def test_an_entry_that_fits_no_test_is_found() -> None:
    file = "tests/report/test_report.py"
    tests = [*LONG.get(file, ()), *FIRST_CASE.get(file, ())]
    nodes = [f"{file}::browser[{case}" for case in ("empty-a]", "full-1-dark]")] + [f"{file}::{t}[a]" for t in tests]
    assert _unused(nodes) == []
    assert _unused(nodes[1:]) == [f"{file}::{SLOW[file][0]}"]
    file = FILES[2]
    nodes = [f"{file}::{test}[a]" for test in (*LONG[file], *FIRST_CASE[file])]
    assert _unused(nodes) == []
    assert _unused(nodes[1:]) == [f"{file}::{LONG[file][0]}"]
