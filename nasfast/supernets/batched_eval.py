"""Many children of one shared network evaluated at once: what they have in common is computed once.

The children's graphs are merged (equal operations on equal inputs are one; equal functions of the shared weights are
one child), and the merged plan is walked within a memory bound. float32 on the CPU, and float32, bfloat16 or float16 on
CUDA; no gradients.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nasfast.errors import NasfastError, ShapeError, SpaceError
from nasfast.kernels._extension import load_extension
from nasfast.kernels._library import require_ops
from nasfast.spaces.base import Rows
from nasfast.spaces.graph import Graph, Node
from nasfast.supernets.bounds import Bounds
from nasfast.supernets.elastic import ElasticNetwork, has_residual
from nasfast.supernets.lowering import Lowering
from nasfast.supernets.shared import SharedNetwork

# Numbers of NodeKind in csrc/child_eval/plan.h.
_KINDS = {"input": 0, "op": 1, "sum": 2, "concat": 3, "join": 3}

MEMORY_BOUND = 1 << 30
"""Bytes that values and scratch may take together, unless told."""


@dataclass(frozen=True)
class PlanCounts:
    """What merging does to a population.

    Attributes:
        children, distinct: Children, and functions among them.
        asked: Operations of all children: those with weights and pools, whether or not they reach the output.
        executed: Operations of the merged plan.
        nodes: Values of the merged plan: operations, sums, concatenations, the input.
    """

    children: int
    distinct: int
    asked: int
    executed: int
    nodes: int

    @property
    def merged(self) -> float:
        """Share of the operations asked for that need not be computed."""
        return 1 - self.executed / self.asked if self.asked else 0.0


@dataclass(frozen=True)
class Usage:
    """What an evaluation took.

    Attributes:
        peak_bytes: Most memory of values and scratch at a time, all threads together; never above the bound.
        statistics_bytes: Of the calibrated normalisations, beside it.
        computed_again: Operations that were repeated because their results did not fit.
        threads: That it ran on; 0 on CUDA.
        slice_images: Images that went through the plan together.
        parts: Into which the population was divided, on CUDA; 1 on the CPU.
    """

    peak_bytes: int
    statistics_bytes: int
    computed_again: int
    threads: int
    slice_images: int
    parts: int


@dataclass(frozen=True)
class ChildResults:
    """Outputs of a population.

    Attributes:
        logits: float32 [distinct, N, classes], of the distinct children.
        index: int64 [K], which of them each child is; on the device of the logits.
        counts, usage: What was merged, and what it took.
    """

    logits: Tensor
    index: Tensor
    counts: PlanCounts
    usage: Usage

    def logits_of(self, child: int) -> Tensor:
        """Logits [N, classes] of one child."""
        return self.logits[self.index[child]]

    def correct(self, labels: Tensor) -> Tensor:
        """How many images each child classifies as in ``labels`` int64 [N]: int64 [K]."""
        if labels.shape != self.logits.shape[1:2]:
            raise ShapeError(f"labels must be [{self.logits.shape[1]}], got {list(labels.shape)}")
        return (self.logits.argmax(-1) == labels).sum(-1)[self.index]

    def accuracy(self, labels: Tensor) -> Tensor:
        """Share of the images that each child classifies right: float64 [K]."""
        return self.correct(labels).double() / max(1, len(labels))


class ChildPlanner:
    """Plans populations of a shared network's children; the description of the network is read once.

    Args:
        network: Its weights are read when a plan is evaluated; layers must not be replaced after that.

    Raises:
        NoKernelError: An operation of the network has no kernel.
    """

    def __init__(self, network: SharedNetwork) -> None:
        self.network = network
        self._lowering = Lowering()
        self._macros: dict[tuple[Any, ...], int] = {}
        self._places = {name: number for number, name in enumerate(network.ops)}
        self._template = None if network.places is None else self._lower_places()
        self._tables = self._make_tables()

    def plan(self, rows: Any) -> ChildPlan:
        """Merge the children that ``rows`` int64 [K, D] choose.

        Raises:
            SpaceError: There are none, or one is not of the network's space.
        """
        if isinstance(self.network, ElasticNetwork) and self._macros:  # a plan has those parts alone that it needs
            return ChildPlanner(self.network).plan(rows)
        rows = self.network.space.check(rows)
        if not len(rows):
            raise SpaceError(f"{self.network.space.name}: a population needs at least one child, got none")
        in_channels = self.network.in_channels
        if self._template is None:
            graphs = [self.network.space.graph(row, self.network.num_classes, in_channels) for row in rows]
            entries = self._lower_graphs(graphs)
            merged = load_extension().ChildPopulation.from_graphs(*self.tables(), in_channels, *entries)
        else:
            sizes = torch.from_numpy(self.network.space.sizes)
            merged = load_extension().ChildPopulation.from_rows(
                *self.tables(), in_channels, *self._template, sizes, torch.from_numpy(rows)
            )
        return ChildPlan(self, rows, merged)

    def template(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """How all children are wired, as the extension reads it; None where they are wired differently."""
        return self._template

    def tables(self) -> tuple[Tensor, Tensor]:
        """Primitives and operations that are known so far, as the extension reads them."""
        if len(self._tables[1]) < len(self._lowering.macros):
            self._tables = self._make_tables()
        return self._tables

    def _make_tables(self) -> tuple[Tensor, Tensor]:
        return _table(self._lowering.primitives), _table(self._lowering.macros)

    def _lower_places(self) -> tuple[Tensor, Tensor, Tensor]:
        assert self.network.places is not None
        entries: list[list[int]] = []
        inputs: list[int] = []
        operations: list[int] = []
        for place in self.network.places:
            first = place.nodes[0]
            chosen = [self._macro_of(node) for node in place.nodes] if first.kind == "op" else []
            entries.append([_KINDS[first.kind], place.decision if chosen else -1, len(first.inputs), len(chosen)])
            inputs += first.inputs
            operations += chosen
        return _table(entries), _table(inputs), _table(operations)

    def _lower_graphs(self, graphs: list[Graph]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        entries: list[list[int]] = []
        inputs: list[int] = []
        operations: list[int] = []
        starts = [0]
        for graph in graphs:
            for node in graph.nodes:
                chosen = [self._macro_of(node)] if node.op is not None else []
                entries.append([_KINDS[node.kind], -1, len(node.inputs), len(chosen)])
                inputs += node.inputs
                operations += chosen
            starts.append(len(entries))
        return _table(entries), _table(inputs), _table(operations), _table(starts)

    def _macro_of(self, node: Node) -> int:
        """Number of a node's operation; it is lowered when it is met for the first time."""
        op = node.op
        assert op is not None
        if op.is_identity or op.is_zero:
            key: tuple[Any, ...] = (op.is_zero, op.c_in, op.c_out, op.stride)
        elif isinstance(self.network, ElasticNetwork):
            key = (self.network.key_of(node), op)
        else:
            key = (self.network.key_of(node),)
        if key not in self._macros:
            if op.is_identity:
                number = self._lowering.add_identity(op.c_in)
            elif op.is_zero:
                number = self._lowering.add_zero(op.c_in, op.c_out, op.stride)
            elif isinstance(self.network, ElasticNetwork):
                parts = self.network.bounds(node.weights, op)
                residual = has_residual(self.network.ops[key[0]], op)
                number = self._lowering.add_part(key[0], parts, residual, self._place_of_part(key[0], parts))
            else:
                module, place = self.network.ops[key[0]], self._places[key[0]]
                number = self._lowering.add(key[0], module, op.c_in, op.c_out, place)
            self._macros[key] = number
        return self._macros[key]

    def _place_of_part(self, name: str, parts: list[Bounds]) -> int:
        """A number that sizes at a place have whatever other sizes there are."""
        sizes = repr([(part.c_in, part.c_out, part.kernel) for part in parts])
        return self._places[name] << 32 | zlib.crc32(sizes.encode())

    def _weights(self) -> tuple[list[Tensor], list[float]]:
        return self._lowering.tensors(), self._lowering.eps


