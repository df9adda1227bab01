"""The fused forward of a whole cell: every mixed operation between its inputs and its output in one graph.

The cell's own forward is run with its mixed operations replaced. It does the pre-processing, hands each mixed
operation its weights, and adds up unit vectors, which shows where every edge starts and ends and with what weight
it counts. The images then go through one fused graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nasfast.dropin.alone import Unrecognised
from nasfast.dropin.auxiliary import edge_rows
from nasfast.dropin.call_guard import Guard, fusable_input, fusable_state, in_autocast
from nasfast.dropin.forward import FusedForward
from nasfast.dropin.fused_graph import Edge, FusedGraph, partial_stages, run_graph
from nasfast.dropin.mixed import FusedMixed
from nasfast.dropin.randomness import Randomness, ShapeBlind
from nasfast.dropin.reads import Reads
from nasfast.dropin.recognise import Bank
from nasfast.dropin.trace import Forward, class_forward, random_state_kept, replaced, unit_vectors, vector_of
from nasfast.nn.fused_partial import PartialStages


@dataclass
class Trace:
    """One run of a cell's forward with unit vectors for edges; edges are numbered as they were called.

    `sources[e]` is an index into `states`, or -1 - r for row r of `rows`: a sum over earlier edges. The last rows are
    the blocks of the output.
    """

    order: list[int] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    rows: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    blocks: int = 0


@dataclass(frozen=True)
class Wiring:
    """How a cell's edges hang together, read from a trace.

    `pattern` [rows, E] is 1 where a row of the trace adds an edge up; `picks` are the places in it that give each
    edge's weight; `outputs` are the nodes that the output concatenates.
    """

    order: tuple[int, ...]
    sources: tuple[int, ...]
    pattern: Tensor
    picks: Tensor
    edges: tuple[tuple[int, int], ...]
    inputs: int
    nodes: int
    outputs: tuple[int, ...]


class FusedCell(FusedForward):
    """Stands for `forward` of a module that holds mixed operations and adds their results up to nodes."""

    def __init__(self, name: str, module: nn.Module, mixed: Sequence[FusedMixed], args: tuple[Any, ...]) -> None:
        self.name = name
        self.module = module
        self.mixed = list(mixed)
        self.fraction = mixed[0].fraction
        self.channels = mixed[0].bank.channels
        _check_alike(self.mixed)
        self.guard = Guard(
            [holder for plan in mixed for holder in (plan.module, plan.bank.holder)],
            [layer for plan in mixed for layer in plan.layers],
            [norm for plan in mixed for norm in plan.norms()],
            heard=[plan.module for plan in mixed],
        )
        inside = {id(part) for plan in mixed for part in plan.module.modules()}
        self.outside = [part for part in module.modules() if id(part) not in inside]
        with random_state_kept(args[0].device) as rewind, torch.no_grad():
            trace = self._run(args, {})
            rewind()
        self.wiring = _read_wiring(trace, len(self.mixed))
        edges = _edges(self.wiring, [self.mixed[index].bank for index in self.wiring.order])
        skips = [plan.auxiliary.bank for index in self.wiring.order if (plan := self.mixed[index]).auxiliary]
        if skips:
            edges += _edges(self.wiring, skips)
        self.graph: FusedGraph | None = None
        self.stages: PartialStages | None = None
        if self.fraction == 1:
            self.graph = FusedGraph(self.wiring.inputs, self.wiring.nodes, edges)
        else:
            self.stages = partial_stages(self.wiring.inputs, self.wiring.nodes, edges, self.fraction)
        self.draws = ShapeBlind()
        self.reads = Reads(module)
        self.kind = f"cell of {len(self.mixed)} mixed operations"

    def holds(self) -> bool:
        return self.guard.holds()

    def same_reads(self) -> bool:
        return self.reads.same() and all(plan.same_reads() for plan in self.mixed)

    def fused(self, *args: Any, **kwargs: Any) -> Tensor | None:
        if not self.holds() or not args or not fusable_input(args[0]) or not self.fits_autocast(args[0], args, kwargs):
            return None
        # Pre-processing runs in the trace. Should the trace turn out of no use, its own run must be the only one.
        buffers = [buffer for part in self.outside for buffer in part._buffers.values() if buffer is not None]
        saved = [buffer.clone() for buffer in buffers]
        randomness = Randomness(args[0].device, [*self.outside, *(plan.module for plan in self.mixed)])

        def undo() -> None:
            randomness.rewind()
            with torch.no_grad():
                for buffer, value in zip(buffers, saved, strict=True):
                    buffer.copy_(value)

        try:
            trace = self.draws.run(lambda size: self._run(args, kwargs, size), randomness, undo)
        except Unrecognised:
            trace = None
        if trace is None or not self._matches(trace):
            undo()
            return None
        return self._compute(trace)

    def _run(self, args: Sequence[Any], kwargs: dict[str, Any], size: int = 1) -> Trace:
        trace = Trace()
        dtype = torch.float32 if in_autocast(args[0]) else args[0].dtype
        count = len(self.mixed)
        units = unit_vectors(count, args[0].new_zeros(0, dtype=dtype), size)

        def stub(index: int) -> Forward:
            def forward(*own: Any, **own_kwargs: Any) -> Tensor:
                return _note_call(trace, self.mixed[index], index, units, own, own_kwargs)

            return forward

        with replaced([plan.module for plan in self.mixed], [stub(index) for index in range(count)]):
            out = class_forward(self.module, args, kwargs)
        if not isinstance(out, Tensor) or out.dim() != 4 or out.shape[1] % count:
            raise Unrecognised("its output is no concatenation of sums over its mixed operations")
        if (out.shape[0], *out.shape[2:]) != (size, size, size):
            raise Unrecognised("its output is no concatenation of sums over its mixed operations")
        blocks = list(vector_of(out).reshape(-1, count))
        trace.blocks = len(blocks)
        trace.rows += blocks
        return trace

    def _matches(self, trace: Trace) -> bool:
        wiring = self.wiring
        if tuple(trace.order) != wiring.order or tuple(trace.sources) != wiring.sources:
            return False
        if len(trace.rows) != len(wiring.pattern) or any(not fusable_state(state) for state in trace.states):
            return False
        rows = torch.stack([row.detach() for row in trace.rows])
        return torch.equal(rows != 0, wiring.pattern.to(rows.device))

    def _compute(self, trace: Trace) -> Tensor:
        weights = _stack_rows(trace.weights)
        rows = torch.stack(trace.rows)
        if rows.requires_grad or not torch.equal(rows, self.wiring.pattern.to(rows)):
            scale = rows.reshape(-1).index_select(0, self.wiring.picks.to(rows.device))
        else:
            scale = None
        if self.graph is not None:
            if scale is not None:
                weights = weights * scale.unsqueeze(1)
            if self.mixed[0].auxiliary:
                weights = edge_rows(weights)
            nodes = run_graph(self.graph, trace.states, weights)
        else:
            assert self.stages is not None
            nodes = torch.cat(self.stages.run(trace.states, weights, scale, False), dim=1)
        return _choose(nodes, self.wiring)


def _note_call(
    trace: Trace, plan: FusedMixed, index: int, units: list[Tensor], args: Sequence[Any], kwargs: dict[str, Any]
) -> Tensor:
    x = args[0] if args else None
    if not isinstance(x, Tensor) or x.dim() != 4 or len(trace.order) >= len(units):
        raise Unrecognised("it does not call each mixed operation once, on an image")
    trace.order.append(index)
    if x.shape == units[0].shape:
        trace.sources.append(-1 - len(trace.rows))
        trace.rows.append(vector_of(x))
    else:
        known = next((i for i, state in enumerate(trace.states) if state is x), None)
        if known is None:
            known = len(trace.states)
            trace.states.append(x)
        trace.sources.append(known)
    like = trace.states[0] if trace.states else x
    weights = plan.weights(like, args, kwargs)
    if weights is None:
        raise Unrecognised("the weights of a mixed operation could not be told")
    trace.weights.append(weights)
    return units[len(trace.order) - 1]


def _check_alike(mixed: Sequence[FusedMixed]) -> None:
    settings: dict[str, set[Any]] = {
        "channels": {plan.bank.channels for plan in mixed},
        "candidate counts": {len(plan.children) for plan in mixed},
        "skips beside the mixture": {plan.auxiliary is None for plan in mixed},
        "shares of channels": {plan.fraction for plan in mixed},
        "settings of normalisation": {values for plan in mixed for values in plan.guard.settings},
    }
    for what, values in settings.items():
        if len(values) > 1:
            raise Unrecognised(f"its mixed operations differ in {what}")
    norms = [id(norm) for plan in mixed for norm in plan.guard.norms]
    if len(set(norms)) < len(norms):
        raise Unrecognised("two of its mixed operations share a module")


def _read_wiring(trace: Trace, count: int) -> Wiring:
    """Number the nodes by their first use. A node is a set of edges that is added up as a whole."""
    if sorted(trace.order) != list(range(count)):
        raise Unrecognised(f"it calls {len(trace.order)} of its {count} mixed operations")
    rows = torch.stack(trace.rows).cpu()
    nodes: list[tuple[int, ...]] = []
    node_of_row = []
    target: dict[int, int] = {}
    for row in rows:
        members = tuple(row.nonzero().flatten().tolist())
        if members not in nodes:
            if not members or any(edge in target for edge in members):
                raise Unrecognised("a sum over its mixed operations is not used as a whole")
            target.update(dict.fromkeys(members, len(nodes)))
            nodes.append(members)
        node_of_row.append(nodes.index(members))
    if len(target) < count:
        raise Unrecognised("the result of a mixed operation is not used")
    inputs = len(trace.states)
    edges = []
    for edge, source in enumerate(trace.sources):
        start = source if source >= 0 else inputs + node_of_row[-1 - source]
        edges.append((start, target[edge]))
    first_row = {node: node_of_row.index(node) for node in range(len(nodes))}
    picks = torch.tensor([first_row[target[edge]] * count + edge for edge in range(count)])
    outputs = tuple(node_of_row[len(rows) - trace.blocks :])
    return Wiring(
        tuple(trace.order),
        tuple(trace.sources),
        rows != 0,
        picks,
        tuple(edges),
        inputs,
        len(nodes),
        outputs,
    )


def _choose(nodes: Tensor, wiring: Wiring) -> Tensor:
    """The nodes that make the output, from all of them side by side."""
    first, count = wiring.outputs[0], len(wiring.outputs)
    if count == wiring.nodes and wiring.outputs == tuple(range(count)):
        return nodes
    width = nodes.shape[1] // wiring.nodes
    if wiring.outputs == tuple(range(first, first + count)):
        return nodes[:, first * width : (first + count) * width]
    parts = nodes.split(width, dim=1)
    return torch.cat([parts[node] for node in wiring.outputs], dim=1)


def _edges(wiring: Wiring, banks: Sequence[Bank]) -> list[Edge]:
    return [Edge(bank, source, node) for bank, (source, node) in zip(banks, wiring.edges, strict=True)]


def _stack_rows(rows: list[Tensor]) -> Tensor:
    """[E, K] from E vectors; where they are the rows of one tensor in order, that tensor itself."""
    base = rows[0]._base
    if base is not None and base.shape == (len(rows), rows[0].numel()) and base.is_contiguous():
        width = rows[0].numel()
        offset = base.storage_offset()
        if all(
            row._base is base and row.storage_offset() == offset + e * width and row.is_contiguous()
            for e, row in enumerate(rows)
        ):
            return base
    return torch.stack(rows)
