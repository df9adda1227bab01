"""From one architecture of a space to another: which morphism that is, and what weights it hands down.

A child computes what its parent computes where it only grew: kernels, expansions and widths got larger, blocks were
added to a stage, an identity became a residual block, "none" became an operation. Elsken et al., "Efficient
Multi-Objective Neural Architecture Search via Lamarckian Evolution", ICLR 2019, call other changes approximate
morphisms; there, a child has the parent's weights wherever an operation is still there, and the rest is drawn afresh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nasfast.errors import SpaceError
from nasfast.morphism.channels import ChannelMap, Widening, check_widening
from nasfast.morphism.network import MorphNetwork
from nasfast.morphism.operations import carry, is_residual, silence
from nasfast.spaces.base import Rows, Space
from nasfast.spaces.graph import Graph, Node, Op
from nasfast.spaces.graph_network import GraphNetwork
from nasfast.supernets.wiring import whole_graph


@dataclass(frozen=True)
class Morph:
    """A child and where it came from.

    Attributes:
        network: The child, in train mode.
        preserves: Whether it gives the parent's outputs, in train and in eval mode (up to rounding).
        changes: What became of the parent's operations, as text.
        inherited: Operations that have weights of the parent.
        operations: Operations that have weights.
    """

    network: MorphNetwork
    preserves: bool
    changes: tuple[str, ...]
    inherited: int
    operations: int


def morph(
    space: Space, parent: GraphNetwork, parent_row: Any, row: Any, seed: int = 0, widening: Widening = "fresh"
) -> Morph:
    """The network of ``row``, grown out of the network of ``parent_row``, which stays as it is.

    Exact changes, for BatchNorm in train and in eval mode: a larger kernel has zeros around the old one; what reads
    further channels begins with weights of 0 for them, or shares its weights among repeats; a new residual block, and
    an operation in place of "none", end with a BatchNorm whose weight is 0; what has no such end passes through a gate
    of 0.

    Args:
        space: Of both rows.
        parent: ``space.build(parent_row)``, or what an earlier call made of this row.
        seed: Of weights that are not inherited, of repeated channels and of the shares.
        widening: "fresh": further channels have new weights. "repeat": they repeat old ones.

    Raises:
        SpaceError: The parent is not a network of ``parent_row``.
        ConfigError: No such widening.
    """
    check_widening("morph", widening)
    return _Morphing(space, parent, space.check(parent_row)[0], space.check(row)[0], seed, widening).run()


def preserves(space: Space, parent_row: Any, row: Any) -> bool:
    """Whether :func:`morph` gives a child that computes what its parent does. Makes no weights."""
    with torch.device("meta"):
        return morph(space, MorphNetwork(space, parent_row), parent_row, row).preserves


def growths(space: Space, row: Any) -> Rows:
    """The rows one decision away that are another function and start as that of ``row``: int64 [K, D]."""
    base, form = space.check(row)[0], space.canonical(row)
    near = space.neighbours(base)
    return near[[space.canonical(other) != form and preserves(space, base, other) for other in near]]


class _Morphing:
    """The state of one morphism. Of every node of the child: its partner, its channels, and whether it is equal."""

    def __init__(
        self, space: Space, parent: GraphNetwork, parent_row: Rows, row: Rows, seed: int, widening: Widening
    ) -> None:
        classes, channels = parent.graph.nodes[-1].channels, parent.graph.in_channels
        self.fixed, self.parent, self.widening = space.mixable, parent, widening
        self.old = whole_graph(space, parent_row, classes, channels, fixed=space.mixable)
        known = {node.weights: node.op for node in self.old.nodes}
        if any(node.weights and known.get(node.weights) != node.op for node in parent.graph.nodes):
            raise SpaceError(f"{space.name}: the parent is no network of {space.decode(parent_row)}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.child = MorphNetwork(space, row, classes, channels).to(next(parent.parameters()))
        self.new = self.child.whole
        self.generator = torch.Generator("cpu").manual_seed(seed)
        self.partners: list[int | None] = []
        self.maps: list[ChannelMap] = []
        self.equal: list[bool] = []
        self.changes: list[str] = []
        self.inherited = 0
        self._by_name = {node.weights: i for i, node in enumerate(self.old.nodes) if node.weights}
        self._by_look = {_look(node, node.inputs): i for i, node in enumerate(self.old.nodes)}
        places = [_place(node) for node in self.old.nodes]
        self._by_place = {place: i for i, place in enumerate(places) if place and places.count(place) == 1}

    def run(self) -> Morph:
        for index, node in enumerate(self.new.nodes):
            self.partners.append(self._partner(index, node))
            if node.kind == "input":
                self._note(ChannelMap.same(node.channels), True)
            elif node.kind == "op":
                self._operation(index, node)
            else:
                self._join(index, node)
        left = set(self._by_name.values()) - set(self.partners)
        self.changes += [f"{_place(self.old.nodes[i])}: removed" for i in sorted(left)]
        count = sum(next(op.parameters(), None) is not None for op in self.child.ops.values())
        return Morph(self.child, self.equal[-1], tuple(self.changes), self.inherited, count)

    def _note(self, channels: ChannelMap, equal: bool) -> None:
        self.maps.append(channels)
        self.equal.append(equal)

    def _partner(self, index: int, node: Node) -> int | None:
        """The parent's node in the place of a node of the child."""
        if self.fixed:
            return index
        if node.weights:
            return self._by_name.get(node.weights, self._by_place.get(_place(node)))
        read = [self.partners[i] for i in node.inputs]
        return self._by_look.get(_look(node, read))

    def _join(self, index: int, node: Node) -> None:
        """A sum or a concatenation."""
        maps = [self.maps[i] for i in node.inputs]
        alike = all(part.equals(maps[0]) for part in maps) if node.kind == "sum" else all(part.is_same for part in maps)
        equal = alike and self.partners[index] is not None and all(self.equal[i] for i in node.inputs)
        self._note(maps[0] if node.kind == "sum" and alike else ChannelMap.same(node.channels), equal)

    def _operation(self, index: int, node: Node) -> None:
        assert node.op is not None
        x, partner, same = node.inputs[0], self.partners[index], ChannelMap.same(node.channels)
        was = None if partner is None else self.old.nodes[partner].op
        if was != node.op:
            self.changes.append(f"{_place(node) or _where(self.new, index)}: {_text(was)} to {_text(node.op)}")
        if partner is None or was is None:
            self._grow_block(index, node)
        elif node.op.is_zero:
            self._note(same, was.is_zero)
        elif was.is_zero:
            self._begin(index, node)
            self._note(same, True)
        elif was.is_identity or node.op.is_identity:
            if was.is_identity and not node.op.is_identity:
                self._grow_block(index, node)
            else:
                self._note(self.maps[x], self.equal[x] and was.is_identity and self._carry_gate(index, partner))
        else:
            self._carry(index, node, partner)

    def _grow_block(self, index: int, node: Node) -> None:
        """A residual block where there was nothing, or an identity."""
        x, module = node.inputs[0], self._module(node)
        grows = module is not None and is_residual(module) and silence(module)
        if grows and not self.fixed:
            self.partners[index] = self.partners[x]
        gated = self.fixed and self._gate_of(index) is not None  # the identity was not all that was there
        self._note(self.maps[x] if grows else ChannelMap.same(node.channels), grows and self.equal[x] and not gated)

    def _begin(self, index: int, node: Node) -> None:
        """An operation in place of "none"."""
        module = self._module(node)
        if module is None or is_residual(module) or not silence(module):
            self.child.add_gate(index)

    def _carry(self, index: int, node: Node, partner: int) -> None:
        """An operation in place of one with weights, or of a pool."""
        before = self.old.nodes[partner]
        assert node.op is not None
        assert before.op is not None
        x, was, old, new = node.inputs[0], before.op, self._old_module(before), self._module(node)
        if old is None or new is None:  # it does not reach the output in one of the two
            self._note(ChannelMap.same(node.channels), new is None)
            return
        reads, connected = self.maps[x], self.fixed or self.partners[x] == before.inputs[0]
        if (reads.before, reads.after) != (was.c_in, node.op.c_in):
            reads, connected = ChannelMap.to(was.c_in, node.op.c_in, self.generator, self.widening), False
        c_out = (was.c_out, node.op.c_out)
        carried = carry(old, new, reads, c_out, was == node.op, self.generator, self.widening)
        self.inherited += carried.inherits
        alike = carried.preserves and self._carry_gate(index, partner)
        self._note(carried.writes, alike and connected and self.equal[x])

    def _module(self, node: Node) -> nn.Module | None:
        """Of the child; None where it has no weights of its own name, or is not part of the network."""
        return _named(self.child, node)

    def _old_module(self, node: Node) -> nn.Module | None:
        return _named(self.parent, node)

    def _gate_of(self, partner: int) -> nn.Module | None:
        if not isinstance(self.parent, MorphNetwork) or partner not in self.parent.gated:
            return None
        return self.parent.gates[str(partner)]

    def _carry_gate(self, index: int, partner: int) -> bool:
        """Hand a gate down; returns whether the child then does what the parent did."""
        gate = self._gate_of(partner)
        if gate is not None:
            self.child.add_gate(index).load_state_dict(gate.state_dict())
        return True


def _named(network: GraphNetwork, node: Node) -> nn.Module | None:
    name = node.weights.replace(".", "_")
    return network.ops[name] if name and name in network.ops else None


def _look(node: Node, inputs: Sequence[int | None]) -> tuple[object, ...]:
    return (node.kind, node.op, *inputs)


def _place(node: Node) -> str:
    return node.weights.rpartition("/")[0]


def _where(graph: Graph, index: int) -> str:
    """The place of a node, or of what reads it."""
    if _place(graph.nodes[index]):
        return _place(graph.nodes[index])
    reached = {index}
    for later in range(index + 1, len(graph.nodes)):
        if reached & set(graph.nodes[later].inputs):
            if _place(graph.nodes[later]):
                return f"into {_place(graph.nodes[later])}"
            reached.add(later)
    return f"node {index}"


def _text(op: Op | None) -> str:
    if op is None:
        return "nothing"
    settings = "".join(f", {name} {value}" for name, value in op.settings)
    return f"{op.name} ({op.c_in} to {op.c_out} channels{settings})"
