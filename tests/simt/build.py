"""Builds the test modules that run CUDA sources on the CPU: `_simt` (csrc) and `_simt_faulty` (tests/simt/faulty).

`python tests/simt/build.py [--sanitize] [NAME ...]` prints the path of each. CMakeLists.txt says what they are made of;
what is up to date stays.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("_simt", "_simt_faulty")


def load_setup() -> Any:
    """setup.py as a module: it knows how to run CMake, one process at a time."""
    spec = importlib.util.spec_from_file_location("nasfast_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(name: str, sanitize: bool = False) -> Path:
    """Path of the module, up to date."""
    os.environ.pop("LD_PRELOAD", None)  # this process may run under a sanitizer, the compiler need not
    kind, target = ("simt-sanitize", f"{name}_sanitize") if sanitize else ("simt", name)
    folder: Path = load_setup().build(target, reconfigure=False)
    return folder / kind / f"{name}.so"


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
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{' or '.join(MODULES)}; without one, both")
    parser.add_argument("--sanitize", action="store_true", help="with AddressSanitizer and UndefinedBehaviorSanitizer")
    args = parser.parse_args()
    for name in args.names or MODULES:
        print(build(name, args.sanitize))


if __name__ == "__main__":
    main()
