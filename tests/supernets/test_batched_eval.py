"""Batched child evaluation against the loop over children in plain PyTorch."""

from __future__ import annotations

from dataclasses import fields
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from nasfast import _C
from nasfast.errors import NasfastError, SpaceError
from nasfast.spaces.base import Choices, Space
from nasfast.spaces.graph import Builder
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.spaces.nasbench_macro import NASBenchMacro
from nasfast.spaces.operations import Classifier, conv_bn
from nasfast.supernets.batched_eval import ChildPlanner, Usage, evaluate_children
from nasfast.supernets.lowering import NoKernelError
from nasfast.supernets.shared import SharedNetwork
from tests.helpers.child_eval_cases import (
    CELL_SPACES,
    Branches,
    OwnLayers,
    Reductions,
    SmallChain,
    cell_space,
    sequential,
    shared_network,
    small_nasbench201,
)

SPACES = {"chain": SmallChain, "nasbench201": small_nasbench201, "branches": Branches, "own": OwnLayers}
TOLERANCE = 1e-4


def population(space: Space, count: int, seed: int = 0) -> np.ndarray:
    return space.sample(np.random.default_rng(seed), count)


def images(count: int, height: int, width: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("size", [(16, 16), (13, 9), (5, 18)])
@pytest.mark.parametrize("name", SPACES)
def test_agrees_with_the_loop(name, size, isa):
    network = shared_network(SPACES[name]())
    rows, x = population(network.space, 12), images(3, *size)
    results = evaluate_children(network, rows, x)
    expected = sequential(network, rows, x)
    assert error(results.logits[results.index], expected) < TOLERANCE


@pytest.mark.parametrize("size", [(16, 16), (13, 9)])
@pytest.mark.parametrize("name", SPACES)
def test_calibration_agrees_with_the_loop(name, size, isa):
    network = shared_network(SPACES[name]())
    rows, x, calibration = population(network.space, 8), images(3, *size), images(19, *size, seed=2)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    results = evaluate_children(network, rows, x, calibration=calibration)
    expected = sequential(network, rows, x, calibration)
    assert error(results.logits[results.index], expected) < TOLERANCE
    assert error(evaluate_children(network, rows, x).logits, results.logits) > 0.01  # statistics matter
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_factorized_reductions_agree_with_the_loop(size, calibrated, isa):
    network = shared_network(Reductions())
    rows, x = network.space.all_rows(), images(3, *size)
    calibration = images(19, *size, seed=2) if calibrated else None
    results = evaluate_children(network, rows, x, calibration=calibration)
    expected = sequential(network, rows, x, calibration)
    assert error(results.logits[results.index], expected) < TOLERANCE


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("name", CELL_SPACES)
def test_cell_spaces_agree_with_the_loop(name, calibrated):
    network = shared_network(cell_space(name))
    rows, x = population(network.space, 6), images(3, 16, 16)
    calibration = images(11, 16, 16, seed=2) if calibrated else None
    results = evaluate_children(network, rows, x, calibration=calibration)
    expected = sequential(network, rows, x, calibration)
    assert error(results.logits[results.index], expected) < TOLERANCE
    assert results.counts.executed < results.counts.asked


@pytest.mark.parametrize("name", CELL_SPACES)
def test_bits_of_cell_spaces_do_not_depend_on_the_population(name, threads):
    network = shared_network(cell_space(name))
    rows, x = population(network.space, 5), images(3, 8, 8)
    threads(1)
    expected = evaluate_children(network, rows, x)
    threads(2)
    for k, row in enumerate(rows):
        assert torch.equal(evaluate_children(network, row, x).logits[0], expected.logits_of(k))


@pytest.mark.parametrize("calibrated", [False, True])
def test_factorized_reductions_of_odd_images_are_refused(calibrated):
    network = shared_network(Reductions())
    even, odd = images(2, 8, 8), images(2, 8, 10)
    with pytest.raises(NasfastError, match="must read an even height and width, got 4x5"):
        evaluate_children(network, [[0, 0]], even if calibrated else odd, calibration=odd if calibrated else None)


def test_macro_space_agrees_with_the_loop():
    network = shared_network(NASBenchMacro())
    rows, x = population(network.space, 3), images(2, 32, 32)
    results = evaluate_children(network, rows, x)
    assert error(results.logits[results.index], sequential(network, rows, x)) < TOLERANCE


def test_channels_last_and_strided_images():
    network = shared_network(SmallChain())
    rows, x = population(network.space, 3), images(4, 12, 12)
    expected = evaluate_children(network, rows, x).logits
    assert torch.equal(
        evaluate_children(network, rows, x.contiguous(memory_format=torch.channels_last)).logits, expected
    )
    wide = torch.randn(4, 3, 12, 24)
    wide[..., ::2] = x
    assert torch.equal(evaluate_children(network, rows, wide[..., ::2]).logits, expected)


def test_equal_functions_are_one_child():
    space = small_nasbench201()
    plan = ChildPlanner(shared_network(space)).plan
    none = [0] * 6
    skips = space.encode("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|")
    same = space.encode("|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|none~0|skip_connect~1|none~2|")
    assert plan([skips, same]).counts.distinct == 1
    assert plan([none, same]).counts.distinct == 2
    # An operation that does not reach the output, and pools of zero.
    dead = space.encode("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|avg_pool_3x3~2|")
    assert plan([none, dead]).counts.distinct == 1
    assert plan([none, dead]).counts.executed == plan([none]).counts.executed


def test_convolution_of_zero_is_computed():
    space = small_nasbench201()
    network = shared_network(space)
    row = space.encode("|none~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|nor_conv_3x3~2|")
    x = images(2, 8, 8)
    assert error(evaluate_children(network, row, x).logits, sequential(network, row, x)) < TOLERANCE


def test_shared_prefixes_are_computed_once():
    network = shared_network(SmallChain())
    rows = np.array([[1, 1, 1, 1], [1, 1, 1, 2], [1, 1, 1, 3], [1, 1, 1, 1]])
    counts = ChildPlanner(network).plan(rows).counts
    assert (counts.children, counts.distinct) == (4, 3)
    assert counts.asked == 4 * 7  # stem, four layers, features, head
    assert counts.executed == 4 + 3 * 3


def test_places_and_graphs_give_the_same_plan():
    network = shared_network(small_nasbench201())
    rows, x = population(network.space, 10), images(2, 8, 8)
    by_rows = ChildPlanner(network).plan(rows)
    places, network.places = network.places, None
    by_graphs = ChildPlanner(network).plan(rows)
    network.places = places
    assert by_rows.counts == by_graphs.counts
    first, second = by_rows.evaluate(x), by_graphs.evaluate(x)
    assert torch.equal(first.logits[first.index], second.logits[second.index])


def test_repeated_cells_give_the_plan_of_whole_graphs():
    """Cells after the first are copied where children are wired by rows, and merged node by node as graphs."""
    network = shared_network(NASBench201(channels=3, cells=3))
    skips = network.space.encode("|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|none~1|none~2|")
    constant = network.space.encode("|none~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|")
    zero = [0] * 6
    rows, x = np.stack([skips, constant, zero, *population(network.space, 150)]), images(1, 4, 4)
    by_rows = ChildPlanner(network).plan(rows)
    network.places = None
    by_graphs = ChildPlanner(network).plan(rows)
    assert by_rows.counts == by_graphs.counts
    assert by_rows.counts.merged > 0.25
    first, second = by_rows.evaluate(x), by_graphs.evaluate(x)
    assert torch.equal(first.logits[first.index], second.logits[second.index])
    expected = sequential(network, rows[:8], x)
    assert error(first.logits[first.index[:8]], expected) < TOLERANCE


def test_all_cells_of_nasbench201_merge():
    space = NASBench201(channels=3, cells=2)
    counts = ChildPlanner(SharedNetwork(space)).plan(space.all_rows()).counts
    assert (counts.children, counts.distinct, counts.asked, counts.executed) == (15625, 9994, 400_000, 221_890)


def test_inputs_of_cells_stay_whole_in_sums():
    """What earlier cells have added is not added again in every cell, nor doubled where a cell adds its input twice."""
    space = NASBench201(channels=3, cells=5)
    row = space.encode(
        "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|nor_conv_1x1~2|"
    )
    nodes = ChildPlanner(SharedNetwork(space)).plan(row).merged.tables()[0]
    sums = nodes[nodes[:, 0] == 2]
    assert int(sums[:, 4].max()) == 3


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("calibrated", [False, True])
def test_bits_do_not_depend_on_threads_order_population_or_bound(name, calibrated, threads):
    network = shared_network(SPACES[name]())
    rows, x = population(network.space, 9), images(21, 8, 8)
    calibration = images(20, 8, 8, seed=3) if calibrated else None

    def logits(rows, **options):
        results = evaluate_children(network, rows, x, calibration=calibration, **options)
        return results.logits[results.index]

    threads(1)
    expected = logits(rows)
    order = np.random.default_rng(5).permutation(len(rows))
    assert torch.equal(logits(rows[order]), expected[order])
    assert torch.equal(logits(rows[4:5]), expected[4:5])
    threads(2)
    assert torch.equal(logits(rows), expected)
    assert torch.equal(logits(rows, memory_bound=_smallest_bound(network, rows, x, calibration)), expected)


def _smallest_bound(network, rows, x, calibration) -> int:
    """A bound near the least that is enough."""
    plan, bound = ChildPlanner(network).plan(rows), 1 << 26
    while True:
        try:
            plan.evaluate(x, calibration=calibration, memory_bound=bound * 9 // 10)
        except NasfastError:
            return bound
        bound = bound * 9 // 10


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("calibrated", [False, True])
def test_memory_stays_within_the_bound(name, calibrated):
    network = shared_network(SPACES[name]())
    rows, x = population(network.space, 40), images(8, 8, 8)
    calibration = images(16, 8, 8, seed=3) if calibrated else None
    plan = ChildPlanner(network).plan(rows)
    free = plan.evaluate(x, calibration=calibration)
    least = _smallest_bound(network, rows, x, calibration)
    tight = plan.evaluate(x, calibration=calibration, memory_bound=least)
    assert 0 < tight.usage.peak_bytes <= least < free.usage.peak_bytes
    assert torch.equal(tight.logits, free.logits)


def test_results_that_do_not_fit_are_computed_again():
    network = shared_network(small_nasbench201())
    rows, x = population(network.space, 40), images(1, 8, 8)
    bound = _smallest_bound(network, rows, x, None)
    results = ChildPlanner(network).plan(rows).evaluate(x, memory_bound=bound)
    assert results.usage.computed_again > 0
    assert error(results.logits[results.index], sequential(network, rows, x)) < TOLERANCE


def test_accuracy_counts_right_answers():
    network = shared_network(SmallChain())
    rows, x = population(network.space, 5), images(30, 8, 8)
    labels = torch.arange(30) % 7
    results = evaluate_children(network, rows, x)
    expected = (sequential(network, rows, x).argmax(-1) == labels).double().mean(-1)
    assert torch.equal(results.accuracy(labels), expected)
    assert torch.equal(results.logits_of(2), results.logits[results.index[2]])
    with pytest.raises(NasfastError, match=r"labels must be \[30\]"):
        results.accuracy(labels[:3])


def test_nan_reaches_the_logits():
    network = shared_network(SmallChain())
    x = images(2, 8, 8)
    x[1, 0, 3, 3] = float("nan")
    logits = evaluate_children(network, [[1, 2, 3, 0]], x).logits[0]
    assert torch.isfinite(logits[0]).all()
    assert torch.isnan(logits[1]).all()


def test_trained_weights_are_seen_by_a_plan():
    network = shared_network(SmallChain())
    plan, x = ChildPlanner(network).plan([[1, 2, 3, 0]]), images(2, 8, 8)
    before = plan.evaluate(x).logits
    with torch.no_grad():
        next(module for module in network.modules() if isinstance(module, nn.Linear)).weight.mul_(2)
    assert not torch.equal(plan.evaluate(x).logits, before)
    assert error(plan.evaluate(x).logits, sequential(network, [[1, 2, 3, 0]], x)) < TOLERANCE


def test_a_shared_network_trains():
    network = shared_network(SmallChain()).train()
    network(images(4, 8, 8), [1, 2, 3, 0]).sum().backward()
    touched = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert any("layer1_mb3" in name for name in touched)
    assert not any("layer1_mb1" in name for name in touched)


@pytest.mark.parametrize("calibrated", [False, True], ids=["running", "calibrated"])
def test_the_op_has_all_its_parts(calibrated):
    plan = ChildPlanner(shared_network(SmallChain())).plan([[0, 1, 2, 3], [0, 1, 2, 0]])
    arguments = (images(3, 8, 8), images(4, 8, 8) if calibrated else None, *plan.arguments(), 1 << 30)
    torch.library.opcheck(torch.ops.nasfast.child_eval.default, arguments)
    usage = torch.ops.nasfast.child_eval(*arguments)[1]
    assert usage.numel() == len(fields(Usage))
    assert "Args:" in evaluate_children.__doc__
    assert "Equivalent to" in evaluate_children.__doc__


# bad input


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0, 0, 0, 4]], "layer3 must be 0 to 3, got 4"),
        ([[0, -1, 0, 0]], "layer1 must be 0 to 3, got -1"),
        ([[0, 0, 0]], "a row of 4 integers"),
        ([[0.5, 0, 0, 0]], "a row of 4 integers"),
        (np.empty((0, 4), np.int64), "at least one child, got none"),
    ],
)
def test_wrong_rows_are_refused(rows, message):
    with pytest.raises(SpaceError, match=message):
        evaluate_children(shared_network(SmallChain()), rows, images(1, 8, 8))


