"""Builds the extension module nasfast._C; everything else about the package stands in pyproject.toml.

CPU kernels (csrc/**/*_cpu_kernels.cpp) are one source, compiled once per instruction set (NASFAST_ISA names it); the
choice among the copies is made at run time. torch's BuildExtension has no flags per source, so the objects are compiled
here: in parallel, and only those whose sources, headers or command changed.

Environment:
    NASFAST_CUDA    1: fail unless the CUDA kernels can be built; 0: CPU only; unset: CUDA where it can be built.
    NASFAST_AVX512  1: also build the AVX-512 copy of the CPU kernels (never run by the authors, so off by default).
    TORCH_CUDA_ARCH_LIST  GPU architectures, default "8.0;9.0;10.0+PTX".
    CXX, CXXFLAGS, LDFLAGS, MAX_JOBS  as usual.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, SetupError

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"
MIN_TORCH = (2, 11)
DEFAULT_CUDA_ARCHS = "8.0;9.0;10.0+PTX"  # with PTX, newer cards compile it when they load it

COMMON_FLAGS = ["-std=c++20", "-fPIC", "-fopenmp", "-fvisibility=hidden", "-Wall", "-Wextra"]
# NaN and inf must propagate, so no -ffast-math: only errno and floating-point traps are given up.
KERNEL_FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-Wno-psabi"]
ISA_FLAGS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c", "-mbmi2"],
    "avx512": ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mavx2", "-mfma", "-mf16c", "-mbmi2"],
}


@dataclass(frozen=True)
class Cuda:
    home: Path | None  # None: CPU only
    reason: str


@dataclass(frozen=True)
class Unit:
    """One object file: what it is compiled from and the full command."""

    source: Path
    obj: Path
    command: tuple[str, ...]

    @property
    def log(self) -> Path:
        """What the compiler said; of a CUDA source, the resources that every kernel takes."""
        return self.obj.with_suffix(".log")

    @property
    def depfile(self) -> Path:
        return self.obj.with_suffix(".d")

    @property
    def command_file(self) -> Path:
        return self.obj.with_suffix(".cmd")

    def is_current(self) -> bool:
        """The object exists, was made by the same command, and is newer than every file it was made from."""
        made = [self.obj, self.depfile, self.command_file, *([self.log] if self.source.suffix == ".cu" else [])]
        if not all(path.exists() for path in made):
            return False
        if self.command_file.read_text() != shlex.join(self.command):
            return False
        rule = self.depfile.read_text().replace("\\\n", " ").partition(": ")[2]
        since = self.obj.stat().st_mtime_ns
        return all(Path(name).exists() and Path(name).stat().st_mtime_ns <= since for name in shlex.split(rule))

    def compile(self) -> None:
        self.obj.parent.mkdir(parents=True, exist_ok=True)
        self.command_file.unlink(missing_ok=True)
        started = time.time_ns()
        self.log.write_text(
            run(self.command, f"compiling {self.source.relative_to(ROOT)} failed", quiet=is_resource_line)
        )
        os.utime(self.obj, ns=(started, started))  # a source edited while it was being compiled counts as newer
        self.command_file.write_text(shlex.join(self.command))


def is_resource_line(line: str) -> bool:
    return line.startswith("ptxas info") or "bytes stack frame" in line


def run(command: Sequence[str], failure: str, quiet: Callable[[str], bool] = lambda line: False) -> str:
    """Output of a command, which is also shown but for its `quiet` lines."""
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    said = result.stdout + result.stderr
    sys.stderr.writelines(line for line in said.splitlines(keepends=True) if not quiet(line))
    if result.returncode:
        raise CompileError(failure)
    return said


def import_torch():
    try:
        import torch
        from torch.utils import cpp_extension
    except ImportError as error:
        raise SetupError(
            "nasfast builds against the installed torch, and none can be imported here: "
            "install torch >= 2.11, then 'pip install --no-build-isolation .'"
        ) from error
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < MIN_TORCH:
        raise SetupError(f"nasfast needs torch >= {MIN_TORCH[0]}.{MIN_TORCH[1]}, got torch {torch.__version__}")
    return torch, cpp_extension


def cpu_isas() -> list[str]:
    """Instruction sets to build the CPU kernels for, lowest first."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return ["baseline"]
    return ["baseline", "avx2"] + (["avx512"] if os.environ.get("NASFAST_AVX512") == "1" else [])


