"""What the build decides and makes: CUDA or not, for which architectures, and objects that may be linked together."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import simt_build

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def facts() -> Any:
    """csrc/cmake/facts.py as a module."""
    spec = importlib.util.spec_from_file_location("facts", ROOT / "csrc/cmake/facts.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["facts"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["facts"])
    return sys.modules["facts"]


@pytest.fixture
def torch_for(facts: Any, tmp_path: Path) -> Callable[..., Any]:
    """A torch built for this version of CUDA, which sees GPUs of these capabilities."""
    include = tmp_path / "site-packages/torch/include"

    def make(cuda: str | None, *capabilities: tuple[int, int]) -> Any:
        return facts.Torch("2.11.0", cuda, [str(include)], [], list(capabilities))

    return make


@pytest.fixture
def toolkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A toolkit that answers as CUDA 13.0 does, where the build looks first."""
    nvcc = tmp_path / "bin/nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 13.0, V13.0.1'\n")
    nvcc.chmod(0o755)
    (tmp_path / "include").mkdir()
    (tmp_path / "include/cuda_runtime.h").touch()
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    return tmp_path


def test_on_demand_cuda_is_built_for_the_default_architectures(
    facts: Any, torch_for: Callable[..., Any], toolkit: Path
) -> None:
    for version in ("13.0", "13.2"):
        cuda = facts.decide_cuda("1", "", torch_for(version))
        assert (cuda.home, cuda.archs) == (toolkit, "8.0;9.0;10.0+PTX")
    assert facts.decide_cuda("1", "9.0a", torch_for("13.0", (8, 9))).archs == "9.0a"


@pytest.mark.usefixtures("toolkit")
def test_unasked_cuda_is_built_for_the_gpus_that_are_there(facts: Any, torch_for: Callable[..., Any]) -> None:
    assert facts.decide_cuda("", "", torch_for("13.0", (8, 9), (9, 0))).archs == "8.9;9.0"
    assert facts.decide_cuda("", "8.0+PTX", torch_for("13.0", (8, 9))).archs == "8.0+PTX"
    without = facts.decide_cuda("", "", torch_for("13.0"))
    assert without.home is None
    assert "sees no GPU" in without.reason


@pytest.mark.usefixtures("toolkit")
@pytest.mark.parametrize(
    ("torch_cuda", "why"),
    [
        (None, "the installed torch is a CPU build"),
        ("12.8", "torch is built for CUDA 12.8, the toolkit in .* is CUDA 13"),
    ],
)
def test_where_cuda_does_not_fit_the_build_is_cpu_only_or_fails_on_demand(
    facts: Any, torch_for: Callable[..., Any], torch_cuda: str | None, why: str
) -> None:
    cuda = facts.decide_cuda("", "", torch_for(torch_cuda, (9, 0)))
    assert cuda.home is None
    assert re.search(why, cuda.reason)
    with pytest.raises(facts.BuildError, match=f"NASFAST_CUDA=1, but .*{why}"):
        facts.decide_cuda("1", "", torch_for(torch_cuda))


def test_a_missing_toolkit_is_named(facts: Any, torch_for: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "find_cuda_home", lambda: None)
    with pytest.raises(facts.BuildError, match="NASFAST_CUDA=1, but no CUDA toolkit found"):
        facts.decide_cuda("1", "", torch_for("13.0"))


@pytest.mark.usefixtures("toolkit")
def test_cuda_can_be_switched_off(facts: Any, torch_for: Callable[..., Any]) -> None:
    assert facts.decide_cuda("0", "", torch_for("13.0", (9, 0))).home is None
    with pytest.raises(facts.BuildError, match="must be 0 or 1, got 'yes'"):
        facts.decide_cuda("yes", "", torch_for("13.0"))


def test_architectures_share_passes_of_the_front_end(facts: Any) -> None:
    assert facts.gencode_flags(facts.DEFAULT_ARCHS) == [
        "-gencode=arch=compute_80,code=[sm_80,sm_90]",
        "-gencode=arch=compute_100,code=[sm_100,compute_100]",
    ]
    assert facts.gencode_flags("9.0, 8.6+PTX") == ["-gencode=arch=compute_86,code=[sm_86,sm_90,compute_86]"]
    assert facts.gencode_flags("12.0;10.0") == ["-gencode=arch=compute_100,code=[sm_100,sm_120]"]
    assert facts.gencode_flags("8.0 9.0a+PTX") == [
        "-gencode=arch=compute_80,code=[sm_80]",
        "-gencode=arch=compute_90a,code=[sm_90a,compute_90a]",
    ]
    with pytest.raises(facts.BuildError, match=r"must be a list like '8\.0;9\.0\+PTX', got 'Hopper'"):
        facts.gencode_flags("Hopper")


