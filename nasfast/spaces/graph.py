"""An architecture as a graph: nodes in order, the operation of each, and the name of the weights it uses.

Every search space wires its architectures into this one form; the network, the cost, the canonical form and the
sharing of weights between architectures are all read from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Literal

from torch import nn

from nasfast.errors import SpaceError

Factory = Callable[..., nn.Module]
"""``factory(c_in, c_out, stride, **settings)`` makes an operation: [N, c_in, H, W] to [N, c_out, H', W']."""

IDENTITIES = frozenset({"identity", "skip_connect"})
"""Operations that pass their input on where they change neither channels nor size."""

ZEROS = frozenset({"none"})
"""Operations whose output is zero."""


@dataclass(frozen=True)
class Op:
    """What a node computes: the name of the operation and all that the shape of its weights depends on."""

    name: str
    c_in: int
    c_out: int
    stride: int = 1
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def is_identity(self) -> bool:
        return self.name in IDENTITIES and self.stride == 1 and self.c_in == self.c_out

    @property
    def is_zero(self) -> bool:
        return self.name in ZEROS


@dataclass(frozen=True)
class Node:
    """One value of the graph.

    Attributes:
        kind: "input", "op" (one input), "sum", "concat" (channels in order) or "join" (a concatenation whose order does
            not matter, because a convolution with weights of its own reads it).
        inputs: Earlier nodes.
        channels: Channels of the value.
        weights: Name of the weights in the network that all architectures of the space share; nodes of two
            architectures with the same name and ``op`` use the same weights. "" without weights.
    """

    kind: Literal["input", "op", "sum", "concat", "join"]
    inputs: tuple[int, ...]
    channels: int
    op: Op | None = None
    weights: str = ""


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which each reads earlier ones only; the last one is the output."""

    nodes: tuple[Node, ...]
    operations: Mapping[str, Factory] = field(repr=False, compare=False)

    @property
    def in_channels(self) -> int:
        return self.nodes[0].channels

    def form(self, keeps_zero: frozenset[str] = frozenset()) -> str:
        """Digest of the function, up to the values of its weights; equal functions have equal forms.

        Identities vanish, zeros drop out of sums, sums of sums are one sum, and neither the order of nodes, of summands
        nor what does not reach the output counts. That one result used twice differs from two equal operations with
        weights of their own is seen. Two functions that differ may share a form only where colour refinement
        (Weisfeiler, Leman, 1968) cannot tell their graphs apart.

        Args:
            keeps_zero: Operations that give zero for zero.
        """
        atoms, output = reduce_graph(self, keeps_zero)
        return _digest(sorted(colour_atoms(atoms, output).values()))


Atom = tuple[str, tuple[int, ...]]
"""A label, and the atoms it reads; several where it reads a sum."""


def reduce_graph(graph: Graph, keeps_zero: frozenset[str] = frozenset()) -> tuple[dict[int, Atom], tuple[int, ...]]:
    """Operations and concatenations by node, each with the atoms it reads, and the atoms that the output sums."""
    atoms: dict[int, Atom] = {}
    terms: list[tuple[int, ...]] = []  # of every node: the atoms whose sum it is; none for zero
    for index, node in enumerate(graph.nodes):
        read = tuple(sorted(atom for source in node.inputs for atom in terms[source]))
        if node.kind == "sum" or (node.op is not None and node.op.is_identity):
            terms.append(read)
        elif node.op is not None and (node.op.is_zero or (not read and node.op.name in keeps_zero)):
            terms.append(())
        elif node.kind in ("concat", "join") and len(node.inputs) == 1:
            terms.append(terms[node.inputs[0]])
        elif node.kind in ("concat", "join"):
            parts = []
            for place, source in enumerate(node.inputs):  # each part is an atom of its own: a sum stays together
                part = -(index * len(graph.nodes) + place + 1)
                atoms[part] = (f"part {place if node.kind == 'concat' else ''}", terms[source])
                parts.append(part)
            atoms[index] = (node.kind, tuple(parts))
            terms.append((index,))
        else:
            atoms[index] = (repr(node.op or node.kind), read)
            terms.append((index,))
    return atoms, terms[-1]


