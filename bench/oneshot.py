"""How well a shared network's estimates rank architectures, on CIFAR-10 images against published tables.

    python -m bench.oneshot --images FOLDER --nb201 FILE.npz --macro FILE.json --json OUT.json --plot OUT.svg

A shared network of each space is trained by one uniform path per step, as `nasfast search --strategy spos` does, then
children drawn at random, equal functions once, are scored on held-out images: with the running statistics of the shared
BatchNorms, and with statistics of their own from train images. Kendall's tau with the accuracies in the table is set
beside that of FLOPs and parameters, of the supernets stored in the table of NAS-Bench-201, and of one training of
NAS-Bench-Macro with another. Neither images nor tables are part of nasfast.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from bench import environment
from bench.arguments import IN_PERCENT, write_json
from bench.oneshot_baselines import macro_runs, stored_supernets
from bench.plots import save_figure
from bench.tables import section
from nasfast.config.oneshot import OneShotConfig
from nasfast.data import DataSet, load_data
from nasfast.errors import NasfastError
from nasfast.estimators import OneShotEstimator, TableEstimator
from nasfast.runs.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from nasfast.search.oneshot.training import SupernetTraining
from nasfast.spaces.base import Rows, Space
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.spaces.nasbench_macro import NASBenchMacro
from nasfast.utils.progress import Progress

PUBLISHED = {"nasbench201": {"one-shot": 0.49, "few-shot": 0.55}, "nasbench-macro": {"FLOPs": 0.556, "seeds": 0.882}}
"""Kendall's tau over the whole table."""

_KIND = "bench-oneshot"
_SEED_CHILDREN, _SEED_BOOTSTRAP = 21, 22
_BOOTSTRAPS = 200
_EVALUATED_AT_ONCE = 50  # children, between two moves of the progress bar

Values = NDArray[np.float64]


def train(
    config: OneShotConfig, space: Space, dataset: DataSet, path: Path, progress: Progress
) -> tuple[SupernetTraining, list[dict[str, Any]]]:
    """A trained shared network, and the log of its epochs.

    Goes on from the checkpoint at ``path``, which is written after every epoch.

    Raises:
        CheckpointError: It is of a training with other settings.
    """
    training = SupernetTraining(config, space, dataset)
    log: list[dict[str, Any]] = []
    identity = {name: value for name, value in config.to_dict().items() if name not in ("data", "threads")}
    if path.exists():
        stored = load_checkpoint(path, _KIND)
        other = [name for name, value in identity.items() if stored["settings"].get(name) != value]
        if other:
            raise CheckpointError(
                f"{path} is of a training with other {', '.join(other)}; give those, or another --work folder"
            )
        training.load_state(stored["training"])
        log = stored["log"]
    progress.say(f"{space.name}: paths are computed {training.forward.way}")
    with progress.stage(f"train {space.name}", training.total_steps, done=training.step) as stage:
        note = None
        while not training.done():
            training.take_step()
            if training.step % training.steps_per_epoch == 0:
                row = training.end_epoch()
                log.append(row)
                note = f"epoch {training.epoch}: train {100 * (row['train_acc'] or 0):.1f} %"
                path.parent.mkdir(parents=True, exist_ok=True)
                save_checkpoint(path, _KIND, {"settings": identity, "training": training.state(), "log": log})
            stage.advance(note=note)
    return training, log


def draw_children(space: Space, count: int, seed: int) -> Rows:
    """Rows int64 [count, D], drawn uniformly, no two of them of one function."""
    generator = np.random.default_rng(seed + _SEED_CHILDREN)
    found: dict[str, NDArray[np.int64]] = {}
    while len(found) < count:
        for row in space.sample(generator, count):
            found.setdefault(space.canonical(row), row)
    return np.stack(list(found.values())[:count])


def score(
    training: SupernetTraining, rows: Rows, images: int, calibrations: list[int], progress: Progress
) -> dict[str, Values]:
    """Accuracies (%) of children on the first ``images`` held-out images, by the kind of BatchNorm statistics."""
    held = training.images(training.held_out[:images])
    estimators: dict[str, OneShotEstimator] = {"running statistics": OneShotEstimator(training.network, *held)}
    for count in calibrations:
        own, _ = training.images(training.train_indices[:count])
        estimators[f"recalibrated on {count} images"] = OneShotEstimator(training.network, *held, own)
    found = {}
    for name, estimator in estimators.items():
        scores: list[float] = []
        with progress.stage(f"{training.space.name}: {name}", len(rows), unit="children") as stage:
            for start in range(0, len(rows), _EVALUATED_AT_ONCE):
                part = rows[start : start + _EVALUATED_AT_ONCE]
                scores += [100 * estimate.score for estimate in estimator.estimate(part)]
                stage.advance(len(part))
        found[name] = np.array(scores)
    return found


