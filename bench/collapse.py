"""The collapse of DARTS on NAS-Bench-201, epoch by epoch, and what the collapse guard makes of it.

    python -m bench.collapse --images FOLDER --table FILE.npz --json OUT.json --plot OUT.svg

DARTS searches the cell of NAS-Bench-201 on CIFAR-10 images, in a network small enough for two cores: few and small
images, few channels, but as deep as the published one, since shallower ones did not collapse. Its architecture learns
at a higher rate than published, because there are fewer steps. After every epoch the derived cell is looked up in the
benchmark's table, without a cap on skip connections and with the guard's. Neither images nor table are part of nasfast.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot as plt

from bench import environment
from bench.arguments import IN_PERCENT, write_json
from bench.plots import save_figure
from bench.tables import section
from nasfast.config.gradient import SearchConfig
from nasfast.data import DataSet, load_data, shrink_images
from nasfast.errors import NasfastError
from nasfast.estimators.table import TableEstimator
from nasfast.runs.folder import RunFolder
from nasfast.search.gradient.loop import SearchLoop
from nasfast.spaces.nasbench201 import OPERATIONS, NASBench201
from nasfast.strategies.gradient.collapse_guard import CollapseGuard, GuardSettings, Observation
from nasfast.strategies.gradient.readout_space import best_row
from nasfast.strategies.registry import DIFFERENTIABLE
from nasfast.utils.progress import Progress

# Dong, Yang, ICLR 2020, table 5: CIFAR-10 test accuracy of what DARTS (first order) finds, and of random search.
PUBLISHED = {"DARTS": 54.30, "random search": 93.70, "optimum": 94.37}
_SIDES = {"DARTS": "bottom", "random search": "top", "optimum": "bottom"}  # of its line, that a name is written on
SKIPS = [{OPERATIONS.index("skip_connect")}] * 6

Row = dict[str, Any]


def shrink(dataset: DataSet, per_class: int, side: int) -> DataSet:
    """The first ``per_class`` train images of each class, at ``side`` pixels; every test image but a handful goes."""
    labels = dataset.train_labels
    keep = torch.cat([(labels == c).nonzero().flatten()[:per_class] for c in range(dataset.num_classes)]).sort().values
    return replace(
        dataset,
        train_images=shrink_images(dataset.train_images[keep], side),
        train_labels=labels[keep],
        test_images=shrink_images(dataset.test_images[:16], side),
        test_labels=dataset.test_labels[:16],
    )


def search(config: SearchConfig, dataset: DataSet, space: NASBench201, progress: Progress) -> list[Row]:
    """The log's row of every epoch."""
    with tempfile.TemporaryDirectory() as folder, RunFolder.create(Path(folder) / "run", {}) as run:
        SearchLoop(config, dataset, space).run(run, progress)
        return [row for row in run.metrics.rows() if row["kind"] == "epoch"]


def judge(rows: list[Row], space: NASBench201, table: TableEstimator, max_skips: int) -> list[Row]:
    """Of every epoch: the derived cell, its skips and accuracy in percent, and the same under the guard's cap."""
    guard = CollapseGuard(GuardSettings("stop", max_skips=max_skips, stable_epochs=0, where="the architecture"))
    found = []
    for row in rows:
        free, capped = (best_row(row["weights"], SKIPS, cap) for cap in (None, max_skips))
        accuracy, under_cap = (100 * e.metrics["test_accuracy"] for e in table.estimate(np.stack([free, capped])))
        seen = Observation(row["alpha_entropy"], row["skips"], 0, free.tolist())
        verdicts = guard.judge(row["epoch"], seen)
        found.append(
            {
                "epoch": row["epoch"] + 1,
                "cell": space.decode(free),
                "skips": row["skips"],
                "accuracy": round(accuracy, 2),
                "capped_cell": space.decode(capped),
                "capped_accuracy": round(under_cap, 2),
                "guard": [verdict.reason for verdict in verdicts],
                "train_acc": row["train_acc"],
                "valid_acc": row["valid_acc"],
                "entropy": row["alpha_entropy"],
                "weights": row["weights"],
            }
        )
    return found


def verdict(found: list[Row]) -> Row:
    """What is left at the end: without a guard, with its cap, and where it stops the search early."""
    last = found[-1]
    stopped = next((row for row in found if row["guard"]), None)
    result: Row = {
        "epochs with nothing but skip connections": sum(row["skips"] == len(SKIPS) for row in found),
        "no convolution is left": "conv" not in last["cell"],
        "without a guard": last["accuracy"],
        "guard=cap": last["capped_accuracy"],
    }
    if stopped is not None:
        result |= {"guard=stop": stopped["capped_accuracy"], "stopped after epoch": stopped["epoch"]}
    return result