def find_cuda_home() -> Path | None:
    nvcc = shutil.which("nvcc")
    candidates = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), nvcc and Path(nvcc).resolve().parent.parent]
    candidates += ["/usr/local/cuda", *sorted(glob("/usr/local/cuda-*"), reverse=True)]
    for home in (Path(c) for c in candidates if c):
        if (home / "bin/nvcc").exists() and (home / "include/cuda_runtime.h").exists():
            return home
    return None


def decide_cuda(torch_cuda: str | None, has_sources: bool) -> Cuda:
    """CUDA or not, from what torch was built for and what is installed; whether a GPU is present plays no part."""
    wanted = os.environ.get("NASFAST_CUDA", "")
    if wanted not in ("", "0", "1"):
        raise SetupError(f"NASFAST_CUDA must be 0 or 1, got {wanted!r}")
    if wanted == "0":
        return Cuda(None, "NASFAST_CUDA=0")
    home = find_cuda_home()
    missing = ""
    if torch_cuda is None:
        missing = "the installed torch is a CPU build"
    elif home is None:
        missing = "no CUDA toolkit found (CUDA_HOME, nvcc on the PATH, /usr/local/cuda)"
    elif not has_sources:
        missing = "this version has no CUDA kernels (no .cu under csrc)"
    else:
        text = subprocess.run([home / "bin/nvcc", "--version"], check=True, capture_output=True, text=True).stdout
        found = re.search(r"release (\d+)", text)
        if found is None or found[1] != torch_cuda.split(".")[0]:
            toolkit = f"CUDA {found[1]}" if found else "of unknown version"
            missing = f"torch is built for CUDA {torch_cuda}, the toolkit in {home} is {toolkit}"
    if missing and wanted == "1":
        raise SetupError(f"NASFAST_CUDA=1, but {missing}")
    return Cuda(None, missing) if missing else Cuda(home, f"torch for CUDA {torch_cuda}, toolkit in {home}")


def cuda_archs() -> str:
    return os.environ.get("TORCH_CUDA_ARCH_LIST") or DEFAULT_CUDA_ARCHS


def gencode_flags() -> list[str]:
    flags = []
    for arch in re.split(r"[;,\s]+", cuda_archs().strip()):
        match = re.fullmatch(r"(\d+)\.(\d[af]?)(\+PTX)?", arch)
        if match is None:
            raise SetupError(f"TORCH_CUDA_ARCH_LIST must be a list like '8.0;9.0+PTX', got {cuda_archs()!r}")
        number = match[1] + match[2]
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if match[3]:
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


def object_path(source: Path, variant: str = "") -> Path:
    tag = f"{sys.implementation.cache_tag}-{platform.machine()}"
    relative = source.relative_to(ROOT)
    return ROOT / "build" / f"objects-{tag}" / relative.with_name(f"{relative.name}{variant}.o")


def cuda_unit(source: Path, cuda_home: Path) -> Unit:
    obj = object_path(source)
    # A kernel calls constexpr functions of csrc/core as they are. ptxas tells what each kernel takes: make cuda-report.
    flags = ["-std=c++20", "-O3", "--expt-relaxed-constexpr", "-Xptxas", "-v", *gencode_flags()]
    flags += ["-Xcompiler", "-fPIC,-fvisibility=hidden", f"-I{CSRC}", "-MMD", "-MF", str(obj.with_suffix(".d"))]
    return Unit(source, obj, (str(cuda_home / "bin/nvcc"), *flags, "-c", str(source), "-o", str(obj)))


def compile_stale(units: Sequence[Unit], force: bool = False) -> None:
    stale = [unit for unit in units if force or not unit.is_current()]
    print(f"nasfast: compiling {len(stale)} of {len(units)} objects, {job_count()} at a time", flush=True)
    with ThreadPoolExecutor(job_count()) as pool:
        list(pool.map(Unit.compile, stale))


def job_count() -> int:
    return int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)