def kendall(ours: Values, truth: Values, seed: int = 0) -> dict[str, float]:
    """Kendall's tau-b, and its standard deviation over bootstrap samples of the children."""
    from scipy.stats import kendalltau

    generator = np.random.default_rng(seed + _SEED_BOOTSTRAP)
    samples = [generator.integers(0, len(truth), len(truth)) for _ in range(_BOOTSTRAPS)]
    taus = [float(kendalltau(ours[pick], truth[pick]).statistic) for pick in samples]
    return {"tau": round(float(kendalltau(ours, truth).statistic), 4), "std": round(float(np.nanstd(taus)), 4)}


def costs(space: Space, rows: Rows) -> dict[str, Values]:
    found = [space.cost(row) for row in rows]
    return {
        "FLOPs": np.array([float(c.flops) for c in found]),
        "parameters": np.array([float(c.params) for c in found]),
    }


def judge(
    training: SupernetTraining,
    table: TableEstimator,
    baselines: Callable[[Rows], dict[str, tuple[Values, Values]]],
    options: argparse.Namespace,
    progress: Progress,
) -> dict[str, Any]:
    """Every ranking of the same children against the table's.

    Args:
        baselines: Of rows: further rankings, each with the accuracies that it is compared with.
    """
    rows = draw_children(table.space, options.children, options.seed)
    truth = np.array([100 * estimate.metrics["test_accuracy"] for estimate in table.estimate(rows)])
    scores = score(training, rows, options.test_images, options.calibration, progress)
    rankings = {name: (values, truth) for name, values in (scores | costs(table.space, rows)).items()}
    taus = {name: kendall(*pair, seed=options.seed) for name, pair in (rankings | baselines(rows)).items()}
    ours = {name: values.round(3).tolist() for name, values in scores.items()}
    top = {
        name: round(float(truth[values.argmax()]), 2) for name, values in scores.items()
    }  # what a search by these estimates would end with
    return {
        "children": len(rows),
        "tau": taus,
        "accuracy of the best by": top | {"the table": round(float(truth.max()), 2)},
        "mean accuracy": round(float(truth.mean()), 2),
        "estimates": ours,
        "table": truth.round(3).tolist(),
        "architectures": [table.space.decode(row) for row in rows],
    }


