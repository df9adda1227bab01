"""Scores of architectures without training: zero-cost proxies on one batch of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from nasfast.errors import ConfigError, ShapeError
from nasfast.estimators.base import Estimate
from nasfast.estimators.zero_cost.catalogue import COUNTED, check_proxies, images_through
from nasfast.estimators.zero_cost.layers import fork_random
from nasfast.estimators.zero_cost.proxies import score_network
from nasfast.spaces.base import Rows, Space
from nasfast.spaces.graph_network import GraphNetwork
from nasfast.spaces.live_graph import live_graph
from nasfast.utils.progress import Progress


class ZeroCostEstimator:
    """Scores architectures by proxies that need no training. The first proxy is the score, all of them are metrics.

    Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS", ICLR 2021; every formula names its own paper.
    Computed is the part of an architecture that its output depends on. Weights are those that the layers start from,
    drawn in an order that equal functions share: these are scored once, and the proxies share one forward and backward.
    The same seed gives the same scores, whatever other rows are estimated, up to the rounding between equal functions.

    The uncertainty is the standard error over ``draws`` of the weights, where there are two or more; the cost counts a
    backward as two forwards, and nothing for a function that was scored before.

    Args:
        space: Whose architectures are scored.
        images: float32 [N, C, H, W], normalised, N at least 2.
        labels: int64 [N].
        proxies: Names, see :data:`nasfast.estimators.zero_cost.PROXIES`.
        seed: Of the weights.
        draws: Draws of the weights to average over.
        num_classes: By default one more than the largest label.
        remember: Answer equal functions, whose scores differ by their draws of the weights, with that of the first one;
            False: each has its own, whatever was scored before, as workers need that do not know of each other.
        progress: Where to show progress, one step an architecture; nowhere by default.

    Raises:
        ShapeError: Images and labels do not fit.
        ConfigError: An unknown proxy, or no draws.
    """

    name = "zero-cost"

    def __init__(
        self,
        space: Space,
        images: Tensor,
        labels: Tensor,
        proxies: Sequence[str] = ("synflow",),
        seed: int = 0,
        *,
        draws: int = 1,
        num_classes: int | None = None,
        remember: bool = True,
        progress: Progress | None = None,
    ) -> None:
        if images.dim() != 4 or len(images) < 2 or labels.shape != images.shape[:1]:
            raise ShapeError(
                f"expected images [N, C, H, W] and labels [N] with N at least 2, got {list(images.shape)} and "
                f"{list(labels.shape)}"
            )
        if draws < 1:
            raise ConfigError(f"draws must be at least 1, got {draws}")
        largest = int(labels.max())
        if int(labels.min()) < 0 or (num_classes is not None and largest >= num_classes):
            raise ShapeError(f"labels must be 0 to {(num_classes or largest + 1) - 1}, got one of {largest}")
        self.space, self.images, self.labels = space, images.contiguous(), labels
        self.proxies, self.seed, self.draws = check_proxies(proxies), seed, draws
        self.num_classes = largest + 1 if num_classes is None else num_classes
        self.remember, self.progress = remember, progress or Progress(quiet=True)
        self._known: dict[str, list[dict[str, float]]] = {}  # by form: scores of every draw
        self._recalled: dict[str, Mapping[str, float]] = {}  # by form: what was found before a stop

    def estimate(self, rows: Rows, fidelity: int | None = None) -> list[Estimate]:
        """See :class:`nasfast.estimators.Estimator`. There is no fidelity: nothing is trained."""
        rows = self.space.check(rows)
        found = []
        with self.progress.stage("score", len(rows), unit="architecture") as stage:
            for row in rows:
                found.append(self._one(row))
                stage.advance()
        return found

    def recall(self, rows: Rows, numbers: Sequence[Mapping[str, float]]) -> None:
        """See :class:`nasfast.estimators.base.StatefulEstimator`."""
        if not self.remember:
            return
        for row, known in zip(self.space.check(rows), numbers, strict=True):
            self._recalled.setdefault(self._form(row), known)

    def _form(self, row: Any) -> str:
        return self.space.graph(row, self.num_classes, self.images.shape[1]).form()

    def _one(self, row: Any) -> Estimate:
        names = [name for name in self.proxies if name not in COUNTED]
        channels, side = self.images.shape[1], self.images.shape[2]
        count = self.space.cost(row, self.num_classes, channels, side)
        metrics: dict[str, float] = {"params": float(count.params), "flops": float(count.flops)}
        graph = self.space.graph(row, self.num_classes, channels)
        form = graph.form()
        uncertainty: float | None = None
        cost = 0.0
        if form in self._recalled:
            metrics |= {name: self._recalled[form][name] for name in names}
            uncertainty = self._recalled[form].get("uncertainty")
        elif names:
            if form not in self._known:
                network_graph = live_graph(graph)
                self._known[form] = [self._draw(network_graph, names, draw) for draw in range(self.draws)]
                cost = self.draws * images_through(names, len(self.images)) * count.flops
            draws = self._known[form] if self.remember else self._known.pop(form)
            metrics |= {name: float(np.mean([scores[name] for scores in draws])) for name in names}
            uncertainty = self._standard_error(draws)
        if self.proxies[0] in COUNTED:
            uncertainty = None
        kept = {name: metrics[name] for name in self.proxies}
        return Estimate(metrics[self.proxies[0]], kept, uncertainty, cost)

    def _draw(self, graph: Any, names: Sequence[str], draw: int) -> dict[str, float]:
        with fork_random(self.images, (self.seed * 1_000_003 + draw) % 2**63):
            network = GraphNetwork(graph).to(self.images.device)
            return score_network(network, self.images, self.labels, names)

    def _standard_error(self, draws: Sequence[Mapping[str, float]]) -> float | None:
        first = self.proxies[0]
        if len(draws) < 2 or first in COUNTED:
            return None
        return float(np.std([scores[first] for scores in draws], ddof=1) / len(draws) ** 0.5)