class BuildExtension(build_ext):
    """Compiles the units of nasfast._C into build/objects-<python tag> (kept between builds) and links them."""

    def build_extension(self, ext: Extension) -> None:
        torch, cpp_extension = import_torch()
        sources = sorted(CSRC.rglob("*.cpp"))
        cuda_sources = sorted(CSRC.rglob("*.cu"))
        cuda = decide_cuda(torch.version.cuda, bool(cuda_sources))
        print(f"nasfast: torch {torch.__version__}; CPU kernels for {', '.join(cpu_isas())}")
        print(f"nasfast: {'CUDA' if cuda.home else 'CPU-only'} build: {cuda.reason}", flush=True)

        units = self.cpp_units(sources, torch.__version__, cpp_extension.include_paths(), cuda)
        if cuda.home:
            units += [cuda_unit(source, cuda.home) for source in cuda_sources]
        compile_stale(units, self.force)
        self.link(units, Path(self.get_ext_fullpath(ext.name)), cpp_extension.library_paths(), cuda)

    def cpp_units(self, sources: list[Path], torch_version: str, torch_includes: list[str], cuda: Cuda) -> list[Unit]:
        """Ordinary sources first, then the kernels from the lowest instruction set up: where several objects hold the
        same inline function, the linker keeps the first, which therefore runs on every machine."""
        includes = [f"-I{CSRC}"] + [f"-isystem{path}" for path in torch_includes]
        includes += [f"-isystem{sysconfig.get_path('include')}"]
        cuda_includes: list[str] = []
        if cuda.home:
            paths = (cuda.home / "include", *nvidia_wheel_includes(torch_includes))
            cuda_includes = [f"-isystem{path}" for path in paths]
        defines = [
            "-DTORCH_EXTENSION_NAME=_C",
            f'-DNASFAST_TORCH_VERSION="{torch_version.split("+")[0]}"',
            *(f"-DNASFAST_HAVE_{isa.upper()}=1" for isa in cpu_isas()),
        ]
        compiler = shlex.split(os.environ.get("CXX") or "g++")
        own_flags = shlex.split(os.environ.get("CXXFLAGS", ""))

        def unit(source: Path, flags: list[str], variant: str = "") -> Unit:
            obj = object_path(source, variant)
            flags = [*COMMON_FLAGS, *flags, *own_flags, "-MMD", "-MF", str(obj.with_suffix(".d"))]
            return Unit(source, obj, (*compiler, *flags, "-c", str(source), "-o", str(obj)))

        kernels = [source for source in sources if source.name.endswith("_cpu_kernels.cpp")]
        ordinary = [s for s in sources if s not in kernels and (cuda.home or not s.name.endswith("_cuda.cpp"))]
        units = []
        for source in ordinary:
            if source.name == "bindings.cpp":  # the only one that asks, so that both builds share all other objects
                asks = ["-DNASFAST_WITH_CUDA=1", f'-DNASFAST_CUDA_ARCHS="{cuda_archs()}"'] if cuda.home else []
                variant = ".cuda" if cuda.home else ".cpu"
                units.append(unit(source, ["-O2", *defines, *asks, *includes, *cuda_includes], variant))
            else:
                own = cuda_includes if source.name.endswith("_cuda.cpp") else []
                units.append(unit(source, ["-O2", *defines, *includes, *own]))
        for isa in cpu_isas():
            flags = [*KERNEL_FLAGS, *ISA_FLAGS[isa], f"-DNASFAST_ISA={isa}", f"-I{CSRC}"]
            units += [unit(source, flags, f".{isa}") for source in kernels]
        return units

    def link(self, units: list[Unit], target: Path, torch_libraries: list[str], cuda: Cuda) -> None:
        libraries = ["c10", "torch", "torch_cpu", "torch_python"] + (["c10_cuda", "cudart"] if cuda.home else [])
        paths = [*torch_libraries, *([str(cuda.home / "lib64")] if cuda.home else [])]
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".linking")
        command = [*shlex.split(os.environ.get("CXX") or "g++"), "-shared", "-fopenmp", *(str(u.obj) for u in units)]
        command += [*(f"-L{path}" for path in paths), *(f"-l{name}" for name in libraries)]
        command += [*shlex.split(os.environ.get("LDFLAGS", "")), "-o", str(partial)]
        run(command, "linking nasfast._C failed")
        partial.replace(target)


def nvidia_wheel_includes(torch_includes: list[str]) -> list[Path]:
    """Headers that torch wants and a slim toolkit lacks (cublas and the like) come with the nvidia wheels."""
    site_packages = Path(torch_includes[0]).parents[1]
    return sorted(site_packages.glob("nvidia/*/include"))


if __name__ == "__main__":
    setup(ext_modules=[Extension("nasfast._C", sources=[])], cmdclass={"build_ext": BuildExtension})
