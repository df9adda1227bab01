"""Zero-cost proxies on NAS-Bench-201 beside the published scores: how well each ranks the cells by their accuracy.

    python -m bench.estimators zero-cost --nb201 TABLE.npz --stored SCORES.npz --images FOLDER --json OUT.json

Neither file is part of nasfast. TABLE holds every cell's accuracies, SCORES the scores of NAS-Bench-Suite-Zero
(Krishnakumar et al., NeurIPS 2022), FOLDER CIFAR-10 as an image folder. Networks have the benchmark's size (16
channels, five cells a stage), see one batch of 64 train images, and have their weights drawn several times. Cells are
drawn from those that the file has scores for, in random order: Ctrl-C ends the scoring, and those that were scored are
compared.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from bench import environment
from bench.arguments import progress, write_json
from bench.arrays import read_arrays
from bench.tables import section
from nasfast.data import load_data, normalize
from nasfast.errors import NasfastError
from nasfast.estimators.zero_cost import PROXIES, ZeroCostEstimator
from nasfast.spaces.nasbench201 import NASBench201

STORED = {
    "synflow": "synflow", "naswot": "nwot", "jacob_cov": "jacov", "grad_norm": "grad_norm", "snip": "snip",
    "fisher": "fisher", "grasp": "grasp", "zen": "zen",
}  # fmt: skip
"""The file's name of each proxy that it has."""

BATCH = 64
TOLERANCE = 0.05
"""By how much a correlation may be below that of the stored scores, on the same cells."""

FEWEST = 10
"""Cells that a correlation needs."""

Floats = NDArray[np.float64]


def compare(scores: Floats, stored: Floats | None, accuracy: Floats) -> dict[str, float]:
    """Spearman correlations of one proxy: with the accuracies, the stored scores' own, and with the stored scores."""
    found = {"own": float(spearmanr(scores, accuracy)[0])}
    if stored is not None:
        found["stored"] = float(spearmanr(stored, accuracy)[0])
        found["mutual"] = float(spearmanr(scores, stored)[0])
    return found


def misses(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Proxies whose correlation is more than TOLERANCE below that of the stored scores."""
    return [name for name, row in found.items() if "stored" in row and row["own"] < row["stored"] - TOLERANCE]


def score(estimator: ZeroCostEstimator, rows: NDArray[np.int64]) -> tuple[dict[str, Floats], float]:
    """Scores of every proxy for the cells up to Ctrl-C, ten at least, and CPU seconds a cell."""
    found: list[Mapping[str, float]] = []
    started = time.process_time()
    try:
        for row in rows:
            found.append(estimator.estimate(row[None])[0].metrics)
            progress(len(found), len(rows), "zero-cost proxies")
    except KeyboardInterrupt:
        if len(found) < FEWEST:
            raise
    seconds = (time.process_time() - started) / len(found)
    return {name: np.array([metrics[name] for metrics in found]) for name in estimator.proxies}, seconds


def rows_of(found: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    return [
        [name, *(f"{row[key]:.3f}" if key in row else "-" for key in ("own", "stored", "mutual", "all"))]
        for name, row in found.items()
    ]


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.estimators zero-cost", description=__doc__.split("\n")[0])
    parser.add_argument("--nb201", type=Path, metavar="FILE", required=True, help="table of NAS-Bench-201, .npz")
    parser.add_argument("--stored", type=Path, metavar="FILE", required=True, help="published scores, .npz")
    parser.add_argument("--images", type=Path, metavar="FOLDER", required=True, help="CIFAR-10 as an image folder")
    parser.add_argument("--cells", type=int, default=200, help="how many to score (default 200)")
    parser.add_argument("--draws", type=int, default=3, help="of the weights, whose mean score counts (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="of cells, images and weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--proxies", nargs="+", choices=list(PROXIES), default=list(PROXIES), metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    options = parser.parse_args(arguments)
    if options.cells < FEWEST or min(options.threads, options.draws) < 1:
        parser.error(f"--cells must be at least {FEWEST}, --threads and --draws at least 1")
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    facts = environment.describe("cpu", options.threads)
    try:
        found, seconds, cells = measure(options)
    except NasfastError as error:
        print(f"bench.estimators zero-cost: {error}", file=sys.stderr)
        return 1
    title = f"Spearman correlation with test accuracy, {cells} cells, {seconds:.1f} CPU seconds a cell for all proxies"
    header = ("proxy", "nasfast", "stored scores", "nasfast with stored", "stored scores, all cells")
    print(section(title, header, rows_of(found)))
    write_json(
        options.json,
        {"environment": facts, "cells": cells, "batch": BATCH, "draws": options.draws, "seed": options.seed,
         "cpu_seconds": seconds, "tolerance": TOLERANCE, "spearman": found},
    )  # fmt: skip
    low = misses(found)
    if low:
        print(f"bench.estimators zero-cost: more than {TOLERANCE} below the stored: {', '.join(low)}", file=sys.stderr)
    return 1 if low else 0


def measure(options: argparse.Namespace) -> tuple[dict[str, dict[str, float]], float, int]:
    """Correlations by proxy, CPU seconds a cell, and the number of cells."""
    table = read_arrays(options.nb201, ("ops", "test_acc_cifar10_e200"))
    stored = read_arrays(options.stored, [f"cifar10__{name}" for name in STORED.values()])
    accuracy = table["test_acc_cifar10_e200"].astype(float)
    known = np.flatnonzero(np.all([np.isfinite(values) for values in stored.values()], axis=0))
    generator = np.random.default_rng(options.seed)
    cells = generator.permutation(known)[: options.cells]
    data = load_data(str(options.images), threads=options.threads)
    order = torch.randperm(len(data.train_labels), generator=torch.Generator().manual_seed(options.seed))[:BATCH]
    images = normalize(data.train_images[order], data.mean, data.std)
    estimator = ZeroCostEstimator(
        NASBench201(),
        images,
        data.train_labels[order],
        options.proxies,
        options.seed,
        draws=options.draws,
        num_classes=data.num_classes,
    )
    scores, seconds = score(estimator, table["ops"][cells].astype(np.int64))
    cells = cells[: len(scores[estimator.proxies[0]])]
    found: dict[str, dict[str, float]] = {}
    for name in estimator.proxies:
        whole = stored.get(f"cifar10__{STORED.get(name)}")
        found[name] = compare(scores[name], None if whole is None else whole[cells], accuracy[cells])
        if whole is not None:
            found[name]["all"] = float(spearmanr(whole[known], accuracy[known])[0])
    return found, seconds, len(cells)
