"""Batched evaluation of children against one child after the other, on drawn networks and populations."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasfast.spaces.base import Choices, Space
from nasfast.spaces.graph import Builder
from nasfast.spaces.operations import Classifier, avg_pool_3x3, conv_bn, conv_bn_relu6, max_pool_3x3
from nasfast.supernets.batched_eval import evaluate_children
from nasfast.supernets.shared import SharedNetwork
from tests.helpers.child_eval_cases import (
    Branches,
    OwnLayers,
    SmallChain,
    sequential,
    shared_network,
    small_nasbench201,
)

SPACES = {"chain": SmallChain, "nasbench201": small_nasbench201, "branches": Branches, "own": OwnLayers}
TOLERANCE = 1e-4


class Drawn(Space):
    """A network of one width whose wiring was drawn: each step applies a choice to an earlier value, or adds two."""

    operations: ClassVar = {
        "stem": conv_bn,
        "conv": conv_bn_relu6,
        "average": avg_pool_3x3,
        "maximum": max_pool_3x3,
        "head": Classifier,
    }

    def __init__(self, steps: tuple[tuple[Any, ...], ...]) -> None:
        self.steps = steps
        values = ("conv", "average", "maximum", "identity", "none")
        super().__init__(
            "drawn", {f"op{i}": values for i, step in enumerate(steps) if step[0] == "op"} | {"last": (0, 1)}
        )

    def wire(self, choices: Choices, net: Builder) -> int:
        values = [net.op("stem", net.input, 7, at="stem")]
        for i, (kind, *sources) in enumerate(self.steps):
            read = [values[source % len(values)] for source in sources]
            values.append(net.op(choices[f"op{i}"], read[0], at=f"op{i}") if kind == "op" else net.sum(read))
        x = net.op("conv", net.concat(values[-2:] if choices["last"] else values), 9, 2, at="join")
        return net.op("head", x, net.num_classes, at="head")


numbers = st.integers(0, 9)
steps = st.lists(
    st.one_of(st.tuples(st.just("op"), numbers), st.tuples(st.just("sum"), numbers, numbers)), min_size=1, max_size=6
).map(tuple)


@cache
def network_of(name: str) -> SharedNetwork:
    return shared_network(SPACES[name]())


def check(network: SharedNetwork, data: st.DataObject) -> None:
    one = st.tuples(*(st.integers(0, size - 1) for size in network.space.sizes.tolist()))
    rows = data.draw(st.lists(one, min_size=1, max_size=5))
    height, width, count = data.draw(st.tuples(st.integers(4, 11), st.integers(4, 11), st.integers(1, 3)))
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    x = torch.randn(count, 3, height, width, generator=draw)
    calibration = torch.randn(8, 3, height, width, generator=draw) if data.draw(st.booleans()) else None
    results = evaluate_children(network, rows, x, calibration=calibration)
    found = results.logits[results.index]
    expected = sequential(network, rows, x, calibration)
    assert float((found - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())
    for k, row in enumerate(rows):  # the bits do not depend on who else is evaluated
        alone = evaluate_children(network, [row], x, calibration=calibration)
        assert torch.equal(alone.logits[0], results.logits_of(k))


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=12)
@given(data=st.data())
def test_populations_are_evaluated_as_one_after_the_other(name: str, data: st.DataObject) -> None:
    check(network_of(name), data)


@settings(max_examples=20)
@given(steps, st.data())
def test_networks_of_drawn_wiring_are_too(drawn: tuple[tuple[Any, ...], ...], data: st.DataObject) -> None:
    check(shared_network(Drawn(drawn)), data)
