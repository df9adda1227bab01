"""The picture of bench.morphism: test accuracy of the best network so far over the cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt

from bench.plots import save_figure

_STEPS = 60
_STYLES = {" 8 epochs": "--", " 16 epochs": ":", " 32 epochs": "-."}


def draw(
    path: Path, searches: Mapping[str, Sequence[Mapping[str, list[float]]]], inherit: Sequence[str], budget: float
) -> None:
    """Means over the seeds, with bands of a standard error; searches named in ``inherit`` are drawn thick.

    Args:
        searches: By name, of every seed: "cost", "test", as lists over the trainings.
    """
    figure, axis = plt.subplots(figsize=(8.6, 4.8))
    costs = np.linspace(0, budget, _STEPS + 1)[1:]
    kinds = list(dict.fromkeys(name.partition(", from scratch")[0] for name in searches))
    for name, runs in searches.items():
        colour = plt.get_cmap("tab10")(kinds.index(name.partition(", from scratch")[0]))
        style = next((style for suffix, style in _STYLES.items() if name.endswith(suffix)), "-")
        curves = np.array([_steps(run["cost"], run["test"], costs) for run in runs])
        known = ~np.isnan(curves).any(0)  # every seed has a network
        mean, error = curves[:, known].mean(0), curves[:, known].std(0, ddof=1) / np.sqrt(len(runs))
        if name.startswith("one training"):
            axis.errorbar(budget / 1e9, mean[-1:], error[-1:], fmt="o", ms=4, color=colour, label=name)
            continue
        width = 2.4 if name in inherit else 1.1
        axis.plot(costs[known] / 1e9, mean, style, color=colour, lw=width, label=name)
        axis.fill_between(costs[known] / 1e9, mean - error, mean + error, color=colour, alpha=0.1, lw=0)
    axis.set_xlabel("cost of the trainings, 10⁹ multiply-adds")
    axis.set_ylabel("test accuracy of the best so far, %")
    axis.grid(True, alpha=0.3)
    axis.legend(fontsize=7.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
    seeds = len(next(iter(searches.values())))
    axis.set_title(f"mobilenet on noisy digits, mean and standard error of {seeds} seeds", fontsize=10)
    figure.tight_layout()
    save_figure(figure, path)


def _steps(cost: Sequence[float], values: Sequence[float], at: np.ndarray) -> np.ndarray:
    """The last value known at each cost; NaN before the first."""
    done = np.searchsorted(cost, at, side="right")
    return np.where(done > 0, np.array([np.nan, *values])[done], np.nan)
