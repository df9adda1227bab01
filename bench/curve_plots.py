"""The picture of bench.curves: error and calibration over the share seen, and what early termination saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.curve_methods import INTERVALS
from bench.curve_stopping import Outcome
from bench.plots import save_figure
from nasfast.estimators.curves import FAMILIES

_STYLES = {
    "last seen value": ("0.35", "-"),
    "last seen value + mean gain": ("0.35", "--"),
    "ensemble, even prior": ("tab:cyan", "--"),
    "ensemble, prior as shipped": ("tab:blue", "--"),
    "ensemble": ("tab:blue", "-"),
    "regressor, svr": ("tab:green", "-"),
    "regressor, bayesian": ("tab:olive", "-"),
}
Scored = Mapping[str, Mapping[float, Mapping[str, float]]]


def draw(
    path: Path, shares: Mapping[str, Sequence[float]], scores: Mapping[str, Scored],
    stopped: Mapping[str, Sequence[tuple[float, Outcome]]],
) -> None:  # fmt: skip
    """One row a collection of curves: error, then coverage; last, early termination."""
    columns = 3 if stopped else 2
    figure, axes = plt.subplots(len(scores), columns, figsize=(5.2 * columns, 3.9 * len(scores)), squeeze=False)
    for row, (label, found) in zip(axes, scores.items(), strict=True):
        _errors(row[0], label, shares[label], found)
        _coverage(row[1], label, shares[label], found)
    if stopped:
        _stopping(axes[0][2], stopped)
        for row in axes[1:]:
            row[2].axis("off")
    figure.tight_layout()
    save_figure(figure, path)


def _errors(axis: Axes, label: str, shares: Sequence[float], found: Scored) -> None:
    singles = [
        [100 * by_share[share]["mae"] for share in shares]
        for name, by_share in found.items() if name.split(",")[0] in FAMILIES
    ]  # fmt: skip
    for i, line in enumerate(singles):
        axis.plot(shares, line, color="tab:orange", lw=0.5, alpha=0.5, label=None if i else "single families")
    for name, (colour, style) in _STYLES.items():
        if name in found:
            axis.plot(
                shares,
                [100 * found[name][s]["mae"] for s in shares],
                color=colour,
                ls=style,
                marker="o",
                ms=3,
                label=name,
            )
    axis.set_yscale("log")
    axis.set_ylim(top=3 * max(100 * row["mae"] for row in found["last seen value"].values()))
    axis.set_title(f"{label}: error of the last value", fontsize=10)
    axis.set_xlabel("share of the curve seen")
    axis.set_ylabel("mean absolute error, points")
    axis.grid(True, which="both", alpha=0.25)
    axis.legend(fontsize=7)


def _coverage(axis: Axes, label: str, shares: Sequence[float], found: Scored) -> None:
    axis.plot([40, 100], [40, 100], color="0.6", lw=1)
    for name, (colour, style) in _STYLES.items():
        if name in found:
            line = [np.mean([found[name][s][f"coverage_{level}"] for s in shares]) for level in INTERVALS]
            axis.plot(INTERVALS, line, color=colour, ls=style, marker="o", ms=3, label=name)
    axis.set_title(f"{label}: calibration, mean over the shares", fontsize=10)
    axis.set_xlabel("central interval, %")
    axis.set_ylabel("last values inside, %")
    axis.grid(True, alpha=0.25)


def _stopping(axis: Axes, stopped: Mapping[str, Sequence[tuple[float, Outcome]]]) -> None:
    for name, found in stopped.items():
        axis.plot([100 * o.saved for _, o in found], [100 * o.regret for _, o in found], marker="o", ms=3.5, label=name)
        for bound, o in found:
            if bound:
                axis.annotate(f"{bound:g}", (100 * o.saved, 100 * o.regret), fontsize=6.5, va="bottom")
    axis.set_title("NAAP-440: early termination, by bound", fontsize=10)
    axis.set_xlabel("epochs saved, %")
    axis.set_ylabel("regret, points (mean)")
    axis.grid(True, alpha=0.25)
    axis.legend(fontsize=7)
