"""The kernels of one fused search step: `python -m bench.gpu_kernels`.

Launches and time of each, from torch's profiler, beside the time that was predicted for an H200 from the instructions
that the compiler wrote (an issue-slot model, good to some 40 %; of the step in float32 at the size of bench.search_step
alone). With --traffic also the bytes that were counted, as GB/s. With --cell nothing is profiled: one normal cell goes
forward and backward once, for a profiler to look at from outside. On a CPU the extension itself times its kernels.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from bench import arguments, cuda, network, prediction, roofline, search_step
from bench.autocast import DTYPES
from bench.cuda import KernelTime
from bench.prediction import Traffic
from bench.tables import Row, megabytes, percent, section
from bench.timing import Step
from nasfast.kernels.primitives import PRIMITIVES, num_edges
from nasfast.nn.fused import FusedCell

CSRC = Path(__file__).resolve().parent.parent / "csrc"
LONGEST = 12  # signatures that are listed
HEADERS = ("kernel", "launches", "ms", "of all", "predicted, ms", "moved, MB", "GB/s")


@dataclass(frozen=True)
class Predicted:
    """Milliseconds of a kernel in a normal cell of 16, 32 and 64 channels, predicted for an H200 in float32 and for
    kernels whose loads are of 16 bytes. `steps`: in how many of the two halves of a search step it runs."""

    milliseconds: tuple[float, float, float]
    steps: int


# Predicted, not measured. Of a kernel with several tasks, the sum: convolutions that read an input and a node.
PREDICTED = {
    "conv_forward": Predicted((0.43 + 0.27, 0.29 + 0.14, 0.22 + 0.11), 2),
    "node_sum": Predicted((0.14, 0.08, 0.05), 2),
    "pool_statistics": Predicted((0.07, 0.04, 0.03), 2),
    "conv_backward, inputs and pools": Predicted((0.82 + 0.47 + 0.50, 0.40 + 0.22 + 0.25, 0.22 + 0.13 + 0.15), 2),
    "conv_backward, weights": Predicted((2.24, 1.30, 1.21), 1),
    "products": Predicted((0.19, 0.11, 0.06), 2),
}
_NORMAL_CELLS = (2, 2, 2)  # of 16, 32, 64 channels in the network of 8 cells
_REDUCTION_CELLS = (0, 1, 1)
_REDUCTION = 1.3  # a reduction cell's time over that of a normal one of its channels; 1.25 to 1.4 was predicted


def predicted_seconds(kernel: str) -> float | None:
    """Of all launches of a kernel in one search step; None where none was predicted."""
    parts = [found for name, found in PREDICTED.items() if name.partition(",")[0] == kernel]
    if not parts:
        return None
    cells = [normal + _REDUCTION * reduction for normal, reduction in zip(_NORMAL_CELLS, _REDUCTION_CELLS, strict=True)]
    return sum(
        part.steps * count * value / 1e3
        for part in parts
        for count, value in zip(cells, part.milliseconds, strict=True)
    )


@cache
def kernel_names() -> tuple[str, ...]:
    """Every CUDA kernel of the sources, without the `_kernel` that all of their names end in."""
    sources = (path.read_text(encoding="utf-8") for path in sorted(CSRC.rglob("*.cu*")))
    found = {name for text in sources for name in re.findall(r"__global__[^;{]*?\b(\w+)_kernel\(", text)}
    return tuple(sorted(found))


def times_on_cpu(step: Step, steps: int, threads: int) -> dict[str, KernelTime]:
    """Of the extension's CPU kernels, under the names that they would have on a GPU."""
    costs = roofline.profile(step, threads, steps)
    return {f"{cost.name}_kernel": KernelTime(cost.calls, cost.seconds) for cost in costs}


def bytes_of_a_step(entries: Sequence[Traffic], size: search_step.Size, dtype: str) -> Mapping[str, float]:
    """Counted bytes of a search step by kernel: one step of the architecture, one of the weights."""
    of_network = asdict(network.Size(size.batch, size.channels, size.cells, search_step.PIXELS))
    found = [prediction.find(entries, "network", of_network, dtype, step) for step in ("architecture", "training")]
    moved: dict[str, float] = {}
    for kernel in (kernel for entry in found if entry is not None for kernel in entry.kernels):
        moved[kernel.name] = moved.get(kernel.name, 0.0) + kernel.bytes
    return moved


