"""One step of a first-order DARTS search on CIFAR-10, and what its 50 epochs take: `python -m bench.search_step`.

A step is that of `nasfast search --data cifar10 --order first`: two batches drawn and augmented, a step of the
architecture on one, a step of the weights on the other. Images are random bytes of CIFAR-10's size, labels random: the
time does not depend on what they show. The projection is the step's time over the steps of a search: it leaves out
loading, logs, checkpoints and what follows the search. On a GPU steps are also recorded as one CUDA graph
(nasfast.search.gradient.cuda_graphs);
bfloat16 (autocast) is measured too. On a CPU the whole size takes minutes; --quick is smaller.
Whatever --ways leaves out, results are compared with eager's before anything is timed.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from bench import arguments, cuda
from bench.autocast import DTYPES, autocast
from bench.tables import Row, milliseconds, percent, section, times
from bench.timing import Timing, compare
from bench.validate import check_error
from nasfast.config.gradient import SearchConfig
from nasfast.data import Augmentation, Sampler, augment
from nasfast.search.gradient.cuda_graphs import capture_search_step
from nasfast.strategies.gradient.bilevel import BilevelSearch
from nasfast.strategies.gradient.steps import Batch, StepResult

CLASSES, PIXELS = 10, 32
HALF = 25_000  # training images of CIFAR-10: as many again judge the architecture
EPOCHS = 50
POOL = 4096  # random images in memory, half for the weights and half for the architecture
MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]
AUGMENTATION = Augmentation(pad=4, flip=True)
# Losses of the first two steps, relative to eager's. The second one has both updates in it.
ALLOWED = {"float32": 2e-3, "bfloat16": 5e-2}

Take = Callable[[Batch, Batch], tuple[StepResult, StepResult]]
WAYS = ("eager", "channels_last", "fused")
CAPTURED = ("channels_last, captured", "fused, captured")  # on a GPU
HEADERS = ("way", "dtype", "step, ms", "with its batches, ms", "spread", "over fused", f"{EPOCHS} epochs")


@dataclass(frozen=True)
class Size:
    batch: int = 64
    channels: int = 16
    cells: int = 8

    def label(self) -> str:
        return f"C={self.channels}, {self.cells} cells, batch {self.batch}, {PIXELS}x{PIXELS}"

    @property
    def steps(self) -> int:
        """Of a whole search: an epoch leaves its last, smaller batch out."""
        return HALF // self.batch * EPOCHS


class Batches:
    """Draws and augments the two batches of a step as nasfast.search.gradient.runner does."""

    def __init__(self, size: Size, device: str) -> None:
        generator = torch.Generator().manual_seed(0)
        self.device = device
        self.images = torch.randint(256, (POOL, PIXELS, PIXELS, 3), dtype=torch.uint8, generator=generator).to(device)
        self.labels = torch.randint(CLASSES, (POOL,), generator=generator).to(device)
        halves = torch.arange(POOL).split(POOL // 2)
        self.samplers = [Sampler(half, size.batch, seed) for seed, half in enumerate(halves)]
        self.generator = torch.Generator(device).manual_seed(0)

    def draw(self) -> tuple[Batch, Batch]:
        train, valid = (self._batch(sampler) for sampler in self.samplers)
        return train, valid

    def _batch(self, sampler: Sampler) -> Batch:
        indices = sampler.next().to(self.device)
        inputs = augment(self.images[indices], AUGMENTATION, MEAN, STD, self.generator)
        return Batch(inputs, self.labels[indices])


def build_search(size: Size, fused: bool, device: str) -> BilevelSearch:
    """The same weights for every way and device."""
    config = SearchConfig(
        data="cifar10", batch_size=size.batch, channels=size.channels, layers=size.cells, fused=fused, device=device
    )
    return BilevelSearch(config, CLASSES, 3)


def plain_step(search: BilevelSearch, device: str, dtype: str, contiguous: bool = False) -> Take:
    def take(train: Batch, valid: Batch) -> tuple[StepResult, StepResult]:
        if contiguous:
            train, valid = (Batch(batch.inputs.contiguous(), batch.targets) for batch in (train, valid))
        with autocast(device, DTYPES[dtype]):
            taken = search.step(train, valid)
        assert taken.valid is not None
        return taken.train, taken.valid

    return take


def captured_step(search: BilevelSearch, device: str, dtype: str, example: tuple[Batch, Batch]) -> Take:
    with autocast(device, DTYPES[dtype]):
        step = capture_search_step(
            search.network,
            search.criterion,
            search.weight_optimizer,
            search.arch_optimizer,
            *example,
            search.config.grad_clip,
        )

    def take(train: Batch, valid: Batch) -> tuple[StepResult, StepResult]:
        first, second = step(*train, *valid)
        return first, second

    return take


def ways_of(device: str) -> tuple[str, ...]:
    """All that can be timed on a device."""
    return (*WAYS, *CAPTURED) if device == "cuda" else WAYS


def build_way(name: str, size: Size, device: str, dtype: str) -> Take:
    """With a network and optimizers of its own."""
    kind, _, captured = name.partition(", ")
    search = build_search(size, kind == "fused", device)
    if kind == "channels_last":
        search.network.to(memory_format=torch.channels_last)
    if captured:
        return captured_step(search, device, dtype, Batches(size, device).draw())
    return plain_step(search, device, dtype, contiguous=kind == "eager")


def build_ways(size: Size, device: str, dtype: str, names: Sequence[str] | None = None) -> dict[str, Take]:
    return {name: build_way(name, size, device, dtype) for name in names or ways_of(device)}


def validate(ways: Mapping[str, Take], size: Size, device: str, dtype: str) -> float:
    """The largest relative difference from eager of the losses of the first two steps.

    Raises:
        MismatchError: one is larger than rounding makes it.
    """
    batches = Batches(size, device)
    pairs = [batches.draw() for _ in range(2)]
    losses: dict[str, list[float]] = {}
    for name, take in ways.items():
        losses[name] = [float(result.loss) for pair in pairs for result in take(*pair)]
    worst = 0.0
    for name, found in losses.items():
        for i, (got, expected) in enumerate(zip(found, losses["eager"], strict=True)):
            error = abs(got - expected) / abs(expected)
            check_error(f"{name}, {dtype}, loss {i} of the first two steps", error, ALLOWED[dtype])
            worst = max(worst, error)
    return worst


def projection(seconds: float, steps: int) -> str:
    """`steps` steps of `seconds`, in the unit that suits."""
    total = seconds * steps
    if total < 120:
        return f"{total:.0f} s"
    return f"{total / 60:.1f} min" if total < 7200 else f"{total / 3600:.1f} h"


def rows(size: Size, dtype: str, alone: Mapping[str, Timing], whole: Mapping[str, Timing]) -> list[Row]:
    fused = whole["fused"].median if "fused" in whole else None
    return [
        (
            *(name, dtype, milliseconds(alone[name].median), milliseconds(timing.median), percent(timing.spread)),
            *(times(timing.median / fused) if fused else "-", projection(timing.median, size.steps)),
        )
        for name, timing in whole.items()
    ]


def measure(size: Size, device: str, dtype: str, rounds: int, names: Sequence[str]) -> dict[str, Any]:
    arguments.progress(1, 2, f"comparing results, {dtype}")
    compared = dict.fromkeys(("eager", *names))
    with cuda.exact_float32() if device == "cuda" else contextlib.nullcontext():
        error = validate(build_ways(size, device, dtype, list(compared)), size, device, dtype)
    ways = build_ways(size, device, dtype, names)
    batches = Batches(size, device)
    fixed = batches.draw()
    arguments.progress(2, 2, f"timing, {dtype}")
    alone = {name: (lambda take=take: take(*fixed)) for name, take in ways.items()}
    whole = {name: (lambda take=take: take(*batches.draw())) for name, take in ways.items()}
    timed = [
        cuda.compare(steps, rounds) if device == "cuda" else compare(steps, rounds, min_sample=0, warmup=1)
        for steps in (alone, whole)
    ]
    title = f"First-order search step, {size.label()}; a search is {size.steps} steps"
    print(section(title, HEADERS, rows(size, dtype, *timed)), flush=True)
    return {
        "dtype": dtype,
        "error": error,
        "step": {name: timing.to_json() for name, timing in timed[0].items()},
        "with_batches": {name: timing.to_json() for name, timing in timed[1].items()},
        "search_seconds": {name: timing.median * size.steps for name, timing in timed[1].items()},
    }


def key_figures(measured: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What a look at the results is for."""
    figures = {}
    for found in measured:
        for name, alone in found["step"].items():
            whole = found["with_batches"][name]["median_seconds"]
            figures[f"{name}, {found['dtype']}"] = (
                f"{milliseconds(alone['median_seconds'])} ms a step, {milliseconds(whole)} ms with its batches; "
                f"{EPOCHS} epochs {projection(found['search_seconds'][name], 1)}"
            )
    return figures


