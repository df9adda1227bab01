"""NASFAST_REQUIRE_CUDA=1: on a machine that has everything, a skipped test is a failed one.

A suite that skips what it cannot run looks like one that passes. Under that variable each skip fails and says why it
was skipped; tests marked `without_gpu`, which show what happens where there is none, are left out where there is one.
Tests that run an op on the GPU are marked `gpu`, for `pytest -m gpu`.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
import torch


def cuda_is_required() -> bool:
    return os.environ.get("NASFAST_REQUIRE_CUDA") == "1"


def _fail_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    expected = hasattr(report, "wasxfail")
    if cuda_is_required() and report.skipped and not expected:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: nothing may be skipped with NASFAST_REQUIRE_CUDA=1, but: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Files that skip themselves whole."""
    report = yield
    _fail_skipped(report)
    return report


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        case = getattr(item, "callspec", None)
        if case is not None and case.params.get("device") == "cuda":
            item.add_marker("gpu")
    if not torch.cuda.is_available():
        return
    left_out = [item for item in items if item.get_closest_marker("without_gpu")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