def table_of(times: Mapping[str, KernelTime], moved: Mapping[str, float], is_predicted: bool) -> list[dict[str, Any]]:
    """One entry per kernel, the longest first, then the sum."""
    named = prediction.assign(times, [*kernel_names(), prediction.MEMSET])
    table: list[dict[str, Any]] = []
    for name, time in sorted(named.items(), key=lambda item: -item[1].seconds):
        table.append(
            {
                "name": name,
                "launches": time.launches,
                "seconds": time.seconds,
                "predicted_seconds": predicted_seconds(name) if is_predicted else None,
                "bytes": moved.get(name),
            }
        )
    guesses = [entry["predicted_seconds"] for entry in table if entry["predicted_seconds"] is not None]
    total: dict[str, Any] = {
        "name": "all",
        "predicted_seconds": sum(guesses) if guesses else None,
        "bytes": sum(moved.values()) or None,
    }
    total |= {key: sum(entry[key] for entry in table) for key in ("launches", "seconds")}
    return [*table, total]


def rows_of(table: Sequence[Mapping[str, Any]]) -> list[Row]:
    whole = table[-1]["seconds"]
    return [
        (
            *(entry["name"], f"{entry['launches']:.0f}", f"{entry['seconds'] * 1e3:.3f}"),
            percent(entry["seconds"] / whole) if whole else "-",
            "-" if entry["predicted_seconds"] is None else f"{entry['predicted_seconds'] * 1e3:.2f}",
            "-" if entry["bytes"] is None else megabytes(entry["bytes"]),
            f"{entry['bytes'] / entry['seconds'] / 1e9:.0f}" if entry["bytes"] and entry["seconds"] else "-",
        )
        for entry in table
    ]


def signatures(times: Mapping[str, KernelTime]) -> Iterable[Row]:
    """The kernels as they were compiled, the longest first."""
    longest = sorted(times.items(), key=lambda item: -item[1].seconds)[:LONGEST]
    for name, time in longest:
        yield (name[:90].replace("|", "/"), f"{time.launches:.0f}", f"{time.seconds * 1e3:.3f}")


def key_figures(table: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The sum, and the three longest kernels."""
    figures = {}
    for entry in (table[-1], *table[:3]):
        guess = entry["predicted_seconds"]
        said = "" if guess is None else f", predicted {guess * 1e3:.2f}"
        name = f"kernels of a search step: {entry['name']}"
        figures[name] = f"{entry['seconds'] * 1e3:.3f} ms in {entry['launches']:.0f} launches{said}"
    return figures


def run_cell(device: str, size: search_step.Size) -> None:
    """One normal cell, forward and backward, once."""
    torch.manual_seed(0)
    c, edges = size.channels, num_edges(4)
    cell = FusedCell(4, 4, 4 * c, 4 * c, c, False, False, PRIMITIVES).to(device)
    states = [
        torch.randn(size.batch, 4 * c, search_step.PIXELS, search_step.PIXELS)
        .to(device, memory_format=torch.channels_last)
        .requires_grad_()
        for _ in range(2)
    ]
    weights = torch.softmax(torch.randn(edges, len(PRIMITIVES)), 1).to(device).requires_grad_()
    cell(*states, weights).square().mean().backward()
    if device == "cuda":
        torch.cuda.synchronize()
    print(f"a normal cell of {c} channels went forward and backward", flush=True)


def run(options: argparse.Namespace) -> None:
    size = search_step.Size(batch=4, channels=4, cells=3) if options.quick else search_step.Size()
    device, dtype = options.device, options.dtype
    if options.cell:
        run_cell(device, size)
        return
    facts = arguments.print_environment(options)
    search = search_step.build_search(size, fused=True, device=device)
    take = search_step.plain_step(search, device, dtype)
    batches = search_step.Batches(size, device).draw()

    def step() -> object:
        return take(*batches)

    times = (
        cuda.kernel_times(step, options.steps)
        if device == "cuda"
        else times_on_cpu(step, options.steps, options.threads)
    )
    moved = bytes_of_a_step(prediction.load(options.traffic) if options.traffic else [], size, dtype)
    is_predicted = device == "cuda" and dtype == "float32" and size == search_step.Size()
    table = table_of(times, moved, is_predicted)
    print(section(f"Kernels of a search step, {size.label()}, {dtype}", HEADERS, rows_of(table)))
    if is_predicted:
        print("\nPredicted: for an H200 and loads of 16 bytes, by an issue-slot model; only some kernels were.")
    if not moved:
        print("\nBytes were not counted, so there is no bandwidth: give --traffic FILE.")
    print(section("As compiled", ("kernel", "launches", "ms"), list(signatures(times))), flush=True)
    results = {"environment": facts, "size": asdict(size), "dtype": dtype, "kernels": table}
    arguments.write_json(options.json, {"bench": "gpu_kernels", **results, "key_figures": key_figures(table)})


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = arguments.make_parser("gpu_kernels", __doc__, cuda=True, device="cuda")
    arguments.add_traffic(parser)
    parser.add_argument("--steps", type=arguments.at_least_one, default=10, metavar="N", help="steps to average over")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32")
    parser.add_argument("--cell", action="store_true", help="run one cell once, and profile nothing")
    return arguments.finish(parser, given)


def main() -> None:
    run(parse())


if __name__ == "__main__":
    main()
