"""Builds the extension, also with a toolkit that has no libcudart.so: `python -P bench/gpu_build.py`.

A slim toolkit leaves the library to torch's wheels, which have it under its full name alone; a link of the name that
the linker looks for is made beside the objects. Knows nothing of what it builds, so it runs before anything is built.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINKS = ROOT / "build/cudart"


def toolkit(nvcc: str | None) -> Path | None:
    """Folder of the toolkit that is built with: the first of those that have its headers."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), nvcc and Path(nvcc).resolve().parent.parent]
    found = (Path(home) for home in (*homes, "/usr/local/cuda") if home)
    return next((home for home in found if (home / "include/cuda_runtime.h").exists()), None)


def runtime_library(home: Path, wheels: Sequence[Path]) -> Path | None:
    """The CUDA runtime of the wheels, where the toolkit has none to link against; else None."""
    if any((home / folder / "libcudart.so").exists() for folder in ("lib64", "lib", "targets/x86_64-linux/lib")):
        return None
    found = (library for folder in wheels for library in sorted(folder.glob("nvidia/*/lib/libcudart.so.[0-9]*")))
    return next(found, None)


def link_flags(library: Path, links: Path) -> str:
    """Makes the linker's name for the library; the option that leads there."""
    links.mkdir(parents=True, exist_ok=True)
    link = links / "libcudart.so"
    link.unlink(missing_ok=True)
    link.symlink_to(library)
    return f"-L{links}"


def main() -> int:
    home = toolkit(shutil.which("nvcc"))
    library = runtime_library(home, [Path(sysconfig.get_path("purelib"))]) if home else None
    environment = dict(os.environ)
    if library:
        environment["LDFLAGS"] = f"{link_flags(library, LINKS)} {os.environ.get('LDFLAGS', '')}".strip()
        print(f"{home} has no libcudart.so: linked against {library}", flush=True)
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    if code:
        return code
    said = "import torch, nasfast._C as extension; print(extension.build_info())"
    return subprocess.run([sys.executable, "-c", said], cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
