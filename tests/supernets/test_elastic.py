"""Shared networks whose operations are cut from the largest, in plain PyTorch and on the supernet kernels."""

from __future__ import annotations

import copy
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nasfast.errors import SpaceError
from nasfast.estimators import OneShotEstimator
from nasfast.spaces.base import Choices, Space
from nasfast.spaces.graph import Builder
from nasfast.spaces.graph_network import GraphNetwork
from nasfast.spaces.mobilenet import MobileNetSpace
from nasfast.spaces.operations import Classifier, max_pool_3x3
from nasfast.supernets import ElasticNetwork, SharedNetwork, make_supernet
from nasfast.supernets.batched_eval import ChildPlanner
from nasfast.supernets.lowering import NoKernelError
from nasfast.supernets.paths import forward_paths
from tests.helpers.child_eval_cases import SmallChain, sequential
from tests.supernets.test_paths import TOLERANCE, assert_same, batch, loop, population, step


def small_mobilenet() -> MobileNetSpace:
    return MobileNetSpace(
        stages=((16, 1), (24, 2)), depths=(1, 2, 3), widths=(0.5, 1.0, 1.5), kernels=(3, 5), expansions=(1, 2, 3)
    )


def elastic_network() -> SharedNetwork:
    torch.manual_seed(0)
    network = make_supernet(small_mobilenet(), num_classes=7)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


def cut(large: Tensor, small: Tensor) -> Tensor:
    """The first channels and the middle of the kernel."""
    for axis, size in enumerate(small.shape):
        start = (large.shape[axis] - size) // 2 if axis >= 2 else 0
        large = large.narrow(axis, start, size)
    return large


def child_alone(network: SharedNetwork, row: np.ndarray) -> GraphNetwork:
    """A network of its own with the weights that the child takes from the shared one."""
    graph = network.space.graph(row, 7)
    child = GraphNetwork(graph).double().train(network.training)
    large = network.double().state_dict()
    names = [name.split(".") for name in child.state_dict()]
    state = {}
    for parts, value in zip(names, child.state_dict().values(), strict=True):
        source = list(parts)
        # Without expansion, a child has no layers where the largest block expands.
        block = child.ops[parts[1]]
        if parts[2] == "conv" and "mb" in parts[1] and len(block.conv) == 5 and len(network.ops[parts[1]].conv) == 8:
            source[3] = str(int(parts[3]) + 3)
        key = ".".join(source)
        state[".".join(parts)] = cut(large[key], value)
    child.load_state_dict(state)
    return child


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_child_computes_with_slices_of_the_largest(training):
    network = elastic_network().double().train(training)
    images = batch(4, 8, 8)
    for row in population(network.space, 12):
        expected = child_alone(copy.deepcopy(network), row)(images)
        torch.testing.assert_close(copy.deepcopy(network)(images, row), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("groups", "size"), [(1, (16, 16)), (3, (13, 9)), (2, (8, 8))], ids=str)
def test_kernels_agree_with_slices(groups, size, training):
    network = elastic_network().train(training)
    rows, images = population(network.space, groups, seed=5), batch(6, *size)
    expected = step(copy.deepcopy(network).double(), loop, images, rows)
    assert_same(step(copy.deepcopy(network).double(), forward_paths, images, rows), expected, TOLERANCE[torch.float64])
    assert_same(step(network, forward_paths, images.float(), rows), expected, TOLERANCE[torch.float32])


def test_the_largest_and_the_smallest_child():
    network = elastic_network().double().train()
    images, sizes = batch(4, 8, 8), network.space.sizes
    for row in (np.zeros_like(sizes), sizes - 1):
        expected = step(network, loop, images, row[None])
        assert_same(step(network, forward_paths, images, row[None]), expected, 1e-9)


def test_gradients_stay_in_the_part_that_a_child_uses():
    network = elastic_network().train()
    smallest = np.zeros(len(network.space.sizes), np.int64)
    forward_paths(network, batch(4, 8, 8, torch.float32), smallest).square().sum().backward()
    convolutions = [m for m in network.ops["stage1_block0/mb"].modules() if isinstance(m, nn.Conv2d)]
    depthwise = next(conv for conv in convolutions if conv.groups > 1).weight.grad
    assert depthwise is not None
    assert depthwise[:8, :, 1:4, 1:4].abs().max() > 0
    assert depthwise[8:].abs().max() == 0
    assert depthwise[:, :, 0].abs().max() == 0
    assert "stage1_block1/mb" in network.ops
    assert all(parameter.grad is None for parameter in network.ops["stage1_block1/mb"].parameters())


def test_every_child_of_the_published_space_is_a_part():
    network = make_supernet(MobileNetSpace())
    assert isinstance(network, ElasticNetwork)
    for row in population(network.space, 100):
        for node in network.space.graph(row).nodes:
            if node.weights:
                assert network.key_of(node) in network.ops


