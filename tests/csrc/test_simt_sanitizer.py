"""The harness and the kernels under AddressSanitizer and UndefinedBehaviorSanitizer, in processes of their own.

They see what the harness cannot: accesses that go around it, arrays on a kernel's stack, signed overflow.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import simt_build

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    # Python and torch never free some of what they allocate; a process ends at the first error with this status.
    "ASAN_OPTIONS": "detect_leaks=0:exitcode=99:detect_stack_use_after_return=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
    "OMP_NUM_THREADS": "1",
}

START = """
from tests.conftest import simt_build
import torch
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    """A Python process that can load instrumented modules."""
    compiler = os.environ.get("CXX") or "g++"
    # libstdc++ too: torch throws through it before any instrumented module is loaded.
    names = ("libasan.so", "libubsan.so", "libstdc++.so")
    paths = [
        subprocess.run([*compiler.split(), f"-print-file-name={name}"], check=True, capture_output=True, text=True)
        for name in names
    ]
    environment = os.environ | SETTINGS | {"LD_PRELOAD": ":".join(p.stdout.strip() for p in paths)}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-c", START + script]
    return subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    simt_build().build("_simt_faulty", sanitize=True)


def test_right_kernels_pass_and_errors_of_the_harness_leave_fibers_intact() -> None:
    done = run(
        """
m = simt_build().load("_simt_faulty", sanitize=True)
x = torch.randn(m.ELEMENTS)
for name in m.cases():
    m.run(name, True, x)
    if name.startswith(("unchecked", "order")):
        continue
    for _ in range(2):
        try:
            m.run(name, False, x)
        except RuntimeError:
            continue
        raise SystemExit(f"{name} was not rejected")
m.product(torch.randn(16, 32).half(), torch.randn(32, 8).half())
m.warp_operations(torch.arange(64, dtype=torch.int32))
print("all done")
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "all done"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unchecked_global", "AddressSanitizer: heap-buffer-overflow"),
        ("unchecked_local", "AddressSanitizer: stack-buffer-overflow|insufficient space for an object"),
        ("unchecked_overflow", r"runtime error: signed integer overflow"),
    ],
)
def test_what_goes_around_the_harness_is_caught(name: str, message: str) -> None:
    done = run(
        f"""
m = simt_build().load("_simt_faulty", sanitize=True)
m.run({name!r}, False, torch.randn(m.ELEMENTS))
"""
    )
    assert done.returncode == 99, done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert "unchecked.cu" in done.stderr


@pytest.fixture
def built_ops() -> None:
    simt_build().build("_simt", sanitize=True)


@pytest.mark.usefixtures("built_ops")
def test_ops_run_clean() -> None:
    done = run(
        """
from tests.helpers.op_cases import EDGES, fused_results
m = simt_build().load("_simt", sanitize=True)
m.enable()
for name, dtype in (("darts", torch.bfloat16), ("odd channels", torch.float32), ("odd size, stride 2", torch.float32)):
    edge = EDGES[name]
    for result in fused_results(edge, edge.module(), *edge.inputs(), dtype):
        assert result.isfinite().all(), name
assert len(m.launches()) > 0
m.reset()
from tests.helpers.child_eval_cases import Branches, SmallChain, shared_network
from nasfast.supernets.batched_eval import evaluate_children
for space in (SmallChain(), Branches()):
    x = torch.randn(3, 3, 7, 6)
    rows = [[value % size for size in space.sizes] for value in (0, 1, 3)]
    for result in (evaluate_children(shared_network(space), rows, x, calibration=y) for y in (None, x)):
        assert result.logits.isfinite().all(), space.name
assert any(launch["name"] == "child_conv" for launch in m.launches())
print("all done")
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "all done"