def test_a_bound_too_small_for_one_child_is_refused():
    network = shared_network(SmallChain())
    x = images(2, 8, 8)
    with pytest.raises(
        NasfastError, match=r"too small for one child: its evaluation needs at least [0-9]+ bytes, got 100$"
    ):
        evaluate_children(network, [[1, 1, 1, 1]], x, memory_bound=100)
    with pytest.raises(NasfastError, match="its calibration needs at least"):
        evaluate_children(network, [[1, 1, 1, 1]], x, calibration=x, memory_bound=100)
    with pytest.raises(NasfastError, match="memory_bound must be above 0"):
        evaluate_children(network, [[1, 1, 1, 1]], x, memory_bound=0)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 4, 8, 8), r"images must be \[N, 3, H, W\]"),
        (torch.zeros(0, 3, 8, 8), "not empty"),
        (torch.zeros(2, 3, 8), r"images must be \[N, 3, H, W\]"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.float64), "float32"),
    ],
)
def test_wrong_images_are_refused(x, message):
    with pytest.raises(NasfastError, match=message):
        evaluate_children(shared_network(SmallChain()), [[1, 1, 1, 1]], x)


def test_calibration_of_single_values_is_refused():
    network = shared_network(SmallChain())
    with pytest.raises(NasfastError, match="more than one value per channel"):
        evaluate_children(network, [[1, 1, 1, 1]], images(1, 2, 2), calibration=images(1, 2, 2))