def test_other_spaces_have_weights_for_each_operation():
    network = make_supernet(SmallChain())
    assert type(network) is SharedNetwork
    with pytest.raises(SpaceError, match="not cut from larger ones"):
        ElasticNetwork(SmallChain())


@pytest.mark.parametrize("calibrated", [False, True], ids=["running", "calibrated"])
@pytest.mark.parametrize("size", [(16, 16), (13, 9), (8, 8)], ids=str)
def test_batched_evaluation_agrees_with_slices(size, calibrated):
    network = elastic_network().eval()
    planner = ChildPlanner(network)
    calibration = 0.7 * batch(8, *size, torch.float32) + 0.1 if calibrated else None
    for seed in (1, 2):  # parts that the first population did not have
        rows, images = population(network.space, 12, seed=seed), batch(5, *size, torch.float32)
        found = planner.plan(rows).evaluate(images, calibration=calibration)
        exact = None if calibration is None else calibration.double()
        expected = sequential(copy.deepcopy(network).double(), rows, images.double(), exact)
        for child, logits in enumerate(expected):
            assert (found.logits_of(child) - logits).abs().max() / logits.abs().max() < 1e-4
        assert found.counts.executed < found.counts.asked


def test_batched_evaluation_reads_the_weights_of_the_time():
    network = elastic_network().eval()
    rows, images = population(network.space, 4), batch(3, 8, 8, torch.float32)
    plan = ChildPlanner(network).plan(rows)
    plan.evaluate(images)
    for parameter in network.parameters():
        parameter.data = parameter.data.clone() * 1.1
    expected = sequential(network, rows, images)
    for child, logits in enumerate(expected):
        torch.testing.assert_close(plan.evaluate(images).logits_of(child), logits, rtol=1e-3, atol=1e-4)


def test_batched_parts_have_the_same_bits_in_any_company():
    network = elastic_network().eval()
    rows, images = population(network.space, 30), batch(3, 8, 8, torch.float32)
    planner = ChildPlanner(network)
    together = planner.plan(rows).evaluate(images)
    for child in (0, 7, 29):
        alone = planner.plan(rows[child : child + 1]).evaluate(images)
        assert torch.equal(alone.logits_of(0), together.logits_of(child))
    turned = planner.plan(rows[::-1].copy()).evaluate(images)
    assert torch.equal(turned.logits_of(29), together.logits_of(0))


def test_parts_of_one_depth_share_what_they_have_in_common():
    """Children that differ in the last block alone share all before it."""
    network = elastic_network().eval()
    row = network.space.sizes - 1
    rows = np.repeat(row[None], 3, 0)
    last = [decision.name for decision in network.space.decisions].index("stage1.block2.kernel")
    rows[1, last], rows[2, last + 1] = 0, 0
    counts = ChildPlanner(network).plan(rows).counts
    assert (counts.children, counts.distinct) == (3, 3)
    assert counts.asked - counts.executed == 2 * 6  # of nine operations all but the last block, features and head


def test_the_search_among_elastic_children_is_batched():
    network, images = elastic_network().eval(), batch(20, 8, 8, torch.float32)
    labels = torch.arange(20) % 7
    rows = population(network.space, 6)
    ways = {}
    for batched in (True, False):
        estimator = OneShotEstimator(network, images, labels, images[:9], batched=batched)
        ways[estimator.way.partition(":")[0]] = [estimate.score for estimate in estimator.estimate(rows)]
    assert ways.keys() == {"batched", "one child after the other"}
    assert ways["batched"] == ways["one child after the other"]


def test_a_depthwise_kernel_of_one_pixel_is_named():
    space = MobileNetSpace(stages=((16, 1),), depths=(1,), widths=(1.0,), kernels=(1, 3), expansions=(2,))
    planner = ChildPlanner(make_supernet(space).eval())
    planner.plan(space.sizes[None] - 1)
    with pytest.raises(NoKernelError, match=r"stage0_block0/mb: .* no kernel for a depthwise kernel of 1"):
        planner.plan(np.zeros((1, len(space.sizes)), np.int64))


def test_a_child_of_another_space_is_refused():
    network = elastic_network()
    node = next(n for n in MobileNetSpace().graph(MobileNetSpace().sizes - 1).nodes if n.weights == "stage1.block0/mb")
    with pytest.raises(SpaceError, match="a child of another space"):
        network.key_of(node)


def test_an_operation_that_cannot_be_cut_is_refused():
    class Pools(Space):
        operations: ClassVar = {"pool": max_pool_3x3, "head": Classifier}
        elastic = True

        def __init__(self) -> None:
            super().__init__("pools", {"skip": (0, 1)})

        def wire(self, choices: Choices, net: Builder) -> int:
            return net.op("head", net.op("pool", net.input, at="pool"), net.num_classes, at="head")

    with pytest.raises(SpaceError, match="pool/pool cannot be cut: MaxPool2d has no elastic form"):
        make_supernet(Pools())
