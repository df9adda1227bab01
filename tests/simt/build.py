"""Builds the test modules that run CUDA sources on the CPU: `_simt` (csrc) and `_simt_faulty` (tests/simt/faulty).

`python tests/simt/build.py [--sanitize] [NAME ...]` prints the path of each. Objects are kept under build/simt and made
again only when a source, a header or the command changed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.util
import os
import shlex
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CSRC = ROOT / "csrc"
MODULES = ("_simt", "_simt_faulty")
# What the CUDA host side calls of the rest of csrc. Sources that register ops stay out: nasfast._C does that.
HOST_SOURCES = (
    *("mixed_op/graph.cpp", "mixed_op/contract.cpp"),
    *("child_eval/plan.cpp", "child_eval/primitives.cpp", "child_eval/tables.cpp"),
    *("supernet/call.cpp", "supernet/contract.cpp", "supernet/program.cpp", "supernet/tape.cpp"),
)
FLAGS = ["-std=c++20", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-O2"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1", "-O1"]


def load_setup() -> Any:
    """setup.py as a module: it knows how to compile what changed."""
    spec = importlib.util.spec_from_file_location("nasfast_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def harness_sources() -> list[Path]:
    return [path for path in sorted(HERE.glob("*.cpp")) if path.name != "module.cpp"]


def module_sources(name: str) -> list[Path]:
    if name == "_simt_faulty":
        return [HERE / "faulty/module.cpp", *sorted((HERE / "faulty").glob("*.cu"))]
    kernels = [*sorted(CSRC.rglob("*.cu")), *sorted(CSRC.rglob("*_cuda.cpp")), *(CSRC / path for path in HOST_SOURCES)]
    return [HERE / "module.cpp", *kernels]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process that builds the same waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(name: str, sanitize: bool = False) -> Path:
    """Path of the module, up to date."""
    setup = load_setup()
    _, cpp_extension = setup.import_torch()
    folder = ROOT / "build" / ("simt-sanitize" if sanitize else "simt")
    compiler = shlex.split(os.environ.get("CXX") or "g++")
    extra = SANITIZE if sanitize else []
    includes = [f"-I{CSRC}", f"-I{HERE}"]
    includes += [f"-isystem{path}" for path in (*cpp_extension.include_paths(), sysconfig.get_path("include"))]

    def unit(source: Path) -> Any:
        relative = source.relative_to(ROOT)
        obj = folder / relative.with_name(f"{relative.name}.o")
        named = [f"-DTORCH_EXTENSION_NAME={name}"] if source.name == "module.cpp" else []
        command = [*compiler, *FLAGS, *extra, "-DNASFAST_SIMT=1", *named, *includes]
        command += ["-MMD", "-MF", str(obj.with_suffix(".d")), "-x", "c++", "-c", str(source), "-o", str(obj)]
        return setup.Unit(source, obj, tuple(command))

    def compiled(sources: list[Path]) -> list[Any]:
        units = [unit(source) for source in sources]
        stale = [u for u in units if not u.is_current()]
        with ThreadPoolExecutor(setup.job_count()) as pool:
            list(pool.map(setup.Unit.compile, stale))
        return units

    with locked(folder / "harness.lock"):
        units = compiled(harness_sources())
    with locked(folder / f"{name}.lock"):
        units += compiled(module_sources(name))
        target = folder / f"{name}.so"
        newest = max(u.command_file.stat().st_mtime_ns for u in units)
        if not target.exists() or target.stat().st_mtime_ns < newest:
            libraries = [f"-L{path}" for path in cpp_extension.library_paths()]
            libraries += [f"-l{library}" for library in ("c10", "torch", "torch_cpu", "torch_python")]
            partial = target.with_suffix(".linking")
            command = [*compiler, "-shared", *extra, *(str(u.obj) for u in units), *libraries, "-o", str(partial)]
            setup.run(command, f"linking {name} failed")
            partial.replace(target)
    return target


def load(name: str, sanitize: bool = False) -> ModuleType:
    """The module, built first where needed. Imports torch and nasfast, whose libraries and ops it uses."""
    import nasfast  # noqa: F401

    spec = importlib.util.spec_from_file_location(name, build(name, sanitize))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=MODULES, choices=MODULES)
    parser.add_argument("--sanitize", action="store_true", help="with AddressSanitizer and UndefinedBehaviorSanitizer")
    args = parser.parse_args()
    for name in args.names:
        print(build(name, args.sanitize))


if __name__ == "__main__":
    main()
