"""What each CUDA kernel should take, from the bytes it moves: beside what it took.

Bytes are counted by running the kernels in the harness of tests/simt (`python -m bench.cuda_traffic`): every byte once
per launch and direction, which is what memory moves when caches lose nothing within a launch. Predicted is
bytes / copy bandwidth of the card. That knows neither arithmetic, nor the some microseconds that a launch takes at
least, nor that tensors which fit the card's L2 cache need not come from memory: a small kernel takes longer than that,
and one whose input the kernel before has just written may take less.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.cuda import KernelTime
from bench.tables import Row, megabytes, percent
from nasfast.errors import DataError

OTHERS = "kernels of torch"
MEMSET = "memset"
FORMAT = 1


@dataclass(frozen=True)
class Counted:
    """Launches of one kernel in one step, and the bytes they move together."""

    name: str
    launches: float
    bytes: float

    def seconds(self, copy: float) -> float:
        return self.bytes / copy


@dataclass(frozen=True)
class Traffic:
    """The kernels of one step: of an `edge` or a `network` of some `size`, in some dtype."""

    what: str
    size: Mapping[str, int]
    dtype: str
    step: str
    kernels: tuple[Counted, ...]

    @property
    def bytes(self) -> float:
        return sum(kernel.bytes for kernel in self.kernels)

    @property
    def launches(self) -> float:
        return sum(kernel.launches for kernel in self.kernels)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def add_up(launches: Iterable[Mapping[str, Any]]) -> tuple[Counted, ...]:
    """The harness's table of launches by kernel, in the order of their first launch."""
    found: dict[str, Counted] = {}
    for launch in launches:
        before = found.get(launch["name"], Counted(launch["name"], 0, 0))
        moved = launch["unique_read"] + launch["unique_written"]
        found[before.name] = Counted(before.name, before.launches + 1, before.bytes + moved)
    return tuple(found.values())


def save(path: Path, entries: Sequence[Traffic], facts: Mapping[str, Any]) -> None:
    """Written beside and renamed, so a file that exists is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    content = {"format": FORMAT, **facts, "entries": [entry.to_json() for entry in entries]}
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def load(path: Path) -> list[Traffic]:
    """What `save` wrote.

    Raises:
        DataError: the file cannot be read or is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise DataError(f"{path}: format {content['format']}, expected {FORMAT}: count again")
        return [
            Traffic(e["what"], e["size"], e["dtype"], e["step"], tuple(Counted(**kernel) for kernel in e["kernels"]))
            for e in content["entries"]
        ]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not a table of python -m bench.cuda_traffic") from error


def find(entries: Iterable[Traffic], what: str, size: Mapping[str, int], dtype: str, step: str) -> Traffic | None:
    """The traffic of a step: as counted at its size, or extrapolated in the batch from the two largest counted ones."""
    alike = [e for e in entries if (e.what, e.dtype, e.step) == (what, dtype, step)]
    exact = next((e for e in alike if dict(e.size) == dict(size)), None)
    if exact is not None:
        return exact
    others = [e for e in alike if dict(e.size) | {"batch": 0} == dict(size) | {"batch": 0}]
    others.sort(key=lambda e: e.size["batch"])
    return extrapolate(others[-2], others[-1], size["batch"]) if len(others) > 1 else None


def extrapolate(small: Traffic, large: Traffic, batch: int) -> Traffic:
    """The traffic at another batch, taken as linear in it: images grow with it, parameters do not.

    Partial sums do so only up to a number of blocks. From batches 2 and 4 to 32, the bytes of an edge came out within
    3 % of the counted ones, those of the small kernel that adds up weight gradients up to half off.
    """
    first, second = small.size["batch"], large.size["batch"]
    share = (batch - first) / (second - first)
    before = {kernel.name: kernel for kernel in small.kernels}
    kernels = tuple(
        Counted(
            kernel.name,
            _line(before[kernel.name].launches, kernel.launches, share),
            _line(before[kernel.name].bytes, kernel.bytes, share),
        )
        for kernel in large.kernels
    )
    return Traffic(large.what, {**large.size, "batch": batch}, large.dtype, large.step, kernels)


def _line(first: float, second: float, share: float) -> float:
    return first + share * (second - first)


def assign(measured: Mapping[str, KernelTime], names: Iterable[str]) -> dict[str, KernelTime]:
    """Times by the names of the harness: kernel `name` is the C++ function `name_kernel`; the rest is `OTHERS`.

    Copies and memsets go by the profiler's words for them.
    """
    known = sorted((name for name in names if name != MEMSET), key=len, reverse=True)  # the longest match is the kernel
    out: dict[str, KernelTime] = {}
    for signature, time in measured.items():
        name = next((name for name in known if f"{name}_kernel" in signature), OTHERS)
        if signature.lower().startswith(MEMSET):
            name = MEMSET
        before = out.get(name, KernelTime(0, 0))
        out[name] = KernelTime(before.launches + time.launches, before.seconds + time.seconds)
    return out


HEADERS = ("kernel", "launches", "moved, MB", "predicted, us", "measured, us", "GB/s", "of the copy's")


def compare(traffic: Traffic, measured: Mapping[str, KernelTime], copy: float) -> list[dict[str, Any]]:
    """Per kernel and in sum: launches and bytes counted, seconds predicted and measured (None: it did not run)."""
    times = assign(measured, [kernel.name for kernel in traffic.kernels])
    table: list[dict[str, Any]] = []
    for kernel in traffic.kernels:
        found = times.pop(kernel.name, None)
        table.append(_entry(kernel, found, copy))
    for name, found in times.items():
        table.append(_entry(Counted(name, 0, 0), found, copy) | {"launches": found.launches})
    total = Counted("all", sum(e["launches"] for e in table), traffic.bytes)
    ran = KernelTime(sum(e["measured_launches"] for e in table), sum(e["measured"] or 0.0 for e in table))
    return [*table, _entry(total, ran, copy)]


def _entry(kernel: Counted, found: KernelTime | None, copy: float) -> dict[str, Any]:
    return {
        "name": kernel.name,
        "launches": kernel.launches,
        "measured_launches": found.launches if found else 0.0,
        "bytes": kernel.bytes,
        "predicted": kernel.seconds(copy),
        "measured": found.seconds if found else None,
        "share_of_copy": kernel.seconds(copy) / found.seconds if found and found.seconds else None,
    }


def rows(table: Iterable[Mapping[str, Any]]) -> list[Row]:
    return [_row(entry) for entry in table]


def _row(entry: Mapping[str, Any]) -> Row:
    counted = entry["bytes"] > 0
    launches = f"{entry['launches']:.0f}"
    if entry["measured"] is None or round(entry["measured_launches"]) != round(entry["launches"]):
        launches += f" (ran {entry['measured_launches']:.0f})"
    measured = "-" if entry["measured"] is None else f"{entry['measured'] * 1e6:.1f}"
    has_rate = counted and entry["measured"]
    return (
        entry["name"],
        launches,
        megabytes(entry["bytes"]) if counted else "-",
        f"{entry['predicted'] * 1e6:.1f}" if counted else "-",
        measured,
        f"{entry['bytes'] / entry['measured'] / 1e9:.0f}" if has_rate else "-",
        percent(entry["share_of_copy"]) if has_rate and entry["share_of_copy"] is not None else "-",
    )
