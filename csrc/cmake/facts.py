"""What CMake asks of Python: where torch is, and whether and for what the CUDA kernels are built. Prints CMake code.

--cuda 1: fail unless the CUDA kernels can be built; 0: CPU only; empty: for the GPUs that torch sees here, if any.
--archs: GPU architectures as in TORCH_CUDA_ARCH_LIST; empty: those of the GPUs or, with --cuda 1, the default.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from glob import glob
from pathlib import Path

MIN_TORCH = (2, 11)
DEFAULT_ARCHS = "8.0;9.0;10.0+PTX"  # with PTX, newer cards compile it when they load it


class BuildError(Exception):
    """Why nasfast cannot be built here, in one line."""


@dataclass(frozen=True)
class Torch:
    version: str
    cuda: str | None  # version of CUDA it is built for
    includes: list[str]
    libraries: list[str]
    capabilities: list[tuple[int, int]]  # of the GPUs it sees

    @property
    def nvidia_wheels(self) -> Path:
        """CUDA's libraries and headers as torch's dependencies bring them: a slim toolkit lacks some."""
        return Path(self.includes[0]).parents[1] / "nvidia"


@dataclass(frozen=True)
class Cuda:
    home: Path | None  # None: CPU only
    reason: str
    archs: str = ""


def ask_torch() -> Torch:
    try:
        import torch
        from torch.utils import cpp_extension
    except ImportError as error:
        raise BuildError(
            "nasfast builds against the installed torch, and none can be imported here: "
            "install torch >= 2.11, then 'pip install --no-build-isolation .'"
        ) from error
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < MIN_TORCH:
        raise BuildError(f"nasfast needs torch >= {MIN_TORCH[0]}.{MIN_TORCH[1]}, got torch {torch.__version__}")
    count = torch.cuda.device_count() if torch.version.cuda else 0
    capabilities = sorted({torch.cuda.get_device_capability(device) for device in range(count)})
    includes, libraries = cpp_extension.include_paths(), cpp_extension.library_paths()
    return Torch(torch.__version__.split("+")[0], torch.version.cuda, includes, libraries, capabilities)


def find_cuda_home() -> Path | None:
    nvcc = shutil.which("nvcc")
    candidates = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), nvcc and Path(nvcc).resolve().parent.parent]
    candidates += ["/usr/local/cuda", *sorted(glob("/usr/local/cuda-*"), reverse=True)]
    for home in (Path(c) for c in candidates if c):
        if (home / "bin/nvcc").exists() and (home / "include/cuda_runtime.h").exists():
            return home
    return None


def decide_cuda(wanted: str, archs: str, torch: Torch) -> Cuda:
    """CUDA or not, from what is wanted, what torch was built for, what is installed and which GPUs there are."""
    if wanted not in ("", "0", "1"):
        raise BuildError(f"NASFAST_CUDA must be 0 or 1, got {wanted!r}")
    if wanted == "0":
        return Cuda(None, "NASFAST_CUDA=0")
    home = find_cuda_home()
    missing = ""
    if torch.cuda is None:
        missing = "the installed torch is a CPU build"
    elif not wanted and not torch.capabilities:
        missing = "torch sees no GPU here (NASFAST_CUDA=1 builds the CUDA kernels all the same)"
    elif home is None:
        missing = "no CUDA toolkit found (CUDA_HOME, nvcc on the PATH, /usr/local/cuda)"
    else:
        text = subprocess.run([home / "bin/nvcc", "--version"], check=True, capture_output=True, text=True).stdout
        found = re.search(r"release (\d+)", text)
        if found is None or found[1] != torch.cuda.split(".")[0]:
            toolkit = f"CUDA {found[1]}" if found else "of unknown version"
            missing = f"torch is built for CUDA {torch.cuda}, the toolkit in {home} is {toolkit}"
    if missing and wanted:
        raise BuildError(f"NASFAST_CUDA=1, but {missing}")
    if missing:
        return Cuda(None, missing)
    if not archs:
        archs = DEFAULT_ARCHS if wanted else ";".join(f"{major}.{minor}" for major, minor in torch.capabilities)
    return Cuda(home, f"torch for CUDA {torch.cuda}, toolkit in {home}", archs)


def gencode_flags(archs: str) -> list[str]:
    """As few passes of the front end as give the code that a pass for each architecture would.

    No kernel asks __CUDA_ARCH__, so that 8.x and 9.x share the PTX of the lowest: the same registers. From 10.0 on,
    ptxas makes less of older PTX (more registers, spills), so these share PTX of their own. +PTX embeds the newest.
    Code for 9.0a and the like can only come from PTX of the same name.
    """
    groups: dict[str, list[str]] = {}
    embed = False
    for arch in re.split(r"[;,\s]+", archs.strip()):
        match = re.fullmatch(r"(\d+)\.(\d)([af]?)(\+PTX)?", arch)
        if match is None:
            raise BuildError(f"TORCH_CUDA_ARCH_LIST must be a list like '8.0;9.0+PTX', got {archs!r}")
        number = match[1] + match[2] + match[3]
        groups.setdefault(number if match[3] else "new" if int(match[1]) >= 10 else "old", []).append(number)
        embed = embed or match[4] is not None
    lists = [sorted(set(numbers), key=lambda n: int(n.rstrip("af"))) for numbers in groups.values()]
    lists.sort(key=lambda numbers: int(numbers[0].rstrip("af")))
    return [gencode(numbers, embed and numbers is lists[-1]) for numbers in lists]


def gencode(numbers: list[str], embed: bool) -> str:
    code = [f"sm_{number}" for number in numbers] + ([f"compute_{numbers[0]}"] if embed else [])
    return f"-gencode=arch=compute_{numbers[0]},code=[{','.join(code)}]"


def find_cudart(home: Path, torch: Torch) -> Path:
    candidates = [home / "lib64/libcudart.so", *sorted(torch.nvidia_wheels.glob("*/lib/libcudart.so*"))]
    for path in candidates:
        if path.exists():
            return path
    raise BuildError(f"libcudart.so must be in {candidates[0].parent} or in torch's nvidia wheels, found in neither")


def cmake_code(torch: Torch, cuda: Cuda) -> str:
    values: dict[str, list[str]] = {
        "TORCH_VERSION": [torch.version],
        "TORCH_INCLUDES": torch.includes,
        "TORCH_LIBRARIES": torch.libraries,
        "CUDA_HOME": [str(cuda.home)] if cuda.home else [],
        "CUDA_REASON": [cuda.reason],
        "CUDA_ARCHS": [cuda.archs.replace(";", " ")],  # ; would make a list of it
    }
    if cuda.home:
        wheels = sorted(str(path) for path in torch.nvidia_wheels.glob("*/include"))
        values["CUDA_INCLUDES"] = [str(cuda.home / "include"), *wheels]
        values["CUDA_GENCODE"] = gencode_flags(cuda.archs)
        values["CUDA_CUDART"] = [str(find_cudart(cuda.home, torch))]
    return "".join(f"set({name} {' '.join(f'[==[{v}]==]' for v in value)})\n" for name, value in values.items())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuda", default="")
    parser.add_argument("--archs", default="")
    args = parser.parse_args()
    try:
        torch = ask_torch()
        print(cmake_code(torch, decide_cuda(args.cuda, args.archs, torch)), end="")
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
