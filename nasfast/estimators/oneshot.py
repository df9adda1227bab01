"""Accuracy of children with the weights of a shared network, on held-out images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasfast.errors import ShapeError
from nasfast.estimators.base import Estimate
from nasfast.spaces.base import Rows
from nasfast.supernets.batched_eval import MEMORY_BOUND, ChildPlanner
from nasfast.supernets.lowering import NoKernelError
from nasfast.supernets.shared import SharedNetwork
from nasfast.supernets.uses import uses_of

_BATCH = 256


class OneShotEstimator:
    """Scores children of a shared network by their accuracy on images, 0 to 1.

    Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", ECCV 2020: the statistics of a
    child's BatchNorms are recomputed on train images before it is scored.

    Children go through :class:`~nasfast.supernets.batched_eval.ChildPlanner` together where it has a kernel for each of
    their operations and the network is float32 on the CPU, and else one after the other; ``way`` says which, and
    why. The network's weights are read at each estimate, and are as they were after it.

    Args:
        network: The shared network.
        images: float32 [N, C, H, W], normalised, on the network's device.
        labels: int64 [N].
        recalibrate: float32 [M, C, h, w]: images that give each child its own BatchNorm statistics; None: the shared
            running statistics.
        memory_bound: Bytes that the values of batched children may take.
        batched: False: one after the other in any case.

    Raises:
        ShapeError: Images and labels do not fit.
    """

    name = "oneshot"

    def __init__(
        self,
        network: SharedNetwork,
        images: Tensor,
        labels: Tensor,
        recalibrate: Tensor | None = None,
        *,
        memory_bound: int = MEMORY_BOUND,
        batched: bool = True,
    ) -> None:
        self.network, self.memory_bound = network, memory_bound
        self.images, self.labels, self.recalibrate = _checked(images, labels, recalibrate)
        self._planner, self._reason = _make_planner(network) if batched else (None, "asked for")

    @property
    def way(self) -> str:
        """How children are computed, and why."""
        if self._planner is not None:
            return "batched: children share their common operations"
        return f"one child after the other: {self._reason}"

    def estimate(self, rows: Rows, fidelity: int | None = None) -> list[Estimate]:
        """See :class:`nasfast.estimators.Estimator`. There is no fidelity: nothing is trained.

        The score is the same whatever other rows are estimated with it. Its uncertainty is that of a share of so many
        images; the cost is that of each child alone.
        """
        correct = self.correct(rows, self.images, self.labels, self.recalibrate)
        pairs = zip(self.network.space.check(rows), correct.tolist(), strict=True)
        return [self._estimate(row, right / len(self.labels)) for row, right in pairs]

    def _estimate(self, row: Any, share: float) -> Estimate:
        network, count = self.network, len(self.images)
        flops = network.space.cost(row, network.num_classes, network.in_channels, self.images.shape[2]).flops
        seen = count + (0 if self.recalibrate is None else len(self.recalibrate))
        error = (share * (1.0 - share) / count) ** 0.5
        return Estimate(share, uncertainty=error, cost=float(seen * flops))

    def correct(self, rows: Any, images: Tensor, labels: Tensor, recalibrate: Tensor | None) -> NDArray[np.int64]:
        """How many of ``images`` each child classifies as in ``labels``: int64 [K]. Arguments as of the estimator."""
        images, labels, recalibrate = _checked(images, labels, recalibrate)
        rows = self.network.space.check(rows)
        was_training = self.network.training
        self.network.eval()
        try:
            if self._planner is not None:
                return self._batched(self._planner, rows, images, labels, recalibrate)
            return np.array([self._one(row, images, labels, recalibrate) for row in rows], np.int64)
        finally:
            self.network.train(was_training)

    def _batched(
        self, planner: ChildPlanner, rows: Rows, images: Tensor, labels: Tensor, recalibrate: Tensor | None
    ) -> NDArray[np.int64]:
        plan = planner.plan(rows)
        results = plan.evaluate(images, calibration=recalibrate, memory_bound=self.memory_bound)
        right: NDArray[np.int64] = results.correct(labels).numpy()
        return right

    @torch.no_grad()
    def _one(self, row: Any, images: Tensor, labels: Tensor, recalibrate: Tensor | None) -> int:
        with _recalibrated(self.network, row, recalibrate):
            right = [
                (self.network(part, row).argmax(1) == truth).sum()
                for part, truth in zip(images.split(_BATCH), labels.split(_BATCH), strict=True)
            ]
        return int(torch.stack(right).sum())


def _checked(images: Tensor, labels: Tensor, recalibrate: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    if images.dim() != 4 or not len(images) or labels.shape != images.shape[:1]:
        raise ShapeError(
            f"expected images [N, C, H, W] and labels [N] with N at least 1, got {list(images.shape)} and "
            f"{list(labels.shape)}"
        )
    if recalibrate is not None and (recalibrate.dim() != 4 or len(recalibrate) < 2):
        raise ShapeError(f"recalibrate must be [M, C, h, w] with M at least 2, got {list(recalibrate.shape)}")
    return images, labels, recalibrate


def _make_planner(network: SharedNetwork) -> tuple[ChildPlanner | None, str]:
    """A planner, or None and the reason why there is none."""
    parameter = next(network.parameters())
    if parameter.device.type != "cpu" or parameter.dtype != torch.float32:
        return None, f"the network is {str(parameter.dtype).removeprefix('torch.')} on {parameter.device.type}"
    try:
        planner = ChildPlanner(network)
        if planner.template() is None:  # then operations are met with the children that choose them
            planner.plan(network.space.covering_rows())
        return planner, ""
    except NoKernelError as error:
        return None, str(error).splitlines()[0].rstrip("(")


@contextmanager
def _recalibrated(network: SharedNetwork, row: Any, images: Tensor | None) -> Iterator[None]:
    """Within the block, the BatchNorms that a child meets have the statistics that ``images`` give them."""
    if images is None:
        yield
        return
    used = [network.ops[key] for key in uses_of(network, row[None]).computed]
    norms = [m for op in used for m in op.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, {name: value.clone() for name, value in norm.named_buffers()}) for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average
            norm.train()
        network(images, row)
        for norm in norms:
            norm.eval()
        yield
    finally:
        for norm, (momentum, buffers) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.eval()
            for name, value in norm.named_buffers():
                value.copy_(buffers[name])
