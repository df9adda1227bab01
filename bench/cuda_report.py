"""What every CUDA kernel takes on every architecture: `make cuda-report`, or `python -m bench.cuda_report`.

Compiles the kernels as the extension does (objects that are up to date stay) and reads what ptxas says of each:
registers per thread, static shared memory per block, stack frame, spilled registers; and from their PTX, how wide they
access memory. A kernel that spills, that keeps an array in local memory because its index is not known at compile time,
or that moves single bytes, is slow in a way that no test sees: each fails the report. Needs the CUDA toolkit, and no
GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.cuda_occupancy import residency
from bench.cuda_ptx import Accesses, compile_ptx, plain_name
from bench.tables import Row, render

ROOT = Path(__file__).resolve().parent.parent

RESOURCES = """\
What a kernel takes. Dynamic shared memory is chosen by the host at each launch and is not known here: `blocks` of a
multiprocessor are what threads, registers and static shared memory allow, and `room` the bytes of dynamic shared memory
that a block may take for all of them to be resident. A block that takes more has fewer beside it."""
ACCESSES = """
Instructions that move 16 bytes at once, in the PTX; not how often they run."""


@dataclasses.dataclass
class Kernel:
    """Resources of one kernel, or of a device function that was not inlined, on one architecture. Sizes in bytes."""

    source: str
    name: str
    arch: str
    registers: int = 0
    shared: int = 0
    stack: int = 0
    spill_stores: int = 0
    spill_loads: int = 0

    @property
    def fault(self) -> str:
        """Why the kernel is rejected, or nothing."""
        if self.spill_stores or self.spill_loads:
            return f"spills {self.spill_stores} bytes and reads back {self.spill_loads}"
        return f"keeps {self.stack} bytes in local memory" if self.stack else ""


def parse_ptxas(text: str, source: str) -> list[Kernel]:
    """Kernels in the output of `nvcc -Xptxas -v`; names as the compiler writes them, but see plain_name."""
    kernels: list[Kernel] = []
    arch = ""
    for line in text.splitlines():
        if match := re.search(r"Compiling entry function '\S+' for '(sm_\w+)'", line):
            arch = match[1]
        elif match := re.search(r"Function properties for (\S+)", line):
            kernels.append(Kernel(source, plain_name(match[1]), arch))
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            kernels[-1].stack, kernels[-1].spill_stores, kernels[-1].spill_loads = map(int, match.groups())
        elif match := re.search(r"Used (\d+) registers", line):
            kernels[-1].registers = int(match[1])
            shared = re.search(r"(\d+) bytes smem", line)
            kernels[-1].shared = int(shared[1]) if shared else 0
    return kernels


@functools.cache
def readable(name: str) -> str:
    """A name as it stands in the source, where c++filt is installed."""
    if shutil.which("c++filt") is None:
        return name
    full = subprocess.run(["c++filt", name], check=True, capture_output=True, text=True).stdout.strip()
    return re.sub(r"\(anonymous namespace\)::|nasfast::|^void ", "", full).split("(")[0]


def compile_kernels() -> tuple[list[Kernel], list[Accesses]]:
    """Kernels of csrc, compiled where they changed. Raises SystemExit where they cannot be compiled."""
    setup = load_setup()
    objects = setup.folder() / "csrc/CMakeFiles/kernels_cuda.dir"
    for path in objects.rglob("*.o"):
        if not path.with_name(f"{path.name}.log").exists():
            path.unlink()  # compiled again, for what ptxas says of it
    try:
        folder = setup.build("kernels_cuda", cuda="1")
    except (setup.CompileError, setup.SetupError) as error:
        raise SystemExit(f"cuda-report: {error}") from error
    csrc = ROOT / "csrc"
    logs = {path: objects / f"{path.relative_to(csrc)}.o.log" for path in sorted(csrc.rglob("*.cu"))}
    kernels = [k for path, log in logs.items() for k in parse_ptxas(log.read_text(), path.name)]
    found = next(folder.glob("CMakeFiles/*/CMakeCUDACompiler.cmake")).read_text()
    nvcc = re.search(r'^set\(CMAKE_CUDA_COMPILER "(.+)"\)$', found, re.MULTILINE)
    assert nvcc is not None
    lowest = min((k.arch for k in kernels), key=lambda arch: int(re.sub(r"\D", "", arch)))
    return kernels, compile_ptx(list(logs), ROOT, Path(nvcc[1]), lowest)


def load_setup() -> Any:
    """setup.py, which knows how to run CMake."""
    spec = importlib.util.spec_from_file_location("nasfast_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def resource_table(kernels: Sequence[Kernel], threads: Mapping[str, int]) -> str:
    """One row per kernel: what it takes on each architecture, and the most it takes of memory on any."""
    archs = list(dict.fromkeys(k.arch for k in kernels))
    by_name: dict[tuple[str, str], dict[str, Kernel]] = {}
    for k in kernels:
        by_name.setdefault((k.source, k.name), {})[k.arch] = k
    rows: list[Row] = []
    for (source, name), on in by_name.items():
        block = threads.get(name, 0)
        taken: list[str] = []
        for arch in archs:
            taken += _taken(on[arch], block) if arch in on else ["-"] * 3
        sizes = [
            str(max(getattr(k, field) for k in on.values()))
            for field in ("shared", "stack", "spill_stores", "spill_loads")
        ]
        rows.append((source, readable(name), str(block or "-"), *taken, *sizes))
    headers = [f"{what} {arch}" for arch in archs for what in ("registers", "blocks", "room")]
    return render(
        ("source", "kernel", "threads", *headers, "static shared", "stack", "spill stores", "spill loads"), rows
    )


def _taken(kernel: Kernel, threads: int) -> list[str]:
    """Registers, blocks of a multiprocessor, and the shared memory that is left to each."""
    held = residency(kernel.arch, threads, kernel.registers, kernel.shared)
    return [str(kernel.registers), *(("-", "-") if held is None else (str(held.blocks), str(held.room)))]


def access_table(functions: Sequence[Accesses]) -> str:
    kinds = ("load global", "store global", "load shared", "store shared")
    rows = [
        (f.source, readable(f.name), *(str(f.wide.get(kind, 0)) for kind in kinds), str(len(f.single_bytes)))
        for f in functions
    ]
    return render(("source", "kernel", *kinds, "single bytes"), rows)


def report(kernels: Sequence[Kernel], functions: Sequence[Accesses], path: Path | None) -> int:
    """Print the tables, write them as JSON; returns the exit status: 1 where a kernel is rejected or none is found."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        content = {name: [dataclasses.asdict(part) for part in parts] for name, parts in _parts(kernels, functions)}
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    if not kernels or not functions:
        print("cuda-report: no kernel was compiled")
        return 1
    print(RESOURCES, resource_table(kernels, {f.name: f.threads for f in functions}), sep="\n\n")
    print(ACCESSES, access_table(functions), sep="\n\n")
    faults = [f"{k.source}: {readable(k.name)} on {k.arch} {k.fault}" for k in kernels if k.fault]
    faults += [f"{f.source}: {readable(f.name)} {f.fault}" for f in functions if f.fault]
    unread = {(k.source, k.name) for k in kernels} - {(f.source, f.name) for f in functions}
    faults += [f"{source}: no PTX was found of {readable(name)}" for source, name in sorted(unread)]
    for fault in faults:
        print(f"cuda-report: {fault}")
    kept = sum(not k.fault for k in kernels)
    print(f"cuda-report: {kept} of {len(kernels)} kernels keep everything in registers")
    whole = sum(not f.fault for f in functions)
    print(f"cuda-report: {whole} of {len(functions)} functions move no single bytes")
    return 1 if faults else 0


def _parts(
    kernels: Sequence[Kernel], functions: Sequence[Accesses]
) -> tuple[tuple[str, Sequence[Kernel | Accesses]], ...]:
    return ("kernels", kernels), ("accesses", functions)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cuda_report", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures there")
    args = parser.parse_args(argv)
    return report(*compile_kernels(), args.json)


if __name__ == "__main__":
    sys.exit(main())
