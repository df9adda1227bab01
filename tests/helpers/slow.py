"""Which tests `make test` leaves to `make test-all` and CI: what is long and says little that a shorter test does not.

One table, read when tests are collected; a pattern of it that fits nothing in its file is an error. Beside it, tests of
CUDA kernels in the harness of tests/simt are slow but for one case of each op: the harness takes minutes to build, and
runs kernels thread by thread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

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

KEPT = (
    "tests/kernels/test_mixed_op.py::test_outputs_and_gradients_equal_the_twin_s"
    "[simt-every primitive, affine-torch.float32]",
    "tests/kernels/test_relu_conv_bn.py::test_outputs_and_gradients_equal_the_twin_s"
    "[(5, 7, 4, 6, 3)-saved-pointwise-plain-simt-torch.float32]",
    "tests/kernels/test_shuffle.py::test_values_and_gradients_are_the_twin_s_bits[simt-4-12-4-torch.float32]",
    "tests/kernels/test_supernet.py::test_every_unit_of_cuda_against_its_twin[conv 3x3, dilated-(3, 5, 7, 4)-simt]",
    "tests/supernets/test_batched_eval_cuda.py::test_agrees_with_the_loop_in_float64[chain-(3, 10)-calibrated-simt]",
)
"""One case of each op in the harness, for everyone."""


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
    return in_harness(item) and item.nodeid not in KEPT


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if is_slow(item):
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
    return unused + [kept for kept in KEPT if kept.partition("::")[0] in names and kept not in nodes]
