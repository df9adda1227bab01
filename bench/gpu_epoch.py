"""A real search on a GPU for two short epochs: `python -m bench.gpu_epoch`.

The loop of `nasfast search` over random images in the number and size of CIFAR-10's: batches, augmentation, both halves
of every step, the log and a checkpoint after each epoch. An epoch is --steps steps, of the size of bench.search_step.
The first one loads the kernels; the second is what a search takes, and is set beside the time of a whole one. Nothing
is learned: labels are random.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bench import arguments, search_step
from bench.tables import milliseconds, section
from nasfast.config.gradient import SearchConfig
from nasfast.data import Augmentation, DataSet
from nasfast.runs.folder import RunFolder
from nasfast.search.gradient.loop import SearchLoop
from nasfast.utils.progress import Progress

IMAGES = 50_000
TESTED = 16  # a search looks at no test image
EPOCHS = 2
HEADERS = ("epoch", "steps", "s", "ms a step", "a search of 50 epochs")


def random_images(count: int) -> DataSet:
    """As many random images of CIFAR-10's size, in ten classes."""
    generator = torch.Generator().manual_seed(0)

    def draw(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        sides = (n, search_step.PIXELS, search_step.PIXELS, 3)
        images = torch.randint(256, sides, dtype=torch.uint8, generator=generator)
        return images, torch.randint(search_step.CLASSES, (n,), generator=generator)

    names = [str(i) for i in range(search_step.CLASSES)]
    return DataSet("random", *draw(count), *draw(TESTED), names, Augmentation(pad=4, flip=True))


def config_of(size: search_step.Size, device: str, steps: int, images: int) -> SearchConfig:
    """The settings of a search on CIFAR-10 whose epochs have so many steps: its train half is that small."""
    return SearchConfig(
        data="cifar10",
        batch_size=size.batch,
        channels=size.channels,
        layers=size.cells,
        device=device,
        epochs=EPOCHS,
        train_portion=steps * size.batch / images,
        retrain=False,
    )


def search(config: SearchConfig, dataset: DataSet, folder: Path) -> tuple[list[dict[str, Any]], float]:
    """What the loop logged of each epoch, and the seconds of all of it."""
    with RunFolder.create(folder, {"search": config.to_dict()}) as run:
        loop = SearchLoop(config, dataset)
        started = time.perf_counter()
        loop.run(run, Progress(quiet=True))
        seconds = time.perf_counter() - started
        return [row for row in run.metrics.rows() if row["kind"] == "epoch"], seconds


def run(options: argparse.Namespace) -> None:
    size = search_step.Size(batch=4, channels=4, cells=3) if options.quick else search_step.Size()
    images = 1_000 if options.quick else IMAGES
    facts = arguments.print_environment(options)
    config = config_of(size, options.device, options.steps, images)
    with tempfile.TemporaryDirectory() as folder:
        epochs, seconds = search(config, random_images(images), Path(folder) / "run")
    per_step = [epoch["seconds"] / options.steps for epoch in epochs]
    rows = [
        (
            *(str(i), str(options.steps), f"{epoch['seconds']:.2f}", milliseconds(step)),
            search_step.projection(step, size.steps),
        )
        for i, (epoch, step) in enumerate(zip(epochs, per_step, strict=True), 1)
    ]
    print(section(f"Epochs of a search, {size.label()}; a whole one is {size.steps} steps", HEADERS, rows))
    print(f"\n{seconds:.2f} s in all, with logs and checkpoints", flush=True)
    last = f"{milliseconds(per_step[-1])} ms a step; {search_step.EPOCHS} epochs {rows[-1][-1]}"
    results = {"environment": facts, "steps": options.steps, "epochs": epochs, "seconds": seconds}
    arguments.write_json(options.json, {"bench": "gpu_epoch", **results, "key_figures": {"a search loop": last}})


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = arguments.make_parser("gpu_epoch", __doc__, cuda=True, device="cuda")
    parser.add_argument("--steps", type=arguments.at_least_one, default=100, metavar="N", help="of an epoch")
    return arguments.finish(parser, given)


def main() -> None:
    run(parse())


if __name__ == "__main__":
    main()
