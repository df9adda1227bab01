"""Builds the extension module nasfast._C with CMake and Ninja, whose CMakeLists.txt defines all of it; everything else
about the package stands in pyproject.toml.

Environment:
    NASFAST_CUDA    1: fail unless the CUDA kernels can be built; 0: CPU only; unset: for the GPUs seen here, if any.
    NASFAST_AVX512  1: also build the AVX-512 copy of the CPU kernels (never run by the authors, so off by default).
    TORCH_CUDA_ARCH_LIST  GPU architectures, default "8.0;9.0;10.0+PTX" with NASFAST_CUDA=1.
    CXX, CXXFLAGS, LDFLAGS, MAX_JOBS  as usual.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, SetupError

ROOT = Path(__file__).resolve().parent


def folder() -> Path:
    """Where objects are kept between builds: one for each Python and compiler."""
    tag = f"{sys.implementation.cache_tag}-{platform.machine()}"
    return ROOT / "build" / re.sub(r"[^\w.+-]+", "-", f"{tag} {os.environ.get('CXX', '')}".strip())


def tool(name: str) -> str:
    """A program of this Python's environment, or of the PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path)
    if found is None:
        raise SetupError(f"nasfast is built with {name}, and none is found: pip install cmake ninja")
    return found


def cmake(what: str, *arguments: object) -> None:
    command = [tool("cmake"), *map(str, arguments)]
    if subprocess.run(command, check=False, env={"CXX": "g++"} | os.environ, stdout=2).returncode:
        raise CompileError(f"{what} failed: see above")


def configure(cuda: str | None = None) -> None:
    """`cuda` is as NASFAST_CUDA, and stands for it where it is given."""
    env = os.environ
    defines = {
        "CMAKE_MAKE_PROGRAM": tool("ninja"),
        "CMAKE_CXX_FLAGS": env.get("CXXFLAGS", ""),
        "CMAKE_MODULE_LINKER_FLAGS": env.get("LDFLAGS", ""),
        "Python_EXECUTABLE": sys.executable,
        "NASFAST_CUDA": env.get("NASFAST_CUDA", "") if cuda is None else cuda,
        "NASFAST_CUDA_ARCHS": env.get("TORCH_CUDA_ARCH_LIST", ""),
        "NASFAST_AVX512": "ON" if env.get("NASFAST_AVX512") == "1" else "OFF",
    }
    flags = [f"-D{name}={value}" for name, value in defines.items()]
    cmake("configuring nasfast", "-S", ROOT, "-B", folder(), "-G", "Ninja", *flags)


def build(*targets: str, cuda: str | None = None, reconfigure: bool = True) -> Path:
    """The build folder, with these targets of CMakeLists.txt up to date. Another process that builds there waits."""
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if reconfigure or not (folder() / "build.ninja").exists():
            configure(cuda)
        jobs = os.environ.get("MAX_JOBS") or os.cpu_count() or 1
        cmake("building nasfast", "--build", folder(), "-j", jobs, "--target", *targets)
    return folder()


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        self.copy_file(str(build("_C") / "module" / target.name), str(target))


if __name__ == "__main__":
    setup(ext_modules=[Extension("nasfast._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
