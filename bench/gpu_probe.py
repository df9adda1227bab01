"""What machine this is: driver, toolkit, compilers, tools, Python and torch. `python -P bench/gpu_probe.py`.

Fails where torch can use no GPU. Runs before anything is built.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys

COMMANDS = (
    ("nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm,power.limit", "--format=csv"),
    ("nvcc", "--version"),
    ("g++", "-dumpfullversion"),
    ("cmake", "--version"),
    ("ninja", "--version"),
    ("ncu", "--version"),
    ("compute-sanitizer", "--version"),
)


def describe(command: tuple[str, ...]) -> str:
    """What a tool says of itself, or that it is not there."""
    path = shutil.which(command[0])
    if path is None:
        return f"{command[0]}: not found"
    found = subprocess.run([path, *command[1:]], capture_output=True, text=True, check=False)
    return f"{path}:\n{(found.stdout + found.stderr).strip()}"


def main() -> int:
    print(platform.platform(), f"{len(os.sched_getaffinity(0))} cores", flush=True)
    for command in COMMANDS:
        print(describe(command), flush=True)
    import torch

    print(f"Python {sys.version}\ntorch {torch.__version__}, CUDA {torch.version.cuda}", flush=True)
    if not torch.cuda.is_available():
        print("torch can use no GPU")
        return 1
    print(torch.cuda.get_device_name())
    return 0


if __name__ == "__main__":
    sys.exit(main())