def test_a_layer_without_kernel_is_refused():
    class Odd(Space):
        operations: ClassVar = {
            "odd": lambda c_in, c_out, stride: nn.Conv2d(c_in, c_out, 4, padding=2),
            "conv": conv_bn,
            "head": Classifier,
        }

        def __init__(self) -> None:
            super().__init__("odd", {"op": ("conv", "odd")})

        def wire(self, choices: Choices, net: Builder) -> int:
            return net.op("head", net.op(choices["op"], net.input, 8, at="op"), net.num_classes, at="head")

    network = SharedNetwork(Odd())
    with pytest.raises(NoKernelError, match="no kernel for Conv2d"):
        evaluate_children(network, [[1]], images(1, 8, 8))


def test_hooks_and_batch_norms_without_statistics_are_refused():
    network = shared_network(SmallChain())
    handle = next(iter(network.ops.values())).register_forward_hook(print)
    with pytest.raises(NoKernelError, match="no kernel for hooks"):
        ChildPlanner(network)
    handle.remove()
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    norm.running_mean = norm.running_var = None
    with pytest.raises(NoKernelError, match="a BatchNorm without running statistics"):
        ChildPlanner(network)


def test_a_wrong_claim_of_fixed_wiring_is_refused():
    class Claims(Branches):
        fixed_wiring = True

    with pytest.raises(SpaceError, match="not wired alike"):
        SharedNetwork(Claims())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": (0, 0, 7)}, "node 0 of the plan must be of kind 0 to 4"),
        ({"nodes": (1, 3, 99)}, "node 1 of the plan must be a known operation"),
        ({"nodes": (1, 2, 5)}, "node 1 of the plan must be an operation of its channels"),
        ({"nodes": (1, 1, 2)}, "node 1 of the plan must be of the size that its operation gives"),
        ({"inputs": (0, 3)}, "node 1 of the plan must read earlier nodes"),
        ({"outputs": (0, 99)}, r"outputs\[0\] must be 0 to"),
        ({"outputs": (0, 1)}, "the output of child 0 must be a classifier"),
        ({"classes": 3}, "classes must be the 7 of the classifiers, got 3"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_plans_that_make_no_sense_are_refused(change, message):
    plan = ChildPlanner(shared_network(SmallChain())).plan([[0, 1, 2, 3]])
    names = ("tensors", "eps", "primitives", "macros", "nodes", "inputs", "outputs", "classes")
    arguments = dict(zip(names, plan.arguments(), strict=True))
    for name, place in change.items():
        if name == "classes":
            arguments[name] = place
        else:
            arguments[name] = arguments[name].clone()
            arguments[name][place[:-1]] = place[-1]
    with pytest.raises(RuntimeError, match=message):
        torch.ops.nasfast.child_eval(images(1, 8, 8), None, *arguments.values(), 1 << 30)


def test_tables_from_elsewhere_are_refused():
    network = shared_network(SmallChain())
    planner = ChildPlanner(network)
    tables, template = planner.tables(), planner.template()
    sizes = torch.from_numpy(network.space.sizes)
    make = _C.ChildPopulation.from_rows
    rows = torch.tensor([[0, 0, 0, 9]])
    with pytest.raises(ValueError, match=r"rows\[0\]\[3\] must be 0 to 3, got 9"):
        make(*tables, 3, *template, sizes, rows)
    with pytest.raises(RuntimeError, match="at least one child"):
        make(*tables, 3, *template, sizes, rows[:0])
    with pytest.raises(ValueError, match="a child of another space"):
        make(*tables, 4, *template, sizes, torch.zeros(1, 4, dtype=torch.int64))