@dataclass(frozen=True)
class ChildPlan:
    """A merged population, ready to be evaluated on any number of batches."""

    planner: ChildPlanner
    rows: Rows
    merged: Any

    @property
    def counts(self) -> PlanCounts:
        """What merging does to this population."""
        return PlanCounts(**_ints(self.merged.counts()))

    def arguments(self) -> tuple[Any, ...]:
        """What ``torch.ops.nasfast.child_eval`` takes between the images and the memory bound: weights and plan."""
        return (*self.planner._weights(), *self.planner.tables(), *self.merged.tables())

    def evaluate(
        self, images: Tensor, *, calibration: Tensor | None = None, memory_bound: int = MEMORY_BOUND
    ) -> ChildResults:
        """Logits of every child; see :func:`evaluate_children`."""
        require_ops()
        calibration = None if calibration is None else calibration.detach()
        try:
            logits, usage = torch.ops.nasfast.child_eval(images.detach(), calibration, *self.arguments(), memory_bound)
        except (RuntimeError, ValueError) as error:
            raise NasfastError(str(error).splitlines()[0]) from error
        return ChildResults(logits, _queued(self.merged.index(), logits.device), self.counts, Usage(*usage.tolist()))


def evaluate_children(
    network: SharedNetwork,
    rows: Any,
    images: Tensor,
    *,
    calibration: Tensor | None = None,
    memory_bound: int = MEMORY_BOUND,
) -> ChildResults:
    """Logits of many children of a shared network on the same images, what they share computed once.

    BatchNorm takes its running statistics, or, with ``calibration``, those of that batch in each child: what resetting
    the statistics and one forward pass in training mode with momentum None would leave (unbiased variances). The
    network's own statistics stay as they are. Results are the same bits for every number of threads, order of rows and
    memory bound.

    Args:
        network: The shared network, float32, on the images' device.
        rows: int64 [K, D], the children.
        images: [N, C, H, W], any layout, float32; on CUDA also bfloat16 and float16, which values then have too
            (products and statistics are float32).
        calibration: [M, C, h, w], of the images' dtype, None for the running statistics.
        memory_bound: Bytes that values and scratch may take. Weights, packed for the kernels, logits and calibrated
            statistics come on top.

    Raises:
        NasfastError: Images do not fit, an operation has no kernel, or the bound is too small for one child.
        SpaceError: ``rows`` are empty or not of the network's space.

    Equivalent to::

        network.eval()
        torch.stack([network(images, row) for row in rows])
    """
    return ChildPlanner(network).plan(rows).evaluate(images, calibration=calibration, memory_bound=memory_bound)


def _queued(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on the device, without waiting for it."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def _table(rows: list[Any]) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64)


def _ints(values: Mapping[str, int]) -> dict[str, int]:
    return {name: int(value) for name, value in values.items()}
