"""The training step of a shared network: groups of images, each through a path of its own, on the supernet kernels."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nasfast.errors import NasfastError, ShapeError, SpaceError
from nasfast.kernels import ops
from nasfast.nn.checkpointing import saved_last
from nasfast.spaces.base import Rows
from nasfast.spaces.graph import Graph, Node
from nasfast.supernets.shared import PLANNER, SharedNetwork
from nasfast.supernets.units import ENTRY_KINDS, IDENTITY, ZERO, UnitLowering, UnitNetwork

Statistics = Literal["group", "operation"]


class PathPlanner:
    """The description of a shared network that :func:`forward_paths` runs; made once, and used for every batch.

    Args:
        network: Its parameters and statistics are read at every call; layers must not be replaced after that.

    Raises:
        NoKernelError: An operation of the network has no kernel.
    """

    def __init__(self, network: SharedNetwork) -> None:
        self.network = network
        self._lowering = UnitLowering(network.modules())
        self._operations: dict[tuple[Any, ...], int] = {}
        self.whole: UnitNetwork | None = None
        self._decisions = np.zeros(0, np.int64)
        if network.places is not None:
            self.whole = self._lower_places()

    def index(self, rows: Rows) -> Tensor:
        """Which operation each row chooses at every place, int64 [K, places]."""
        return torch.from_numpy(np.ascontiguousarray(rows[:, self._decisions]))

    def child(self, graph: Graph) -> UnitNetwork:
        """The description of one child."""
        entries = []
        for node in graph.nodes:
            chosen = [self._operation(node)] if node.op is not None else []
            entries.append((ENTRY_KINDS[node.kind], list(node.inputs), chosen))
        return self._lowering.network(entries)

    def _lower_places(self) -> UnitNetwork:
        assert self.network.places is not None
        entries, decisions = [], []
        for place in self.network.places:
            first = place.nodes[0]
            chosen = [self._operation(node) for node in place.nodes] if first.kind == "op" else []
            if len(chosen) > 1:
                decisions.append(place.decision)
            entries.append((ENTRY_KINDS[first.kind], list(first.inputs), chosen))
        self._decisions = np.array(decisions, np.int64)
        return self._lowering.network(entries)

    def _operation(self, node: Node) -> int:
        op = node.op
        assert op is not None
        plain = op.is_identity or op.is_zero
        key = (op.is_zero, op.c_in, op.c_out, op.stride) if plain else (self.network.key_of(node), op)
        if key not in self._operations:
            if plain:
                kind = IDENTITY if op.is_identity else ZERO
                self._operations[key] = self._lowering.add_operation(kind, op.c_out, op.stride)
            else:
                self._operations[key] = self.network.lower(node, self._lowering)
        return self._operations[key]


def planner_of(network: SharedNetwork) -> PathPlanner:
    """The network's planner, made when it is first asked for; copies of the network make their own."""
    planner = network.__dict__.get(PLANNER)
    if not isinstance(planner, PathPlanner):
        planner = network.__dict__[PLANNER] = PathPlanner(network)
    return planner


def forward_paths(network: SharedNetwork, images: Tensor, rows: Any, *, statistics: Statistics = "group") -> Tensor:
    """Logits of a batch whose images take different paths through a shared network, ready for a backward.

    In training mode, batch statistics normalise and running statistics move, path after path; in eval mode running
    statistics normalise. Parameters on no path get no gradient. Results and gradients have the same bits on every run
    and for every number of threads.

    Args:
        network: float32 or float64 on the CPU, float32 on CUDA.
        images: [N, C, H, W], of the network's dtype, any layout.
        rows: int64 [K, D], K divides N: the path of each group of N / K images side by side. K = 1 is one path for
            all, K = N one for each image.
        statistics: Of a BatchNorm, over "group": the group's images, as if it were a batch of its own; or "operation":
            all images that take the operation there, needed where a group is one image. The latter only for spaces
            whose architectures are wired alike.

    Returns:
        [N, classes].

    Raises:
        NasfastError: ``rows`` or images do not fit.
        NoKernelError: An operation of the network has no kernel.

    Equivalent to, with ``statistics="group"``::

        torch.cat([network(group, row) for group, row in zip(images.chunk(len(rows)), rows)])
    """
    rows = network.space.check(rows)
    _check(network, images, rows, statistics)
    planner = planner_of(network)
    if planner.whole is not None:
        return _run(network, planner.whole, images, planner.index(rows), statistics == "operation")
    if statistics == "operation" and len(rows) > 1:
        raise SpaceError(
            f"{network.space.name}: statistics of an operation need architectures that are wired alike; use "
            "statistics='group'"
        )
    no_choice = torch.zeros(1, 0, dtype=torch.int64)
    logits = []
    for row, group in zip(rows, images.chunk(len(rows)), strict=True):
        child = planner.child(network.space.graph(row, network.num_classes, network.in_channels))
        logits.append(_run(network, child, group, no_choice, False))
    return logits[0] if len(logits) == 1 else torch.cat(logits)


def _check(network: SharedNetwork, images: Tensor, rows: Rows, statistics: str) -> None:
    if images.device.type not in ("cpu", "cuda"):
        raise NasfastError(f"training by paths has kernels for the CPU and CUDA, got images on {images.device}")
    if images.dim() != 4 or images.shape[1] != network.in_channels:
        raise ShapeError(f"images must be [N, {network.in_channels}, H, W], got {list(images.shape)}")
    if not len(rows) or not len(images) or len(images) % len(rows):
        raise ShapeError(f"rows must divide the images: got {len(rows)} rows and {len(images)} images")
    if statistics not in ("group", "operation"):
        raise SpaceError(f"statistics must be 'group' or 'operation', got {statistics!r}")


def _run(network: SharedNetwork, units: UnitNetwork, images: Tensor, index: Tensor, per_operation: bool) -> Tensor:
    norms = units.norms
    if any(norm.training != network.training for norm in norms):
        raise SpaceError("every BatchNorm of a shared network must be in the mode of the network, train or eval")
    running = [] if network.training else [buffer for n in norms for buffer in (n.running_mean, n.running_var)]
    logits, stats = ops.supernet_paths(
        images, index, units.params(images.dtype), units.graph, running=_given(running), per_operation=per_operation
    )
    if network.training:
        with torch.no_grad():
            _update(units, stats, images, index, per_operation)
    return saved_last(logits)


def _update(units: UnitNetwork, stats: Tensor, images: Tensor, index: Tensor, per_operation: bool) -> None:
    norms = units.norms
    ops.supernet_update_running_(
        stats,
        index,
        _given([norm.running_mean for norm in norms]),
        _given([norm.running_var for norm in norms]),
        _given([norm.num_batches_tracked for norm in norms]),
        units.graph,
        sizes=images.shape,
        per_operation=per_operation,
        momentum=[-1.0 if norm.momentum is None else norm.momentum for norm in norms],
    )


def _given(buffers: list[Tensor | None]) -> list[Tensor]:
    """Buffers that are there: a BatchNorm without running statistics has no kernel."""
    return [buffer for buffer in buffers if buffer is not None]