def draw(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Estimates against the table's accuracies, one panel a space and kind of statistics."""
    panels = [(label, name) for label, found in results.items() for name in found["estimates"]]
    columns = max(len(found["estimates"]) for found in results.values())
    figure, axes = plt.subplots(len(results), columns, figsize=(3.6 * columns, 3.3 * len(results)), squeeze=False)
    flat = iter(axes.flat)
    for (label, name), axis in zip(panels, flat, strict=False):
        found = results[label]
        tau = found["tau"][name]
        axis.scatter(found["estimates"][name], found["table"], s=7, alpha=0.6, color="#4477aa", linewidths=0)
        axis.set_title(f"{label}, {name}\ntau {tau['tau']:.2f} ± {tau['std']:.2f}", fontsize=8)
        axis.set_xlabel("accuracy with shared weights, %", fontsize=8)
        axis.set_ylabel("accuracy in the table, %", fontsize=8)
        axis.set_ylim(np.quantile(found["table"], 0.05) - 1, max(found["table"]) + 0.5)
        axis.grid(True, alpha=0.3)
    for axis in flat:
        axis.set_visible(False)
    figure.tight_layout()
    save_figure(figure, path)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.oneshot", description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="CIFAR-10 as an image folder")
    parser.add_argument("--nb201", type=Path, metavar="FILE", help="table of NAS-Bench-201, .npz")
    parser.add_argument("--macro", type=Path, metavar="FILE", help="table of NAS-Bench-Macro, .json")
    parser.add_argument("--channels", type=int, default=8, help="of NAS-Bench-201's first stage (published: 16)")
    parser.add_argument("--cells", type=int, default=2, help="of NAS-Bench-201 in each stage (published: 5)")
    parser.add_argument("--width", type=float, default=0.25, help="factor of NAS-Bench-Macro's channels")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--sampler", choices=("uniform", "fair"), default="uniform", help="paths of a training step")
    parser.add_argument("--children", type=int, default=300, help="how many are scored")
    parser.add_argument("--test-images", type=int, default=1000, help="held-out images that a child is scored on")
    parser.add_argument(
        "--calibration", type=int, nargs="*", default=[1000], help="train images for BatchNorm statistics of a child"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: torch's")
    parser.add_argument("--work", type=Path, metavar="FOLDER", default=Path("runs/bench/oneshot"), help="checkpoints")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", default=Path("runs/bench/oneshot.svg"), help="svg or png")
    options = parser.parse_args()
    if options.nb201 is None and options.macro is None:
        parser.error("give --nb201 FILE, --macro FILE or both")
    return options


def main() -> int:
    options = parse()
    torch.set_num_threads(options.threads)
    facts, started = environment.describe("cpu", options.threads), time.monotonic()
    progress = Progress()
    results: dict[str, dict[str, Any]] = {}
    try:
        dataset = load_data(str(options.images), progress=progress)
        for label, small, table, baselines in _open(options):
            config = OneShotConfig.of(_settings(options, small.name) | {"space_set": _size(options, small.name)})
            training, log = train(config, small, dataset, options.work / f"{small.name}.pt", progress)
            results[label] = judge(training, table, baselines, options, progress)
            results[label] |= {"published, whole table": PUBLISHED[small.name], "training": _summary(log)}
            _print(label, results[label])
    except NasfastError as error:
        print(f"bench.oneshot: {error}", file=sys.stderr)
        return 1
    draw(options.plot, results)
    settings = {n: v for n, v in vars(options).items() if n not in ("images", "nb201", "macro", "json", "plot", "work")}
    seconds = round(time.monotonic() - started)
    content = {"environment": facts, "seconds": seconds, "settings": settings, "spaces": results}
    write_json(options.json, IN_PERCENT | content)
    return 0


def _settings(options: argparse.Namespace, space: str) -> dict[str, Any]:
    return {
        "data": str(options.images),
        "space": space,
        "strategy": "spos",
        "sampler": options.sampler,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "lr": options.lr,
        "seed": options.seed,
        "threads": options.threads,
    }


def _size(options: argparse.Namespace, space: str) -> list[str]:
    """The settings of the space that is trained."""
    if space == "nasbench-macro":
        return [f"width={options.width}"]
    return [f"channels={options.channels}", f"cells={options.cells}"]


def _open(options: argparse.Namespace) -> list[tuple[str, Space, TableEstimator, Any]]:
    """Of each table: a label, the space at the size that is trained, the table with its space, further rankings."""
    found: list[tuple[str, Space, TableEstimator, Any]] = []
    if options.nb201 is not None:
        table = TableEstimator(options.nb201, NASBench201())
        small: Space = NASBench201(options.channels, options.cells)
        found.append(("NAS-Bench-201", small, table, stored_supernets(options.nb201, table.space)))
    if options.macro is not None:
        table = TableEstimator(options.macro, NASBenchMacro())
        found.append(("NAS-Bench-Macro", NASBenchMacro(options.width), table, macro_runs(options.macro, table.space)))
    return found


def _summary(log: list[dict[str, Any]]) -> dict[str, Any]:
    """Of a training: how long it took, and how far it came."""
    return {
        "epochs": len(log),
        "minutes": round(sum(row["seconds"] for row in log) / 60, 1),
        "train_acc": [round(row["train_acc"], 4) for row in log],
    }


def _print(label: str, found: dict[str, Any]) -> None:
    rows = [(name, f"{tau['tau']:.3f}", f"{tau['std']:.3f}") for name, tau in found["tau"].items()]
    title = f"{label}: Kendall's tau with the table's test accuracy, {found['children']} children"
    print(section(title, ("ranking by", "tau", "standard deviation"), rows))
    best = found["accuracy of the best by"]
    rest = [(f"accuracy of the best by {name}", f"{value:.2f}") for name, value in best.items()]
    rest += [(f"published, whole table: {name}", str(value)) for name, value in found["published, whole table"].items()]
    print(section(f"{label}: besides", ("", ""), rest), flush=True)


if __name__ == "__main__":
    sys.exit(main())
