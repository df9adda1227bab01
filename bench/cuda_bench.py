"""What the benches on a GPU have in common: how they begin, the ways they compare, and their table of kernels."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch

from bench import arguments, cuda, prediction
from bench.child import COLD_COMPILER, run_child
from bench.prediction import Traffic
from bench.tables import Row, milliseconds, percent, section, times
from bench.timing import Step, Timing

PLAIN = ("eager", "channels_last")
GRAPHED = (*PLAIN, "fused")
DTYPES = ("float32", "bfloat16")
NO_TRAFFIC = (
    "Bytes were not counted, so there is no bandwidth and no predicted time: give --traffic FILE, "
    "which python -m bench.cuda_traffic --json FILE writes."
)
METHOD = (
    "Plain PyTorch runs with cuDNN's autotuner and, in float32, with torch's default TF32 convolutions; nasfast "
    "computes in full float32. bfloat16 is autocast: parameters stay float32. 'graph': recorded as a CUDA graph. "
    "Results are compared with float64 before timing (without TF32), graphs as well."
)


def graph_name(way: str) -> str:
    return f"{way}, graph"


def begin(options: argparse.Namespace, bench: str) -> tuple[dict[str, object], cuda.Card, list[Traffic]]:
    """Results so far, the card, and what was counted."""
    torch.backends.cudnn.benchmark = True
    traffic = prediction.load(options.traffic) if options.traffic else []
    facts = arguments.print_environment(options) | {"clock": cuda.CLOCK, "cuda": torch.version.cuda}
    card = cuda.measure_card()
    print(section("This card", cuda.CARD_HEADERS, [card.row()]))
    print(f"\nTimed with {cuda.CLOCK}. {METHOD}")
    if not traffic:
        print(f"\n{NO_TRAFFIC}")
    return {"bench": bench, "environment": facts, "card": asdict(card)}, card, traffic


def record(steps: Mapping[str, Callable[[], Any]], pool: Any) -> dict[str, cuda.Recorded]:
    """Graphs of the steps that are compared as graphs, over one pool of memory."""
    return {graph_name(name): cuda.graphed(steps[name], pool) for name in GRAPHED}


def time_rows(timings: Mapping[str, Timing], compiled: Mapping[str, float] | None) -> list[Row]:
    """One row per way: its time, and how many times longer it takes than the fused step, plain and as a graph."""
    fused, graph = timings["fused"].median, timings[graph_name("fused")].median
    rows: list[Row] = [
        (name, milliseconds(t.median), percent(t.spread), times(t.median / fused), times(t.median / graph))
        for name, t in timings.items()
    ]
    if compiled:  # against the fused step of its own process
        scale = compiled["compiled"] / compiled["fused"]
        rows.append(("torch.compile", milliseconds(compiled["compiled"]), "", times(scale), ""))
    return rows


TIME_HEADERS = ("way", "ms", "spread", "over fused", "over fused, graph")


def compiled_in_child(target: str, call: dict[str, Any], limit: float | None) -> dict[str, float] | None:
    """Seconds of the compiled twin and of the fused step beside it, from a process of its own; None: none in time."""
    if limit is None:
        return None
    found: dict[str, float] | None = run_child(target, call, limit, COLD_COMPILER)
    if found is None:
        print(f"\ntorch.compile did not end within {limit:.0f} s")
    return found


def kernels(title: str, traffic: Traffic | None, step: Step, graph_seconds: float, card: cuda.Card) -> Any:
    """Prints and returns predicted and measured times of the kernels of a fused step; None where nothing was counted.

    `graph_seconds` is the measured time of the whole step as a graph, where launches cost least.
    """
    if traffic is None:
        print(f"\n{title}: not compared, their bytes were not counted.")
        return None
    table = prediction.compare(traffic, cuda.kernel_times(step), card.copy)
    print(section(title, prediction.HEADERS, prediction.rows(table)))
    rate = traffic.bytes / graph_seconds
    print(
        f"\nThe whole step as a graph: {milliseconds(graph_seconds)} ms, predicted from the bytes of its kernels "
        f"{milliseconds(traffic.bytes / card.copy)} ms; {rate / 1e9:.0f} GB/s, {percent(rate / card.copy)} of the "
        "card's copy.",
        flush=True,
    )
    return {"kernels": table, "bytes": traffic.bytes, "bandwidth": rate, "share_of_copy": rate / card.copy}
