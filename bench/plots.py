"""Plots of cost as it grows, one panel per quantity that grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

COLORS = {"eager": "#8c8c8c", "channels_last": "#4477aa", "fused": "#cc3311"}
LABELS = {"eager": "PyTorch eager", "channels_last": "PyTorch channels_last", "fused": "nasfast"}

Series = Mapping[str, Sequence[float]]


def growth(path: Path, title: str, panels: Mapping[str, tuple[Sequence[int], Series]]) -> None:
    """Draws, per panel, milliseconds of each way over the growing quantity, both axes logarithmic.

    Args:
        panels: label of the x axis to (x values, seconds of each way at them).
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(3.4 * len(panels), 3.2), sharey=True, squeeze=False)
    for axis, (label, (sizes, series)) in zip(axes[0], panels.items(), strict=True):
        for way, seconds in series.items():
            axis.plot(sizes, [s * 1e3 for s in seconds], marker="o", ms=4, color=COLORS[way], label=LABELS[way])
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_xlabel(label)
        axis.grid(True, which="major", alpha=0.3)
    axes[0][0].set_ylabel("ms, forward + backward")
    axes[0][0].legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as its suffix says, in the same bytes for the same content, and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
    print(f"\nwrote {path}")
