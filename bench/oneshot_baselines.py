"""Rankings that published tables hold besides their accuracies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasfast.spaces.base import Rows, Space

Values = NDArray[np.float64]
Rankings = Callable[[Rows], dict[str, tuple[Values, Values]]]
"""Of rows: rankings by name, each with the accuracies that it is compared with."""


def stored_supernets(path: Path, space: Space) -> Rankings:
    """Of NAS-Bench-201: accuracies with the weights of two published supernets, against the test accuracy."""
    with np.load(path, allow_pickle=False) as file:
        index = {str(name): i for i, name in enumerate(file["arch_str"])}
        truth = file["test_acc_cifar10_e200"].astype(np.float64)
        stored = {
            f"published supernet, {kind}": file[f"supernet_{kind.replace('-', '')}_acc_cifar10"].astype(np.float64)
            for kind in ("one-shot", "few-shot")
        }

    def rankings(rows: Rows) -> dict[str, tuple[Values, Values]]:
        picked = [index[space.decode(row)] for row in rows]
        return {name: (values[picked], truth[picked]) for name, values in stored.items()}

    return rankings


def macro_runs(path: Path, space: Space) -> Rankings:
    """Of NAS-Bench-Macro: the accuracy of one training from scratch, against that of another."""
    accuracies = {name: row[:2] for name, row in json.loads(path.read_text(encoding="utf-8"))["archs"].items()}

    def rankings(rows: Rows) -> dict[str, tuple[Values, Values]]:
        runs = np.array([accuracies[space.decode(row)] for row in rows])
        return {"another training from scratch": (runs[:, 0], runs[:, 1])}

    return rankings