def draw(path: Path, found: list[Row], title: str, max_skips: int) -> None:
    """Accuracy of the derived cell over the epochs, and the weight of every operation, mean over the edges."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.9))
    epochs = [row["epoch"] for row in found]
    left.plot(epochs, [row["accuracy"] for row in found], color="#cc3311", marker="o", ms=3, label="derived cell")
    label = f"at most {max_skips} skip connections"
    left.plot(epochs, [row["capped_accuracy"] for row in found], color="#4477aa", marker="o", ms=3, label=label)
    for name, value in PUBLISHED.items():
        left.axhline(value, color="0.2", lw=0.7, ls=":")
        left.annotate(f"published: {name} {value:.2f}", (epochs[-1], value), fontsize=6.5, ha="right", va=_SIDES[name])
    for row in found:
        if row["guard"]:
            left.axvline(row["epoch"], color="0.5", lw=0.8, ls="--")
    left.set_ylabel("CIFAR-10 test accuracy in the table, %")
    left.set_xlabel("epoch")
    left.legend(fontsize=8, loc="center right")
    weights = np.array([row["weights"] for row in found]).mean(1)
    for k, name in enumerate(OPERATIONS):
        right.plot(epochs, weights[:, k], label=name, lw=2.2 if name == "skip_connect" else 1.2)
    right.set_ylabel("weight, mean over the edges")
    right.set_xlabel("epoch")
    right.legend(fontsize=8)
    for axis in (left, right):
        axis.grid(True, alpha=0.3)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    save_figure(figure, path)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.collapse", description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="CIFAR-10 as an image folder")
    parser.add_argument("--table", type=Path, required=True, metavar="FILE", help="table of NAS-Bench-201, .npz")
    parser.add_argument("--strategy", choices=DIFFERENTIABLE, default="darts")
    parser.add_argument("--channels", type=int, default=8, help="of the first stage (default 8; published: 16)")
    parser.add_argument("--cells", type=int, default=5, help="in each stage (default 5, as published)")
    parser.add_argument("--side", type=int, default=16, help="pixels that images are averaged down to (default 16)")
    parser.add_argument("--per-class", type=int, default=250, help="train images of each class (default 250)")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--warmup", type=int, default=0, help="first epochs in which only the weights learn")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.025)
    parser.add_argument("--arch-lr", type=float, default=1e-2, help="default 1e-2 (published: 3e-4)")
    parser.add_argument("--max-skips", type=int, default=2, help="what the guard allows (default 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: torch's")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", default=Path("runs/bench/collapse.svg"), help="svg or png")
    return parser.parse_args()


def main() -> int:
    options = parse()
    torch.set_num_threads(options.threads)
    facts, started = environment.describe("cpu", options.threads), time.monotonic()
    progress = Progress(quiet=not sys.stderr.isatty())
    try:
        space = NASBench201(options.channels, options.cells)
        table = TableEstimator(options.table, space)
        config = SearchConfig(
            data=str(options.images),
            space="nasbench201",
            strategy=options.strategy,
            epochs=options.epochs,
            warmup_epochs=options.warmup,
            batch_size=options.batch_size,
            lr=options.lr,
            arch_lr=options.arch_lr,
            seed=options.seed,
            guard="log",
            max_skips=options.max_skips,
            crop_pad=options.side // 8,
            flip=True,
        )
        dataset = shrink(load_data(str(options.images), progress=progress), options.per_class, options.side)
        found = judge(search(config, dataset, space, progress), space, table, options.max_skips)
    except NasfastError as error:
        print(f"bench.collapse: {error}", file=sys.stderr)
        return 1
    title = (
        f"{options.strategy} on NAS-Bench-201: C={options.channels}, {options.cells} cells a stage, "
        f"{options.side} px, {options.per_class} images a class, arch lr {options.arch_lr:g}"
    )
    rows = [
        (str(r["epoch"]), r["cell"], str(r["skips"]), f"{r['accuracy']:.2f}", f"{r['capped_accuracy']:.2f}",
         "; ".join(r["guard"]))
        for r in found
    ]  # fmt: skip
    head = ("epoch", "derived cell", "skips", "table, %", f"at most {options.max_skips} skips, %", "guard")
    print(section(title, head, rows))
    end = verdict(found)
    print(section("at the end", ("", ""), [(name, str(value)) for name, value in end.items()]))
    draw(options.plot, found, title, options.max_skips)
    write_json(
        options.json,
        IN_PERCENT
        | {
            "environment": facts,
            "seconds": round(time.monotonic() - started),
            "settings": {n: v for n, v in vars(options).items() if n not in ("images", "table", "json", "plot")},
            "published": PUBLISHED,
            "at_the_end": end,
            "epochs": found,
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
