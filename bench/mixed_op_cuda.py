"""`python -m bench.mixed_op --device cuda`: one edge on a GPU, float32 and bfloat16.

The fused op beside plain PyTorch in both layouts, each also as a CUDA graph, and beside torch.compile (--compile).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import torch
from torch import Tensor

from bench import arguments, cuda, cuda_bench, prediction
from bench.autocast import in_dtype
from bench.cuda_bench import PLAIN, graph_name
from bench.mixed_op import SIZES, Edge, Way, build_ways, exact_results
from bench.prediction import Traffic
from bench.tables import Row, megabytes, section
from bench.validate import check_against_exact

WAYS = (*PLAIN, "fused", "fused recompute")
HEADERS = ("C", "pixels", "batch", "stride", "dtype", *cuda_bench.TIME_HEADERS, "step adds, MB")


def edges_for(quick: bool) -> list[Edge]:
    """The edges of the search network in its three stages, at the batch of a search."""
    sizes = SIZES[:1] if quick else SIZES
    return [Edge(64, channels, pixels, stride) for channels, pixels in sizes for stride in (1, 2)]


def built(edge: Edge, dtype: str) -> dict[str, Way]:
    ways = build_ways(edge, "cuda", dtype)
    return {name: ways[name] for name in WAYS}


def compared(results: Sequence[Tensor], dtype: str) -> list[Tensor]:
    """Output and gradients; those of parameters as one vector in bfloat16.

    There a relu opens or stays shut by rounding often enough to move the gradient of a single convolution.
    """
    if dtype == "float32":
        return list(results)
    out, x, weights, *params = results
    return [out, x, weights, torch.cat([gradient.flatten() for gradient in params])]


def validate(edge: Edge, dtype: str, ways: Mapping[str, Way], graphs: Mapping[str, cuda.Recorded]) -> float:
    """The largest relative error of the fused ways against float64; raises MismatchError as on the CPU."""
    exact = compared(exact_results(ways), dtype)
    with cuda.exact_float32():
        found = {name: compared(way.step(), dtype) for name, way in ways.items()}
    error = check_against_exact(f"{edge}, {dtype}", found, exact, PLAIN)
    # Graphs keep the convolutions that they were recorded with, so they are judged beside plain PyTorch's default.
    found = {name: compared(ways[name].step(), dtype) for name in PLAIN}
    for name, graph in graphs.items():
        found[name] = [tensor.clone() for tensor in compared(graph(), dtype)]
    check_against_exact(f"{edge}, {dtype}, graphs", found, exact, PLAIN)
    return error


def time_compiled(edge: dict[str, int], dtype: str, rounds: int) -> dict[str, float]:
    """Runs in a process of its own: seconds of the compiled twin, of compiling it, and of the fused op beside it."""
    torch.backends.cudnn.benchmark = True
    ways = built(Edge(**edge), dtype)
    twin = ways["channels_last"]
    compiled = replace(twin, run=in_dtype(torch.compile(twin.module), "cuda", dtype))
    started = time.perf_counter()
    compiled.step()
    torch.cuda.synchronize()
    first = time.perf_counter() - started
    found = cuda.compare({"compiled": compiled.step, "fused": ways["fused"].step}, rounds)
    return {"first": first} | {name: timing.median for name, timing in found.items()}


def measure(
    edge: Edge, dtype: str, options: argparse.Namespace, card: cuda.Card, traffic: Sequence[Traffic]
) -> dict[str, object]:
    rounds = 3 if options.quick else 9
    ways = built(edge, dtype)
    memory = {name: cuda.step_memory(way.step) for name, way in ways.items()}
    steps = {name: way.step for name, way in ways.items()}
    graphs = cuda_bench.record(steps, torch.cuda.graph_pool_handle())
    error = validate(edge, dtype, ways, graphs)
    timings = cuda.compare({**steps, **graphs}, rounds)
    call = {"edge": asdict(edge), "dtype": dtype, "rounds": rounds}
    compiled = cuda_bench.compiled_in_child("bench.mixed_op_cuda:time_compiled", call, options.compile_limit)
    rows: list[Row] = []
    for row in cuda_bench.time_rows(timings, compiled):
        held = memory.get(row[0])
        rows.append((*edge.label(), dtype, *row, megabytes(held.peak - held.before) if held else ""))
    print(section(f"One edge, {edge}, {dtype}: forward + backward", HEADERS, rows), flush=True)
    counted = prediction.find(traffic, "edge", asdict(edge), dtype, "training")
    title = f"Kernels of the fused edge, {edge}, {dtype}"
    graph_seconds = timings[graph_name("fused")].median
    return {
        "edge": asdict(edge),
        "dtype": dtype,
        "error": error,
        "timings": {name: timing.to_json() for name, timing in timings.items()},
        "compiled": compiled,
        "memory": {name: asdict(held) for name, held in memory.items()},
        "kernels": cuda_bench.kernels(title, counted, ways["fused"].step, graph_seconds, card),
    }


def run(options: argparse.Namespace) -> None:
    results, card, traffic = cuda_bench.begin(options, "mixed_op")
    edges = [(edge, dtype) for edge in edges_for(options.quick) for dtype in cuda_bench.DTYPES]
    measured = []
    for i, (edge, dtype) in enumerate(edges, 1):
        arguments.progress(i, len(edges), f"timing {edge}, {dtype}")
        measured.append(measure(edge, dtype, options, card, traffic))
    arguments.write_json(options.json, results | {"edges": measured})
