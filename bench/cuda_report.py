"""What every CUDA kernel takes on every architecture: `make cuda-report`, or `python -m bench.cuda_report`.

Compiles the kernels as the extension does (objects that are up to date stay) and reads what ptxas says of each:
registers per thread, static shared memory per block, stack frame, spilled registers. A kernel that spills, or keeps an
array in local memory because its index is not known at compile time, is slow in a way that no test sees: either fails
the report. Needs the CUDA toolkit, and no GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.tables import Row, render

ROOT = Path(__file__).resolve().parent.parent


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
    """Kernels in the output of `nvcc -Xptxas -v`; names as the compiler writes them."""
    kernels: list[Kernel] = []
    arch = ""
    for line in text.splitlines():
        if match := re.search(r"Compiling entry function '\S+' for '(sm_\w+)'", line):
            arch = match[1]
        elif match := re.search(r"Function properties for (\S+)", line):
            kernels.append(Kernel(source, match[1], arch))
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            kernels[-1].stack, kernels[-1].spill_stores, kernels[-1].spill_loads = map(int, match.groups())
        elif match := re.search(r"Used (\d+) registers", line):
            kernels[-1].registers = int(match[1])
            shared = re.search(r"(\d+) bytes smem", line)
            kernels[-1].shared = int(shared[1]) if shared else 0
    return kernels


def demangle(kernels: Sequence[Kernel]) -> None:
    """Readable names, where c++filt is installed."""
    if not kernels or shutil.which("c++filt") is None:
        return
    names = "\n".join(k.name for k in kernels)
    readable = subprocess.run(["c++filt"], input=names, check=True, capture_output=True, text=True).stdout.splitlines()
    for kernel, name in zip(kernels, readable, strict=True):
        short = re.sub(r"\(anonymous namespace\)::|nasfast::|^void ", "", name)
        kernel.name = short.split("(")[0]


def compile_kernels() -> list[Kernel]:
    """Kernels of csrc, compiled where they changed. Raises SystemExit where they cannot be compiled."""
    setup = load_setup()
    objects = setup.folder() / "csrc/CMakeFiles/kernels_cuda.dir"
    for path in objects.rglob("*.o"):
        if not path.with_name(f"{path.name}.log").exists():
            path.unlink()  # compiled again, for what ptxas says of it
    try:
        setup.build("kernels_cuda", cuda="1")
    except (setup.CompileError, setup.SetupError) as error:
        raise SystemExit(f"cuda-report: {error}") from error
    csrc = ROOT / "csrc"
    logs = {path: objects / f"{path.relative_to(csrc)}.o.log" for path in sorted(csrc.rglob("*.cu"))}
    kernels = [k for path, log in logs.items() for k in parse_ptxas(log.read_text(), path.name)]
    demangle(kernels)
    return kernels


def load_setup() -> Any:
    """setup.py, which knows how to run CMake."""
    spec = importlib.util.spec_from_file_location("nasfast_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def table(kernels: Sequence[Kernel]) -> str:
    """One row per kernel: registers on each architecture, and the most it takes of memory on any."""
    archs = list(dict.fromkeys(k.arch for k in kernels))
    by_name: dict[tuple[str, str], dict[str, Kernel]] = {}
    for k in kernels:
        by_name.setdefault((k.source, k.name), {})[k.arch] = k
    rows: list[Row] = []
    for (source, name), on in by_name.items():
        registers = [str(on[arch].registers) if arch in on else "-" for arch in archs]
        sizes = [
            str(max(getattr(k, field) for k in on.values()))
            for field in ("shared", "stack", "spill_stores", "spill_loads")
        ]
        rows.append((source, name, *registers, *sizes))
    headers = ("source", "kernel", *(f"registers {arch}" for arch in archs))
    return render((*headers, "static shared", "stack", "spill stores", "spill loads"), rows)


def report(kernels: Sequence[Kernel], path: Path | None) -> int:
    """Print the table, write it as JSON, and return the exit status: 1 where a kernel is rejected or none was found."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps([dataclasses.asdict(k) for k in kernels], indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    if not kernels:
        print("cuda-report: no kernel was compiled")
        return 1
    print(table(kernels))
    faults = [k for k in kernels if k.fault]
    for k in faults:
        print(f"cuda-report: {k.source}: {k.name} on {k.arch} {k.fault}")
    print(f"cuda-report: {len(kernels) - len(faults)} of {len(kernels)} kernels keep everything in registers")
    return 1 if faults else 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cuda_report", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures there")
    args = parser.parse_args(argv)
    return report(compile_kernels(), args.json)


if __name__ == "__main__":
    sys.exit(main())
