"""Fixtures that several test files share."""

from __future__ import annotations

import gc
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from nasfast import _C
from nasfast.kernels._library import require_ops
from tests.helpers.require_cuda import (  # noqa: F401  hooks of pytest
    pytest_collection_modifyitems,
    pytest_make_collect_report,
    pytest_runtest_makereport,
)

pytest_plugins = ["tests.helpers.properties", "tests.helpers.require", "tests.helpers.slow"]
require_ops()  # tests call torch.ops.nasfast directly
gc.freeze()  # what is loaded by now is no garbage: a collection looks at what tests have made


def simt_build() -> Any:
    """tests/simt/build.py, which builds the modules that run CUDA sources on the CPU."""
    if "simt_build" not in sys.modules:
        spec = importlib.util.spec_from_file_location("simt_build", Path(__file__).parent / "simt/build.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules["simt_build"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["simt_build"])
    return sys.modules["simt_build"]


@pytest.fixture(scope="session")
def simt_module() -> ModuleType:
    """The CUDA sources of csrc for CPU tensors, built where something changed."""
    return simt_build().load("_simt")


@pytest.fixture
def simt(simt_module: ModuleType) -> Iterator[ModuleType]:
    """The same, history in for the CPU kernels while the test runs. What an op returns must be written whole."""
    simt_module.seed(0)
    simt_module.reset()
    simt_module.enable()
    yield simt_module
    simt_module.disable()
    assert simt_module.incomplete_results() == []


@dataclass(frozen=True)
class Device:
    """Where an op runs: `name` is cpu, simt (the CUDA kernels on CPU tensors) or cuda; `torch` is where tensors are."""

    name: str
    torch: str


@pytest.fixture(params=["cpu", "simt", "cuda"])
def device(request: pytest.FixtureRequest) -> Device:
    """Each of the three. Without a GPU, cuda is skipped; NASFAST_REQUIRE_CUDA=1 makes that a failure."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")
        return Device("cuda", "cuda")
    if request.param == "simt":
        request.getfixturevalue("simt")
    return Device(request.param, "cpu")


@pytest.fixture(scope="session")
def simt_faulty() -> ModuleType:
    """Kernels that the harness must reject, and kernels that measure the harness."""
    return simt_build().load("_simt_faulty")


@pytest.fixture(params=_C.build_info()["isa_usable"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set that this machine has, in turn."""
    active = _C.build_info()["isa"]
    _C.set_isa(request.param)
    yield request.param
    _C.set_isa(active)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of CPU threads; the test's end puts it back."""
    count = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(count)
