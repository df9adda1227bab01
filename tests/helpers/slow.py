"""Which tests `make test` leaves to `make test-all` and CI: what is long and says little that a shorter test does not.

Tables here and in slow_table.py, read when tests are collected; what fits nothing in its file is an error. Beside them,
tests of CUDA kernels in the harness of tests/simt are slow: the harness takes minutes to build, and runs kernels thread
by thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import pytest

from tests.helpers.slow_table import FIRST_CASE, LONG

SLOW: Mapping[str, tuple[str, ...]] = {
    "tests/csrc/test_simt_grid.py": ("",),
    "tests/csrc/test_simt_harness.py": ("",),
    "tests/csrc/test_simt_sanitizer.py": ("",),
    "tests/e2e/test_resume.py": (r"resumes_with_the_same_bits\[3\]",),
    "tests/report/test_report.py": (r"browser\[(search-only|empty)-", r"browser\[full-\d+-dark\]"),
}
"""By file: expressions, one of which begins somewhere in the name of the test."""

HARNESS = frozenset({"simt", "simt_module", "simt_faulty"})
"""Fixtures that build the harness."""


def in_harness(item: pytest.Item) -> bool:
    """Whether a test needs the harness of tests/simt."""
    case = getattr(item, "callspec", None)
    return (case is not None and case.params.get("device") == "simt") or bool(
        HARNESS & set(getattr(item, "fixturenames", ()))
    )


def is_slow(item: pytest.Item) -> bool:
    file, _, name = item.nodeid.partition("::")
    if any(re.search(pattern, name) for pattern in SLOW.get(file, ())):
        return True
    return name.partition("[")[0] in LONG.get(file, ()) or in_harness(item)


def _later_cases(items: Iterable[pytest.Item]) -> Iterator[pytest.Item]:
    """All cases but the first of the tests of :data:`FIRST_CASE`."""
    begun = set()
    for item in items:
        file, _, name = item.nodeid.partition("::")
        test = name.partition("[")[0]
        if test in FIRST_CASE.get(file, ()):
            if (file, test) in begun:
                yield item
            begun.add((file, test))


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in [*filter(is_slow, items), *_later_cases(items)]:
        item.add_marker("slow")
    if not any("::" in argument for argument in config.args):
        unused = _unused([item.nodeid for item in items])
        if unused:
            raise pytest.UsageError(f"tests/helpers/slow.py names tests that there are not: {', '.join(unused)}")


def _unused(nodes: list[str]) -> list[str]:
    """Entries of the tables that fit no test, of files of which tests were collected."""
    names: dict[str, list[str]] = {}
    for node in nodes:
        file, _, name = node.partition("::")
        names.setdefault(file, []).append(name)
    patterns = [(file, pattern) for file, found in SLOW.items() for pattern in found if file in names]
    unused = [f"{f}::{p}" for f, p in patterns if not any(re.search(p, name) for name in names[f])]
    known = {f: {name.partition("[")[0] for name in found} for f, found in names.items()}
    tests = [(f, test) for table in (LONG, FIRST_CASE) for f, found in table.items() for test in found if f in names]
    return unused + [f"{f}::{test}" for f, test in tests if test not in known[f]]
