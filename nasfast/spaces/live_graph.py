"""The part of an architecture that its output depends on, in an order that equal functions share.

What draws random weights for a network, one operation after the other, then draws the same ones for two architectures
that are the same function, however they are written.
"""

from __future__ import annotations

from nasfast.spaces.graph import Atom, Graph, Node, Op, colour_atoms, reduce_graph

_ZERO = "none"


def live_graph(graph: Graph) -> Graph:
    """The same function without identities, without zeros in sums, and without what does not reach the output.

    Operations come in an order that follows from :meth:`Graph.form` alone, but for those that no form tells apart.
    """
    return _Writer(graph).write()


class _Writer:
    """Copies nodes of ``graph`` into a new one, sources first."""

    def __init__(self, graph: Graph) -> None:
        self.old = graph.nodes
        self.operations = graph.operations
        self.atoms, self.output = reduce_graph(graph)
        self.strides = _strides(graph)
        self.nodes: list[Node] = [graph.nodes[0]]
        self.number: dict[int, int] = {0: 0}
        self.zeros = _zeros(graph)

    def write(self) -> Graph:
        for atom in _order(self.atoms, self.output):
            if atom >= 0:  # parts of a concatenation are no nodes
                self.copy(atom)
        last = self.copy(len(self.old) - 1)
        if last != len(self.nodes) - 1:  # images go straight to the output
            self.append(Node("sum", (last,), self.nodes[last].channels))
        return Graph(tuple(self.nodes), self.operations)

    def copy(self, index: int) -> int:
        """The new number of an old node."""
        if index not in self.number:
            self.number[index] = self.make(index)
        return self.number[index]

    def make(self, index: int) -> int:
        node = self.old[index]
        if self.zeros[index]:
            stride = self.strides[index]
            op = Op(_ZERO, self.old[0].channels, node.channels, stride)
            return self.append(Node("op", (0,), node.channels, op))
        if node.op is not None and node.op.is_identity:
            return self.copy(node.inputs[0])
        kept = [x for x in node.inputs if node.kind != "sum" or not self.zeros[x]]
        inputs = tuple(self.copy(x) for x in kept)
        if node.kind != "op" and len(inputs) == 1:
            return inputs[0]
        return self.append(Node(node.kind, inputs, node.channels, node.op, node.weights))

    def append(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1


def _zeros(graph: Graph) -> list[bool]:
    """Whether each node is zero whatever the images and weights are."""
    found: list[bool] = []
    for node in graph.nodes:
        passes_on = node.kind in ("sum", "concat", "join") or (node.op is not None and node.op.is_identity)
        found.append((node.op is not None and node.op.is_zero) or (passes_on and all(found[x] for x in node.inputs)))
    return found


def _strides(graph: Graph) -> list[int]:
    """By how much each node is smaller than the images."""
    found: list[int] = []
    for node in graph.nodes:
        own = node.op.stride if node.op is not None else 1
        found.append(own * max((found[x] for x in node.inputs), default=1))
    return found


def _order(atoms: dict[int, Atom], output: tuple[int, ...]) -> list[int]:
    """Atoms that the output depends on, sources first; among the sources of one, by their colours."""
    colours = colour_atoms(atoms, output)

    def sources(of: tuple[int, ...]) -> list[tuple[int, bool]]:
        return [(atom, False) for atom in sorted(of, key=colours.__getitem__, reverse=True)]

    order: list[int] = []
    seen: set[int] = set()
    stack = sources(output)
    while stack:
        atom, complete = stack.pop()
        if complete:
            order.append(atom)
        elif atom not in seen:
            seen.add(atom)
            stack += [(atom, True), *sources(atoms[atom][1])]
    return order
