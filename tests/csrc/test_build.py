"""What setup.py decides: CUDA or not, for which architectures, and what it compiles again."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from setuptools.errors import SetupError

from tests.conftest import simt_build


@pytest.fixture(scope="module")
def setup_script() -> Any:
    return simt_build().load_setup()


@pytest.fixture
def toolkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setup_script: Any) -> Path:
    """A toolkit that answers as CUDA 13.0 does, where setup.py looks first."""
    nvcc = tmp_path / "bin/nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 13.0, V13.0.1'\n")
    nvcc.chmod(0o755)
    (tmp_path / "include").mkdir()
    (tmp_path / "include/cuda_runtime.h").touch()
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.delenv("NASFAST_CUDA", raising=False)
    return tmp_path


def test_cuda_is_built_where_torch_and_toolkit_agree(setup_script: Any, toolkit: Path) -> None:
    assert setup_script.decide_cuda("13.0", True).home == toolkit
    assert setup_script.decide_cuda("13.2", True).home == toolkit


@pytest.mark.parametrize(
    ("torch_cuda", "sources", "why"),
    [
        (None, True, "the installed torch is a CPU build"),
        ("12.8", True, "torch is built for CUDA 12.8, the toolkit in .* is CUDA 13"),
        ("13.0", False, "no CUDA kernels"),
    ],
)
def test_without_cuda_the_build_is_cpu_only_or_fails_where_cuda_is_demanded(
    setup_script: Any, toolkit: Path, monkeypatch: pytest.MonkeyPatch, torch_cuda: str | None, sources: bool, why: str
) -> None:
    cuda = setup_script.decide_cuda(torch_cuda, sources)
    assert cuda.home is None
    assert re.search(why, cuda.reason)
    monkeypatch.setenv("NASFAST_CUDA", "1")
    with pytest.raises(SetupError, match=f"NASFAST_CUDA=1, but .*{why}"):
        setup_script.decide_cuda(torch_cuda, sources)


def test_a_missing_toolkit_is_named(setup_script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_script, "find_cuda_home", lambda: None)
    monkeypatch.setenv("NASFAST_CUDA", "1")
    with pytest.raises(SetupError, match="NASFAST_CUDA=1, but no CUDA toolkit found"):
        setup_script.decide_cuda("13.0", True)


def test_cuda_can_be_switched_off(setup_script: Any, toolkit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASFAST_CUDA", "0")
    assert setup_script.decide_cuda("13.0", True).home is None
    monkeypatch.setenv("NASFAST_CUDA", "yes")
    with pytest.raises(SetupError, match="must be 0 or 1, got 'yes'"):
        setup_script.decide_cuda("13.0", True)


def test_architectures_become_flags(setup_script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    flags = setup_script.gencode_flags()
    for number in ("80", "90", "100"):
        assert f"-gencode=arch=compute_{number},code=sm_{number}" in flags
    assert flags[-1] == "-gencode=arch=compute_100,code=compute_100"
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0a")
    assert setup_script.gencode_flags() == ["-gencode=arch=compute_90a,code=sm_90a"]
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "Hopper")
    with pytest.raises(SetupError, match="must be a list like"):
        setup_script.gencode_flags()


def test_only_what_changed_is_compiled_again(
    setup_script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup_script, "ROOT", tmp_path)
    source, header, obj = tmp_path / "a.cpp", tmp_path / "a.h", tmp_path / "out/a.o"
    header.write_text("inline int f() { return 1; }\n")
    source.write_text('#include "a.h"\nint g() { return f(); }\n')

    def unit(*flags: str) -> Any:
        command = ("g++", *flags, "-MMD", "-MF", str(obj.with_suffix(".d")), "-c", str(source), "-o", str(obj))
        return setup_script.Unit(source, obj, command)

    assert not unit().is_current()
    for path in (source, header):
        os.utime(path, (1, 1))
    unit().compile()
    assert unit().is_current()
    assert not unit("-O2").is_current()
    os.utime(header)
    assert not unit().is_current()