def run(options: argparse.Namespace) -> None:
    size = Size(batch=8, cells=3) if options.quick else Size()
    results: dict[str, object] = {"bench": "search_step", "environment": arguments.print_environment(options)}
    if options.device == "cuda":
        torch.backends.cudnn.benchmark = True
        print(f"\nTimed with {cuda.CLOCK}.")
    dtypes = options.dtypes or (list(DTYPES) if options.device == "cuda" else ["float32"])
    rounds = options.rounds or (3 if options.quick else 5)
    names = options.ways or ways_of(options.device)
    measured = [measure(size, options.device, dtype, rounds, names) for dtype in dtypes]
    results |= {"size": asdict(size), "steps": size.steps, "measured": measured, "key_figures": key_figures(measured)}
    arguments.write_json(options.json, results)


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = arguments.make_parser("search_step", __doc__, cuda=True)
    arguments.add_rounds(parser)
    parser.add_argument("--ways", nargs="+", choices=(*WAYS, *CAPTURED), metavar="WAY", help="time these alone")
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), metavar="DTYPE", help="and these")
    options = arguments.finish(parser, given)
    missing = sorted(set(options.ways or ()) - set(ways_of(options.device)))
    if missing:
        parser.error(f"--ways {missing[0]!r} goes with --device cuda")
    return options


def main() -> None:
    run(parse())


if __name__ == "__main__":
    main()