def _digest(*parts: object) -> str:
    return blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def colour_atoms(atoms: dict[int, Atom], output: tuple[int, ...]) -> dict[int, str]:
    """A digest of each atom that the output depends on, refined until no round tells more of them apart."""
    live, stack = set[int](), list(output)
    while stack:
        atom = stack.pop()
        if atom not in live:
            live.add(atom)
            stack.extend(atoms[atom][1])
    order = [atom for atom in atoms if atom in live]
    colours = dict.fromkeys(order, "")
    readers: dict[int, list[int]] = {atom: [] for atom in order}
    for atom in order:
        for source in atoms[atom][1]:
            readers[source].append(atom)
    told_apart = 0
    while True:
        for atom in order:  # sources come first, so one pass carries colours from the input to the output
            label, sources = atoms[atom]
            colours[atom] = _digest(colours[atom], label, sorted(colours[source] for source in sources))
        before = dict(colours)
        for atom in order:
            read_by = sorted(before[reader] for reader in readers[atom])
            colours[atom] = _digest(before[atom], read_by, output.count(atom))
        if len(set(colours.values())) == told_apart:
            return colours
        told_apart = len(set(colours.values()))


class Builder:
    """Writes a graph, node by node. Methods return the number of the node they add.

    Attributes:
        num_classes: What the network is to tell apart.
        input: The node of the images.
    """

    input = 0

    def __init__(self, operations: Mapping[str, Factory], in_channels: int = 3, num_classes: int = 10) -> None:
        self.operations = operations
        self.num_classes = num_classes
        self._nodes = [Node("input", (), in_channels)]

    def channels(self, node: int) -> int:
        """Channels of a node."""
        return self._nodes[node].channels

    def op(self, name: str, x: int, channels: int | None = None, stride: int = 1, *, at: str, **settings: Any) -> int:
        """Apply an operation.

        Args:
            name: Which of the space's operations.
            x: The node it reads.
            channels: Of its output; by default as its input.
            at: The place in the network. Architectures share the weights of equal operations at one place.
            settings: Further arguments of the operation's factory.
        """
        if name not in self.operations and name not in ZEROS | IDENTITIES:
            known = ", ".join(sorted(self.operations))
            raise SpaceError(f"{at}: unknown operation {name!r}; expected one of {known}")
        c_in = self.channels(x)
        keeps = stride == 1 and channels in (None, c_in)
        if name not in self.operations and name not in ZEROS and not keeps:
            raise SpaceError(
                f"{at}: {name} keeps channels and size, got {c_in} to {channels} channels, stride {stride}"
            )
        op = Op(name, c_in, c_in if channels is None else channels, stride, tuple(sorted(settings.items())))
        weights = "" if op.is_identity or op.is_zero else f"{at}/{name}"
        return self._append(Node("op", (x,), op.c_out, op, weights))

    def sum(self, xs: Sequence[int]) -> int:
        """Add values of the same shape; one alone is passed on."""
        if len({self.channels(x) for x in xs}) != 1:
            raise SpaceError(f"sum: expected values of equal channels, got {[self.channels(x) for x in xs]}")
        return xs[0] if len(xs) == 1 else self._append(Node("sum", tuple(xs), self.channels(xs[0])))

    def concat(self, xs: Sequence[int], ordered: bool = True) -> int:
        """Concatenate channels; ``ordered=False`` where a convolution with weights of its own reads the result."""
        if not xs:
            raise SpaceError("concat: expected at least one value, got none")
        total = sum(self.channels(x) for x in xs)
        return self._append(Node("concat" if ordered else "join", tuple(xs), total))

    def _append(self, node: Node) -> int:
        if any(not 0 <= x < len(self._nodes) for x in node.inputs):
            raise SpaceError(f"inputs must be earlier nodes (0 to {len(self._nodes) - 1}), got {list(node.inputs)}")
        self._nodes.append(node)
        return len(self._nodes) - 1

    def graph(self, output: int, keep_unused: bool = False) -> Graph:
        """What was written, without the nodes that do not reach ``output`` (unless ``keep_unused``)."""
        used = {output}
        for index in range(output, 0, -1):
            if index in used:
                used.update(self._nodes[index].inputs)
        kept = [i for i in range(output + 1) if keep_unused or i in used or i == self.input]
        number = {index: place for place, index in enumerate(kept)}
        nodes = [
            replace(node, inputs=tuple(number[i] for i in node.inputs)) for node in map(self._nodes.__getitem__, kept)
        ]
        return Graph(tuple(nodes), self.operations)
