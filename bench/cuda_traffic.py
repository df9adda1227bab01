"""Bytes that every CUDA kernel moves, counted without a GPU: `python -m bench.cuda_traffic --json FILE`.

Runs forward and backward of mixed edges and of the search network on CPU tensors in the harness of tests/simt, which
executes the CUDA sources thread by thread, on one core. Edges are counted at the size that is measured, the network at
two small batches from which a larger one is extrapolated. Needs a C++ compiler.

The benches compare the time that these bytes take with the measured one: `python -m bench.mixed_op --device cuda
--traffic FILE`.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from bench import environment, mixed_op, mixed_op_cuda, network, prediction
from bench.arguments import progress
from bench.autocast import DTYPES
from bench.prediction import Traffic
from bench.tables import Row, megabytes, section

HEADERS = ("what", "C", "pixels", "batch", "stride", "dtype", "step", "launches", "moved, MB", "of one activation")
SMALL_BATCHES = (2, 4)


def load_harness() -> ModuleType:
    """The CUDA sources of csrc for CPU tensors, built where something changed."""
    spec = importlib.util.spec_from_file_location("simt_build", environment.ROOT / "tests/simt/build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    sys.modules["simt_build"] = build
    spec.loader.exec_module(build)
    module: ModuleType = build.load("_simt")
    return module


@contextmanager
def standing_in(harness: Any) -> Iterator[None]:
    """The CUDA sources in place of the CPU kernels."""
    harness.seed(0)
    harness.enable()
    try:
        yield
    finally:
        harness.disable()


def count(harness: Any, step: Callable[[], object]) -> tuple[prediction.Counted, ...]:
    """The kernels of one step."""
    harness.reset()
    with standing_in(harness):
        step()
    counted = prediction.add_up(harness.launches())
    harness.reset()
    return counted


def count_edge(harness: Any, edge: mixed_op.Edge, dtype: str) -> Traffic:
    way = mixed_op.build_ways(edge, dtype=dtype)["fused"]
    return Traffic("edge", asdict(edge), dtype, "training", count(harness, way.step))


def count_network(harness: Any, size: network.Size, dtype: str) -> list[Traffic]:
    way = network.build_way(size, fused=True, channels_last=True, dtype=dtype)
    steps = {"training": way.train_step, "architecture": way.architecture_step}
    return [Traffic("network", asdict(size), dtype, name, count(harness, step)) for name, step in steps.items()]


def activation_bytes(entry: Traffic) -> int:
    """Bytes of an edge's input."""
    size = entry.size
    itemsize = DTYPES[entry.dtype].itemsize
    return size["batch"] * size["channels"] * size["pixels"] ** 2 * itemsize


def row(entry: Traffic) -> Row:
    size = entry.size
    stride = str(size["stride"]) if entry.what == "edge" else "-"
    activations = f"{entry.bytes / activation_bytes(entry):.1f}" if entry.what == "edge" else "-"
    return (
        *(entry.what, str(size["channels"]), str(size["pixels"]), str(size["batch"]), stride, entry.dtype, entry.step),
        *(f"{entry.launches:.0f}", megabytes(entry.bytes), activations),
    )


def count_all(harness: Any, edges: list[mixed_op.Edge], sizes: list[network.Size], dtypes: list[str]) -> list[Traffic]:
    entries: list[Traffic] = []
    total = (len(edges) + len(sizes)) * len(dtypes)
    for dtype in dtypes:
        for edge in edges:
            progress(len(entries) + 1, total, f"counting {edge}, {dtype}")
            entries.append(count_edge(harness, edge, dtype))
    for dtype in dtypes:
        for size in sizes:
            progress(total, total, f"counting {size}, {dtype}")
            entries += count_network(harness, size, dtype)
    return entries


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cuda_traffic", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts to FILE")
    parser.add_argument("--quick", action="store_true", help="float32, two edges, small batches, no network")
    options = parser.parse_args()
    torch.set_num_threads(1)
    edges = mixed_op_cuda.edges_for(quick=False)
    sizes = [network.Size(batch=batch) for batch in SMALL_BATCHES]
    dtypes = list(DTYPES)
    if options.quick:
        first = mixed_op_cuda.edges_for(quick=True)
        edges = [replace(edge, batch=batch) for batch in SMALL_BATCHES for edge in first]
        sizes, dtypes = [], ["float32"]
    entries = count_all(load_harness(), edges, sizes, dtypes)
    print(section("Counted in the harness, forward + backward", HEADERS, [row(entry) for entry in entries]))
    if options.json:
        prediction.save(options.json, entries, {"commit": environment.git_commit()})
        print(f"\nwrote {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
