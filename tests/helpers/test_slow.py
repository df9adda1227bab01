"""What `make test` leaves out is what the table says, and the table says nothing that does not exist."""

from __future__ import annotations

import subprocess
import sys

from tests.helpers.paths import ROOT
from tests.helpers.slow import KEPT, SLOW, _unused

FILES = ("tests/kernels/test_shuffle.py", "tests/report/test_report.py")


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
        *FILES,
    ]
    said = subprocess.run([*command, *FILES], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [line for line in said.splitlines() if "::" in line]


def test_slow_and_not_slow_are_all_and_one_case_in_the_harness_is_kept() -> None:
    slow, others = collected("slow"), collected("not slow")
    assert not set(slow) & set(others)
    harness = [name for name in others if "simt" in name]
    assert harness == [name for name in KEPT if name.startswith(FILES[0])]
    assert len([name for name in slow if "simt" in name]) > 10
    browser = [name for name in others if "in_a_browser" in name]
    assert len(browser) == 3
    assert all("full" in name and name.endswith("light]") for name in browser)
    assert [name for name in others if name.startswith(FILES[0]) and "cpu" in name]


def test_an_entry_that_fits_no_test_is_found() -> None:
    file = "tests/e2e/test_resume.py"
    assert _unused([f"{file}::test_killed_run_resumes_with_the_same_bits[3]"]) == []
    assert _unused([f"{file}::test_renamed[3]"]) == [f"{file}::{SLOW[file][0]}"]
    kept = KEPT[0]
    assert _unused([kept]) == []
    assert _unused([kept.replace("simt", "other")]) == [kept]
