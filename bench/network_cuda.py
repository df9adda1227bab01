"""`python -m bench.network --device cuda`: the search network of a CIFAR-10 search on a GPU, float32 and bfloat16.

Training and architecture steps of the fused network beside plain PyTorch in both layouts, each also as a CUDA graph,
and beside torch.compile (--compile); the peak of torch's allocator; every kernel's time beside the predicted one.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from bench import arguments, cuda, cuda_bench, prediction
from bench.autocast import in_dtype
from bench.cuda_bench import PLAIN, graph_name
from bench.network import Size, Way, build_way, check_errors, flat, gradient_vectors, in_float64
from bench.prediction import Traffic
from bench.tables import Row, megabytes, section

WAYS: dict[str, dict[str, Any]] = {
    "eager": {"fused": False},
    "channels_last": {"fused": False, "channels_last": True},
    "fused": {"fused": True, "channels_last": True},
    "fused recompute": {"fused": True, "channels_last": True, "recompute": True},
}
HEADERS = ("step", *cuda_bench.TIME_HEADERS)
MEMORY_HEADERS = ("way", "before the step, MB", "at its highest, MB", "the step adds, MB")
STEPS = {"training": Way.train_step, "architecture": Way.architecture_step}


def built(size: Size, name: str, dtype: str) -> Way:
    return build_way(size, **WAYS[name], device="cuda", dtype=dtype)


def measure_memory(size: Size, dtype: str) -> dict[str, cuda.StepMemory]:
    """Of a training step of each way, with no other in memory."""
    found = {}
    for name in WAYS:
        way = built(size, name, dtype)
        found[name] = cuda.step_memory(way.train_step)
        del way
        gc.collect()
        torch.cuda.empty_cache()
    rows: list[Row] = [
        (name, *(megabytes(count) for count in (held.before, held.peak, held.peak - held.before)))
        for name, held in found.items()
    ]
    title = f"Memory of a training step, torch's allocator, {size.label()}, {dtype}"
    print(section(title, MEMORY_HEADERS, rows), flush=True)
    return found


def vectors(results: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """`gradient_vectors` of recorded steps, copied: the next replay overwrites them."""
    loss, *gradients = results["training"]()
    first = loss.clone(), flat(gradients)
    return *first, flat(results["architecture"]())


def validate(ways: Mapping[str, Way], graphs: Mapping[str, Mapping[str, cuda.Recorded]]) -> dict[str, float]:
    """Relative errors against float64; raises MismatchError as on the CPU. `graphs`: by way, then by step."""
    exact = gradient_vectors(in_float64(ways["eager"]))
    with cuda.exact_float32():
        errors = check_errors({name: gradient_vectors(way) for name, way in ways.items()}, exact)
    # Graphs keep the convolutions that they were recorded with, so they are judged beside plain PyTorch's default.
    found = {name: gradient_vectors(ways[name]) for name in PLAIN}
    recorded = {name: vectors(steps) for name, steps in graphs.items()}
    return errors | {name: e for name, e in check_errors({**found, **recorded}, exact).items() if name in graphs}


def time_compiled(size: dict[str, int], dtype: str, rounds: int) -> dict[str, float]:
    """Runs in a process of its own: seconds of the compiled twin's training step, of the first, of the fused one."""
    torch.backends.cudnn.benchmark = True
    way = built(Size(**size), "channels_last", dtype)
    compiled = replace(way, model=in_dtype(torch.compile(way.network), "cuda", dtype))
    started = time.perf_counter()
    compiled.train_step()
    torch.cuda.synchronize()
    first = time.perf_counter() - started
    fused = built(Size(**size), "fused", dtype)
    found = cuda.compare({"compiled": compiled.train_step, "fused": fused.train_step}, rounds)
    return {"first": first} | {name: timing.median for name, timing in found.items()}


def measure(
    size: Size, dtype: str, options: argparse.Namespace, card: cuda.Card, traffic: Sequence[Traffic]
) -> dict[str, object]:
    rounds = 3 if options.quick else 9
    arguments.progress(1, 4, f"memory, {dtype}")
    memory = measure_memory(size, dtype)
    arguments.progress(2, 4, f"comparing results, {dtype}")
    ways = {name: built(size, name, dtype) for name in WAYS}
    steps = {step: {name: take.__get__(way) for name, way in ways.items()} for step, take in STEPS.items()}
    pool = torch.cuda.graph_pool_handle()
    by_step = {step: cuda_bench.record(own, pool) for step, own in steps.items()}
    names = by_step["training"]
    graphs = {name: {step: recorded[name] for step, recorded in by_step.items()} for name in names}
    errors = validate(ways, graphs)
    print("\nError of the gradients against float64: " + ", ".join(f"{n} {e:.1e}" for n, e in errors.items()) + ".")
    arguments.progress(3, 4, f"timing, {dtype}")
    timings = {step: cuda.compare({**steps[step], **by_step[step]}, rounds) for step in STEPS}
    arguments.progress(4, 4, f"torch.compile and kernels, {dtype}")
    call = {"size": asdict(size), "dtype": dtype, "rounds": rounds}
    compiled = cuda_bench.compiled_in_child("bench.network_cuda:time_compiled", call, options.compile_limit)
    rows = [
        (step, *row)
        for step in STEPS
        for row in cuda_bench.time_rows(timings[step], compiled if step == "training" else None)
    ]
    print(section(f"Search network, {size.label()}, {dtype}", HEADERS, rows), flush=True)
    kernels = {}
    for step in STEPS:
        counted = prediction.find(traffic, "network", asdict(size), dtype, step)
        title = f"Kernels of the fused {step} step, {size.label()}, {dtype} (bytes extrapolated from small batches)"
        graph_seconds = timings[step][graph_name("fused")].median
        kernels[step] = cuda_bench.kernels(title, counted, steps[step]["fused"], graph_seconds, card)
    return {
        "size": asdict(size),
        "dtype": dtype,
        "errors": errors,
        "timings": {step: {name: t.to_json() for name, t in found.items()} for step, found in timings.items()},
        "compiled": compiled,
        "memory": {name: asdict(held) for name, held in memory.items()},
        "kernels": kernels,
    }


def run(options: argparse.Namespace) -> None:
    size = Size(batch=16, cells=5) if options.quick else Size(batch=64)
    results, card, traffic = cuda_bench.begin(options, "network")
    measured = [measure(size, dtype, options, card, traffic) for dtype in cuda_bench.DTYPES]
    arguments.write_json(options.json, results | {"steps": measured})
