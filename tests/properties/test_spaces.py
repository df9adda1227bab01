"""Rows, texts and canonical forms of every search space."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nasfast.errors import NasfastError
from nasfast.spaces import JointSpace
from nasfast.spaces.base import Space
from nasfast.spaces.graph import Graph, Node, Op
from nasfast.spaces.registry import DIGITS, SPACES, make_space
from tests.helpers.texts import near

NAMES = [*SPACES, "joint"]


@cache
def space_of(name: str) -> Space:
    if name == "joint":
        settings = {"lr": (0.01, 0.05), "batch_size": (16, 32, 64), "flip": (True, False)}
        return JointSpace(space_of("nasbench201"), settings)
    return make_space(name, DIGITS[name])


def rows_of(space: Space) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*(st.integers(0, size - 1) for size in space.sizes.tolist()))


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_a_row_comes_back_from_its_text(name: str, data: st.DataObject) -> None:
    space = space_of(name)
    row = data.draw(rows_of(space))
    text = space.decode(row)
    assert tuple(space.encode(text).tolist()) == row
    assert space.decode(space.encode(text)) == text


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_different_rows_have_different_texts(name: str, data: st.DataObject) -> None:
    """Rows that differ in one decision."""
    space = space_of(name)
    row = np.array(data.draw(rows_of(space)))
    texts = [space.decode(other) for other in (row, *space.neighbours(row))]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_any_text_is_an_architecture_or_an_error_of_nasfast(name: str, data: st.DataObject) -> None:
    space = space_of(name)
    text = data.draw(near(rows_of(space).map(space.decode)))
    try:
        row = space.encode(text)
    except NasfastError:
        return
    assert (space.check(row)[0] == row).all()
    assert space.encode(space.decode(row)).tolist() == row.tolist()


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_mutants_and_children_are_of_the_space(name: str, data: st.DataObject) -> None:
    space = space_of(name)
    one, other = data.draw(st.tuples(rows_of(space), rows_of(space)))
    draw = np.random.default_rng(data.draw(st.integers(0, 99)))
    mutant, child = space.mutate(draw, one), space.crossover(draw, one, other)
    space.check([mutant, child])
    assert (mutant != one).sum() == 1
    assert ((child == one) | (child == other)).all()


@pytest.mark.parametrize("name", ["enas-micro", "nasnet"])
@given(data=st.data())
def test_the_order_of_the_inputs_of_a_node_does_not_count(name: str, data: st.DataObject) -> None:
    space = space_of(name)
    choices = space.choices(data.draw(rows_of(space)))
    turned = dict(zip(map(_other_input, choices), choices.values(), strict=True))
    assert space.canonical(space.row_of(turned)) == space.canonical(space.row_of(choices))


def _other_input(name: str) -> str:
    return name[:-1] + {"0": "1", "1": "0"}[name[-1]] if ".source" in name or ".op" in name else name


# Graphs: nodes of one width, each an operation on an earlier node or the sum of some.

OPERATIONS = ("conv", "pool", "none", "identity")


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    nodes = [Node("input", (), 4)]
    for index in range(1, draw(st.integers(2, 9))):
        earlier = st.integers(0, index - 1)
        if draw(st.booleans()):
            op = Op(draw(st.sampled_from(OPERATIONS)), 4, 4)
            nodes.append(Node("op", (draw(earlier),), 4, op))
        else:
            inputs = tuple(draw(st.lists(earlier, min_size=1, max_size=3)))
            nodes.append(Node("sum", inputs, 4))
    everything = tuple(range(len(nodes)))
    return Graph((*nodes, Node("sum", everything, 4)), {})


def renumbered(graph: Graph, priorities: list[float], turned: bool) -> Graph:
    """The same graph with its nodes in another order in which each reads earlier ones, and its sums turned around."""
    count, order = len(graph.nodes), [0]
    left = sorted(range(1, count - 1), key=priorities.__getitem__)
    while left:
        ready = next(node for node in left if all(source in order for source in graph.nodes[node].inputs))
        left.remove(ready)
        order.append(ready)
    order.append(count - 1)
    place = {old: new for new, old in enumerate(order)}
    nodes = []
    for old in order:
        node = graph.nodes[old]
        inputs = [place[source] for source in node.inputs]
        nodes.append(Node(node.kind, tuple(inputs[::-1] if turned else inputs), node.channels, node.op))
    return Graph(tuple(nodes), graph.operations)


@given(graphs(), st.lists(st.floats(0, 1), min_size=12, max_size=12), st.booleans())
def test_the_form_of_a_graph_does_not_depend_on_the_order_of_nodes(
    graph: Graph, priorities: list[float], turned: bool
) -> None:
    assert renumbered(graph, priorities, turned).form() == graph.form()


@given(graphs(), st.data())
def test_identities_and_zeros_between_do_not_change_the_form(graph: Graph, data: st.DataObject) -> None:
    """The output through an identity, and with a zero added to it."""
    last = len(graph.nodes) - 1
    identity = Node("op", (last,), 4, Op("identity", 4, 4))
    zero = Node("op", (data.draw(st.integers(0, last)),), 4, Op("none", 4, 4))
    longer = (*graph.nodes, identity, zero, Node("sum", (last + 1, last + 2), 4))
    assert Graph(longer, {}).form() == graph.form()


@given(graphs(), st.data())
def test_another_operation_is_another_form(graph: Graph, data: st.DataObject) -> None:
    places = [i for i, node in enumerate(graph.nodes) if node.op is not None and node.op.name in ("conv", "pool")]
    assume(places)
    at = data.draw(st.sampled_from(places))
    nodes = list(graph.nodes)
    nodes[at] = Node("op", nodes[at].inputs, 4, Op("another", 4, 4))
    assert Graph(tuple(nodes), {}).form() != graph.form()
