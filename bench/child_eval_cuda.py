"""`python -m bench.child_eval --device cuda`: children of a shared network on a GPU, float32 and bfloat16.

The loop runs child after child in channels_last, in bfloat16 under autocast; how many images each child classifies
right stays on the GPU until all are done. The batched time holds merging the population, packing the weights,
evaluation and accuracies. Both are timed as they are called: no child is recorded as a CUDA graph, for the population
is another one every time.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from bench import arguments, cuda
from bench.autocast import DTYPES, autocast
from bench.child_eval import CLASSES, Batched, Case, Loop, macro, make_images, make_network, nasbench201, quick_cases
from bench.cuda_bench import METHOD
from bench.tables import Row, megabytes, percent, section, times
from bench.timing import Timing, speedup
from bench.validate import ERROR_FACTOR, TOLERANCE, check_error, relative_error

SAMPLED = 16  # children that are compared with float64
HEADERS = (
    *("population", "children", "batch", "dtype", "recalibrated", "loop, children/s", "batched, children/s", "speedup"),
    *("spread", "launches of the loop", "launches", "loop adds, MB", "batched adds, MB", "error", "loop's error"),
)


def cases_for(quick: bool) -> list[Case]:
    if quick:
        return quick_cases()
    return [
        *(Case("Macro evolved", macro, True, count, batch) for count, batch in ((64, 256), (64, 64), (256, 256))),
        *(Case("Macro random", macro, False, count, batch) for count, batch in ((64, 256), (64, 64))),
        *(Case("NAS-Bench-201 random", nasbench201, False, count, batch) for count, batch in ((64, 256), (64, 64))),
    ]


def label(case: Case) -> str:
    """What --cases calls it: population, children, batch."""
    return f"{case.name}, {case.count}, {case.batch}"


def chosen(options: argparse.Namespace) -> list[Case]:
    cases = cases_for(options.quick)
    return [case for case in cases if not options.cases or label(case) in options.cases]


def in_dtype(dtype: str, device: str, step: Callable[[], list[int]]) -> Callable[[], list[int]]:
    def run() -> list[int]:
        with autocast(device, DTYPES[dtype]):
            return step()

    return run


def validate(what: str, dtype: str, loop: Loop, batched: Batched) -> dict[str, float]:
    """Largest relative errors of sampled children's logits against the loop in float64.

    In float32 the batched ones must be within 1e-4; in bfloat16, nearly as close as the loop's.
    """
    children = np.linspace(0, len(loop.graphs) - 1, min(SAMPLED, len(loop.graphs))).astype(int)
    calibration = None if loop.calibration is None else loop.calibration.double()
    network = copy.deepcopy(batched.planner.network).double()
    exact = Loop(network, batched.rows[children], loop.images.double(), loop.labels, calibration)
    results = batched.results()
    errors = {"batched": 0.0, "loop": 0.0}
    for place, child in enumerate(children.tolist()):
        expected = exact.logits(place)
        with autocast(expected.device.type, DTYPES[dtype]):
            looped = loop.logits(child)
        errors["loop"] = max(errors["loop"], relative_error(looped, expected))
        errors["batched"] = max(errors["batched"], relative_error(results.logits_of(child), expected))
    allowed = TOLERANCE if dtype == "float32" else max(TOLERANCE, ERROR_FACTOR * errors["loop"])
    check_error(f"{what}: logits", errors["batched"], allowed)
    return errors


def measure(
    case: Case, dtype: str, calibrated: bool, rounds: int, device: str = "cuda"
) -> tuple[dict[str, object], Row]:
    """All that was found, and its row of the table."""
    space = case.space()
    network, rows = make_network(space, case.pixels, device), case.rows(space)
    images = make_images(case.batch, case.pixels, seed=2).to(device)
    calibration: Tensor | None = make_images(case.batch, case.pixels, seed=3).to(device) if calibrated else None
    labels = torch.arange(case.batch, device=device) % CLASSES
    loop = Loop(network, rows, images, labels, calibration)
    own = [None if x is None else x.to(DTYPES[dtype]) for x in (images, calibration)]
    assert own[0] is not None
    batched = Batched(network, rows, own[0], labels, own[1])
    with cuda.exact_float32():
        errors = validate(f"{case.name}, {dtype}", dtype, loop, batched)
    steps = {"loop": in_dtype(dtype, device, loop.step), "batched": batched.step}
    memory = {name: cuda.step_memory(step) for name, step in steps.items()}
    timings = cuda.compare(steps, rounds)
    launches = {
        name: round(sum(kernel.launches for kernel in cuda.kernel_times(step, 2).values()))
        for name, step in steps.items()
    }
    results = batched.results()
    found: dict[str, object] = {
        "case": {**asdict(case), "space": case.space.__name__},
        "dtype": dtype,
        "calibrated": calibrated,
        "children": len(rows),
        "errors": errors,
        "launches": launches,
        "memory": {name: asdict(held) for name, held in memory.items()},
        "counts": asdict(results.counts),
        "usage": asdict(results.usage),
        "timings": {name: timing.to_json() for name, timing in timings.items()},
    }
    return found, table_row(case, dtype, calibrated, len(rows), timings, launches, memory, errors)


def table_row(
    case: Case,
    dtype: str,
    calibrated: bool,
    children: int,
    timings: dict[str, Timing],
    launches: dict[str, int],
    memory: dict[str, cuda.StepMemory],
    errors: dict[str, float],
) -> Row:
    return (
        *(case.name, f"{children}", f"{case.batch}", dtype, "yes" if calibrated else "no"),
        *(f"{children / timings[name].median:.0f}" for name in ("loop", "batched")),
        times(speedup(timings, "loop", "batched")),
        percent(max(timing.spread for timing in timings.values())),
        *(f"{launches[name]}" for name in ("loop", "batched")),
        *(megabytes(memory[name].peak - memory[name].before) for name in ("loop", "batched")),
        *(f"{errors[name]:.0e}" for name in ("batched", "loop")),
    )


def run(options: argparse.Namespace) -> None:
    torch.backends.cudnn.benchmark = True
    facts = arguments.print_environment(options) | {"clock": cuda.CLOCK, "cuda": torch.version.cuda}
    card = cuda.measure_card()
    print(section("This card", cuda.CARD_HEADERS, [card.row()]))
    print(f"\nTimed with {cuda.CLOCK}. {METHOD}")
    cases = chosen(options)
    runs = [(case, dtype, calibrated) for case in cases for dtype in options.dtypes for calibrated in (False, True)]
    results: dict[str, object] = {"bench": "child_eval", "environment": facts, "card": asdict(card)}
    measured: list[dict[str, object]] = []
    rows: list[Row] = []
    for i, (case, dtype, calibrated) in enumerate(runs, 1):
        arguments.progress(i, len(runs), f"timing {label(case)}, {dtype}")
        rounds = options.rounds or (3 if options.quick else 7)
        found, row = measure(case, dtype, calibrated, rounds, options.device)
        measured.append(found)
        rows.append(row)
        print(section("Children per second", HEADERS, [row]), flush=True)  # what is there if the rest is cut
        arguments.write_json(options.json, results | {"cases": measured, "key_figures": key_figures(rows)})
    print(section("Children per second, all", HEADERS, rows), flush=True)


def key_figures(rows: Sequence[Row]) -> dict[str, str]:
    """What a look at the results is for."""
    figures = {}
    for row in rows:
        found = dict(zip(HEADERS, row, strict=True))
        names = [found[name] for name in ("population", "children", "batch", "dtype")]
        names += ["recalibrated"] if found["recalibrated"] == "yes" else []
        figures[", ".join(names)] = f"{found['batched, children/s']} children/s, {found['speedup']} the loop's"
    return figures
