"""What CUDA kernels ask of memory, read from their PTX: accesses of single bytes, and of 16 bytes at once.

A copy between objects of which the compiler knows no alignment becomes one access a byte: as right as one of 16 bytes,
as many registers and as many bytes moved, but sixteen instructions. Only the instructions themselves show it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FLAGS = ("-std=c++20", "-O3", "--expt-relaxed-constexpr")
"""Of nvcc, as the extension is compiled."""

ONE_BYTE_DATA: dict[str, str] = {}
"""Kernels whose data are single bytes, by a part of their names, and why. There is none."""

_FUNCTION = re.compile(r"^\s*(?:\.\w+\s+)*\.(?:entry|func)\s+(?:\([^)]*\)\s*)?([\w$]+)")
_BOUND = re.compile(r"^\s*\.maxntid\s+([\d, ]+)")
_ACCESS = re.compile(r"^\s*(?:@!?%\w+\s+)?(ldu?|st)((?:\.[\w:]+)+)")
_SPACES = ("global", "shared", "local", "param", "const")


@dataclasses.dataclass
class Accesses:
    """Instructions of one kernel, or of a device function that was not inlined; not how often they run.

    Attributes:
        threads: Most threads of a block, of its launch bounds; 0: not said.
        single_bytes: Instructions that read or write single bytes of global or shared memory.
        wide: 16-byte instructions by what they do: load global, store global, load shared, store shared.
    """

    source: str
    name: str
    threads: int = 0
    single_bytes: list[str] = dataclasses.field(default_factory=list)
    wide: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def fault(self) -> str:
        """Why the function is rejected, or nothing."""
        if not self.single_bytes or any(part in self.name for part in ONE_BYTE_DATA):
            return ""
        kinds = ", ".join(f"{self.single_bytes.count(kind)} {kind}" for kind in dict.fromkeys(self.single_bytes))
        return f"moves single bytes: {kinds}"


def parse_ptx(text: str, source: str) -> list[Accesses]:
    """Functions of a PTX file with bodies; names as the compiler writes them, but see :func:`plain_name`."""
    functions: dict[str, Accesses] = {}
    now: Accesses | None = None
    for line in text.splitlines():
        if match := _FUNCTION.match(line):
            name = plain_name(match[1])
            now = functions.setdefault(name, Accesses(source, name))
        elif now is None:
            continue
        elif match := _BOUND.match(line):
            now.threads = 1
            for size in match[1].split(","):
                now.threads *= int(size)
        elif match := _ACCESS.match(line):
            _count(now, match[1], match[2])
    return list(functions.values())


def _count(function: Accesses, kind: str, modifiers: str) -> None:
    words = modifiers.split(".")[1:]
    # Without a space, an access is of any: what the compiler could not tell to be global or shared.
    space = next((space for word in words for space in _SPACES if word.split("::")[0] == space), "any")
    if space not in ("global", "shared", "any"):
        return
    bits = next(int(match[1]) for word in reversed(words) if (match := re.fullmatch(r"[a-z]+(\d+)", word)))
    count = next((int(word[1:]) for word in words if re.fullmatch(r"v\d", word)), 1)
    if bits == 8:
        function.single_bytes.append(kind + modifiers)
    if bits * count == 128:
        what = f"{'store' if kind == 'st' else 'load'} {space}"
        function.wide[what] = function.wide.get(what, 0) + 1


def plain_name(mangled: str) -> str:
    """A mangled name without what nvcc makes of an anonymous namespace, which is another on every run."""
    while found := re.search(r"(\d+)_GLOBAL__N__", mangled):
        mangled = f"{mangled[: found.start()]}12_GLOBAL__N_1{mangled[found.end(1) + int(found[1]) :]}"
    return mangled


def compile_ptx(sources: Sequence[Path], root: Path, nvcc: Path, arch: str) -> list[Accesses]:
    """Functions of all sources on one architecture (`sm_80`), compiled where something changed, side by side.

    Raises:
        SystemExit: nvcc rejects a source.
    """
    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)) as pool:
        texts = pool.map(lambda source: ptx_of(source, root, nvcc, arch), sources)
        return [f for source, text in zip(sources, texts, strict=True) for f in parse_ptx(text, source.name)]


def ptx_of(source: Path, root: Path, nvcc: Path, arch: str) -> str:
    """PTX of a source, kept under build/ptx with a digest of all that it was made from."""
    out = root / "build/ptx" / arch / source.relative_to(root).with_suffix(".ptx")
    rule, stamp = out.with_suffix(".d"), out.with_suffix(".digest")
    architecture = f"-arch={arch.replace('sm_', 'compute_')}"
    command = [str(nvcc), *FLAGS, architecture, f"-I{root / 'csrc'}", "-MMD", "-MF", str(rule), "-ptx", str(source)]
    if not (out.exists() and rule.exists() and stamp.exists() and stamp.read_text() == _digest(command, rule)):
        out.parent.mkdir(parents=True, exist_ok=True)
        result = subprocess.run([*command, "-o", str(out)], check=False, capture_output=True, text=True)
        if result.returncode:
            raise SystemExit(f"cuda-report: {source.name}: nvcc fails:\n{result.stdout}{result.stderr}")
        stamp.write_text(_digest(command, rule))
    return out.read_text()


def _digest(command: Sequence[str], rule: Path) -> str:
    """Of a command and of the contents of all files in the dependency rule that it wrote."""
    digest = hashlib.sha256("\0".join(command).encode())
    for name in shlex.split(rule.read_text().replace("\\\n", " ").partition(" : ")[2]):
        path = Path(name)
        digest.update(path.read_bytes() if path.exists() else b"gone")
    return digest.hexdigest()