def test_no_kernel_asks_for_its_architecture() -> None:
    """They all get the PTX of the lowest, where such a question would be answered for the lowest too."""
    for path in (ROOT / "csrc").rglob("*.[chu]*"):
        assert "__CUDA_ARCH" not in path.read_text(), path


FAMILIES = ("child_eval", "mixed_op", "supernet", "table")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_of_kernels_stands_alone(family: str) -> None:
    """It includes no other, core/ and aten/ include none, and what it declares stands in its namespace."""
    included = re.compile(r'#include "(?:\.\./)?(\w+)/')
    for folder in (family, "core", "aten"):
        for path in sorted((ROOT / "csrc" / folder).iterdir()):
            assert not {*included.findall(path.read_text())} & ({*FAMILIES} - {folder}), path
    for path in sorted((ROOT / "csrc" / family).iterdir()):
        opened = set(re.findall(r"^namespace ([\w: ]+?) {", path.read_text(), re.MULTILINE))
        own = {f"nasfast::{family}", f"nasfast::NASFAST_ISA::inline {family}_cpu", "nasfast::NASFAST_ISA"}
        if path.stem.endswith("_kernels"):
            own |= {"nasfast", "baseline", "avx2", "avx512"}  # declarations of the tables of every instruction set
        assert opened <= own, path


def test_the_runtime_comes_from_the_toolkit_or_from_the_wheels_of_torch(
    facts: Any, torch_for: Callable[..., Any], toolkit: Path
) -> None:
    with pytest.raises(facts.BuildError, match=r"libcudart\.so must be in .*lib64 or in torch's nvidia wheels"):
        facts.find_cudart(toolkit, torch_for("13.0"))
    wheel = toolkit / "site-packages/nvidia/cu13/lib/libcudart.so.13"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    assert facts.find_cudart(toolkit, torch_for("13.0")) == wheel
    (toolkit / "lib64").mkdir()
    (toolkit / "lib64/libcudart.so").touch()
    assert facts.find_cudart(toolkit, torch_for("13.0")) == toolkit / "lib64/libcudart.so"


def run_facts(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "csrc/cmake/facts.py"), *arguments]
    return subprocess.run(command, env=os.environ | variables, check=False, capture_output=True, text=True)


def test_a_torch_that_is_missing_or_old_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("raise ImportError\n")
    missing = run_facts(PYTHONPATH=str(tmp_path))
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: nasfast builds against the installed torch")
    assert missing.stderr.count("\n") == 1
    (tmp_path / "torch/__init__.py").write_text("__version__ = '2.10.1+cpu'\n")
    (tmp_path / "torch/utils").mkdir()
    (tmp_path / "torch/utils/__init__.py").touch()
    (tmp_path / "torch/utils/cpp_extension.py").touch()
    old = run_facts(PYTHONPATH=str(tmp_path))
    assert (old.returncode, old.stderr) == (1, "error: nasfast needs torch >= 2.11, got torch 2.10.1+cpu\n")


@pytest.fixture(scope="module")
def objects() -> Path:
    """The folder of the extension's objects, up to date and whole, as CPU-only build."""
    folder: Path = simt_build().load_setup().build("_C", cuda="0")
    return folder


def test_the_build_links_a_module_that_imports(objects: Path) -> None:
    script = "import json, sys, torch; sys.path.insert(0, sys.argv[1]); import _C; print(json.dumps(_C.build_info()))"
    command = [sys.executable, "-c", script, str(objects / "module")]
    info = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout)
    assert info["cuda"] is None
    assert info["torch"] == torch.__version__.split("+")[0]
    assert info["isa_built"][0] == "baseline"


def weak_symbols(obj: Path) -> list[str]:
    """Definitions of which the linker keeps one copy where several objects have them."""
    said = subprocess.run(["nm", "-C", "--defined-only", obj], check=True, capture_output=True, text=True).stdout
    lines = [line.split(maxsplit=2) for line in said.splitlines()]
    return [name for _, kind, name in lines if kind in "WVwvu"]


def test_no_code_of_one_instruction_set_can_stand_for_another(objects: Path) -> None:
    """The copy that the linker keeps could be one that this processor cannot run."""
    parts = sorted((objects / "csrc/CMakeFiles").glob("kernels_*.dir"))
    isas = [path.name.removeprefix("kernels_").removesuffix(".dir") for path in parts]
    assert "baseline" in isas
    for isa, part in zip(isas, parts, strict=True):
        if isa == "cuda":
            continue
        found = {name: obj for obj in part.rglob("*.o") for name in weak_symbols(obj)}
        assert found, isa  # the kernels are templates: without any this test would see nothing
        strays = {name: obj.name for name, obj in found.items() if f"nasfast::{isa}::" not in name}
        assert not strays, f"outside nasfast::{isa}: {strays}"
