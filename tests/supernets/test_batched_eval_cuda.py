"""Batched child evaluation by the CUDA kernels, under the harness and on a GPU."""

from __future__ import annotations

import copy
import re
from collections import Counter
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nasfast.errors import NasfastError
from nasfast.spaces.base import Rows, Space
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.supernets.batched_eval import ChildPlanner, ChildResults, evaluate_children
from nasfast.supernets.shared import SharedNetwork
from tests.conftest import Device
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
from tests.supernets.test_elastic import elastic_network

SPACES = {"chain": SmallChain, "nasbench201": small_nasbench201, "branches": Branches, "own": OwnLayers}
DEVICES = pytest.mark.parametrize("device", ["simt", "cuda"], indirect=True)
SIMT = Device("simt", "cpu")
TOLERANCE = 1e-4


def population(space: Space, count: int, seed: int = 0) -> Rows:
    return space.sample(np.random.default_rng(seed), count)


def images(count: int, height: int, width: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def error(got: Tensor, expected: Tensor) -> float:
    return float((got.cpu() - expected).abs().max() / expected.abs().max())


def evaluate(device: Device, network: SharedNetwork, rows: Any, x: Tensor, **options: Any) -> ChildResults:
    own = copy.deepcopy(network).to(device.torch)
    if options.get("calibration") is not None:
        options["calibration"] = options["calibration"].to(device.torch)
    return evaluate_children(own, rows, x.to(device.torch), **options)


def logits(*arguments: Any, **options: Any) -> Tensor:
    results = evaluate(*arguments, **options)
    return results.logits[results.index].cpu()


def exact(network: SharedNetwork, rows: Any, x: Tensor, calibration: Tensor | None = None) -> Tensor:
    """The loop over children in float64."""
    calibration = None if calibration is None else calibration.double()
    return sequential(copy.deepcopy(network).double(), rows, x.double(), calibration)


@DEVICES
@pytest.mark.parametrize("calibrated", [False, True], ids=["running", "calibrated"])
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (3, 10)], ids=str)
@pytest.mark.parametrize("name", SPACES)
def test_agrees_with_the_loop_in_float64(name: str, size: tuple[int, int], calibrated: bool, device: Device) -> None:
    network = shared_network(SPACES[name]())
    rows, x = population(network.space, 5), images(3, *size)
    calibration = images(6, *size, seed=2) if calibrated else None
    found = logits(device, network, rows, x, calibration=calibration)
    assert found.dtype == torch.float32
    assert error(found, exact(network, rows, x, calibration)) < TOLERANCE


@DEVICES
@pytest.mark.parametrize("calibrated", [False, True], ids=["running", "calibrated"])
@pytest.mark.parametrize("size", [(8, 8), (4, 12)], ids=str)
def test_factorized_reductions_agree_with_the_loop(size: tuple[int, int], calibrated: bool, device: Device) -> None:
    network = shared_network(Reductions())
    rows, x = network.space.all_rows(), images(3, *size)
    calibration = images(6, *size, seed=2) if calibrated else None
    found = logits(device, network, rows, x, calibration=calibration)
    assert error(found, exact(network, rows, x, calibration)) < TOLERANCE


@DEVICES
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.06), (torch.float16, 0.01)], ids=str)
def test_factorized_reductions_of_16_bits(dtype: torch.dtype, tolerance: float, device: Device) -> None:
    network = shared_network(Reductions())
    rows, x, calibration = network.space.all_rows(), images(2, 8, 4).to(dtype), images(6, 8, 4, seed=2).to(dtype)
    found = logits(device, network, rows, x, calibration=calibration)
    assert error(found, exact(network, rows, x.float(), calibration.float())) < tolerance


@DEVICES
@pytest.mark.parametrize("calibrated", [False, True], ids=["running", "calibrated"])
def test_parts_of_larger_weights_agree_with_the_loop(calibrated: bool, device: Device) -> None:
    network = elastic_network().eval()
    rows, x = population(network.space, 4), images(2, 8, 6)
    calibration = images(5, 8, 6, seed=2) if calibrated else None
    found = logits(device, network, rows, x, calibration=calibration)
    assert error(found, exact(network, rows, x, calibration)) < TOLERANCE


@DEVICES
@pytest.mark.parametrize("name", CELL_SPACES)
def test_cell_spaces_agree_with_the_loop(name: str, device: Device) -> None:
    network = shared_network(cell_space(name))
    rows, x, calibration = population(network.space, 2), images(1, 8, 8), images(3, 8, 8, seed=2)
    found = logits(device, network, rows, x, calibration=calibration)
    assert error(found, exact(network, rows, x, calibration)) < TOLERANCE


@DEVICES
def test_factorized_reductions_of_odd_images_are_refused(device: Device) -> None:
    network = shared_network(Reductions())
    with pytest.raises(NasfastError, match="must read an even height and width, got 4x5"):
        evaluate(device, network, [[0, 0]], images(1, 8, 10))


KINDS = ("child_images", "child_conv", "child_conv", "child_conv", "child_depthwise", "child_map", "child_head")
"""Launches that one level can take; convolutions have three widths."""


def depth(network: SharedNetwork, row: Any) -> int:
    """Levels of one child: images, and every convolution, pool, normalisation, sum or classifier after another."""
    graph = network.space.graph(row, network.num_classes)
    levels = [0] * len(graph.nodes)
    for number, node in enumerate(graph.nodes):
        layers = 1
        if node.op is not None and (node.op.is_identity or node.op.is_zero):
            layers = 0
        elif node.weights:
            kinds = (nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d, nn.BatchNorm2d, nn.Linear)
            module = network.ops[network.key_of(node)]
            layers = 1 + sum(isinstance(layer, kinds) for layer in module.modules())
        levels[number] = layers + max((levels[source] for source in node.inputs), default=0)
    return levels[-1]


@pytest.mark.parametrize("calibrated", [False, True], ids=["running", "calibrated"])
@pytest.mark.parametrize("name", ["chain", "nasbench201"])
def test_launches_grow_with_the_depth_and_not_with_the_population(
    name: str, calibrated: bool, simt: ModuleType
) -> None:
    network = shared_network(SPACES[name]())
    rows, x = population(network.space, 48), images(1, 4, 4)
    phases = 2 if calibrated else 1
    launches, operations = [], []
    for count in (12, 48):
        simt.reset()
        found = evaluate(SIMT, network, rows[:count], x, calibration=images(2, 4, 4) if calibrated else None)
        launches.append(len(simt.launches()))
        operations.append(found.counts.executed)
        assert launches[-1] <= phases * len(KINDS) * max(depth(network, row) for row in rows[:count])
    assert operations[1] > 3 * operations[0]
    assert launches[1] < 1.2 * launches[0]  # a few levels have a kind of task that they had not before
    assert {launch["name"] for launch in simt.launches()} <= {*KINDS, "child_pack", "memset"}


def test_a_level_is_one_launch_of_a_kind(simt: ModuleType) -> None:
    """Children of a chain that differ in every layer, but not in their depth."""
    network = shared_network(SmallChain())
    rows = [[2 + (number >> layer) % 2 for layer in range(4)] for number in range(16)]
    names = []
    for count in (1, 16):
        simt.reset()
        evaluate(SIMT, network, rows[:count], images(1, 8, 8))
        names.append(Counter(launch["name"] for launch in simt.launches()))
    one, all_children = names
    assert one == {"child_pack": 1, "child_images": 1, "child_conv": 10, "child_depthwise": 4, "child_head": 1}
    # Narrow expansions of a level are apart from wide ones, as their blocks are.
    assert one["child_conv"] <= all_children.pop("child_conv") <= 14
    assert all_children == {name: count for name, count in one.items() if name != "child_conv"}


def test_values_are_read_and_written_once(simt: ModuleType) -> None:
    """A layer reads its input, its weights and their scale and shift, and writes its output; images are packed once."""
    network = shared_network(small_nasbench201())
    row = network.space.encode("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|skip_connect~2|")
    evaluate(SIMT, network, row, images(2, 16, 16))
    launches = [launch for launch in simt.launches() if launch["name"] == "child_conv"][:3]
    pixel, pixels, numbers = 8 * 4, 2 * 16 * 16, 2 * 8 * 4  # six channels fill two packs of four
    assert [launch["unique_written"] for launch in launches] == [pixels * pixel] * 3
    stem, three, one = (launch["unique_read"] for launch in launches)
    assert stem == pixels * 4 * 4 + 9 * 4 * pixel + numbers
    assert three == pixels * pixel + 9 * 8 * pixel + numbers
    assert one == pixels * pixel + 8 * pixel + numbers


@pytest.mark.parametrize("calibrated", [False, True], ids=["running", "calibrated"])
@pytest.mark.parametrize("name", SPACES)
def test_the_order_of_blocks_and_threads_changes_no_bit(name: str, calibrated: bool, simt: ModuleType) -> None:
    network = shared_network(SPACES[name]())
    rows, x = population(network.space, 4), images(2, 6, 7)
    results = []
    for seed in range(3):
        simt.seed(seed)
        results.append(logits(SIMT, network, rows, x, calibration=images(5, 6, 7) if calibrated else None))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def least_bound(device: Device, network: SharedNetwork, rows: Any, x: Tensor, calibration: Tensor | None) -> int:
    """The smallest bound that is not refused, as the refusals tell it."""
    bound = 1
    while True:
        try:
            evaluate(device, network, rows, x, calibration=calibration, memory_bound=bound)
        except NasfastError as refused:
            found = re.search(r"needs at least (\d+) bytes, got", str(refused))
            assert found is not None
            assert int(found[1]) > bound
            bound = int(found[1])
        else:
            return bound


@DEVICES
@pytest.mark.parametrize("calibrated", [False, True], ids=["running", "calibrated"])
@pytest.mark.parametrize("name", ["nasbench201", "chain"])
def test_bits_do_not_depend_on_order_population_or_bound(name: str, calibrated: bool, device: Device) -> None:
    network = shared_network(SPACES[name]())
    rows, x = population(network.space, 4), images(3, 3, 4)
    calibration = images(4, 3, 4, seed=3) if calibrated else None
    expected = logits(device, network, rows, x, calibration=calibration)
    order = np.random.default_rng(5).permutation(len(rows))
    assert torch.equal(logits(device, network, rows[order], x, calibration=calibration), expected[order])
    assert torch.equal(logits(device, network, rows[2:3], x, calibration=calibration), expected[2:3])
    assert torch.equal(logits(device, network, rows, x[:2], calibration=calibration), expected[:, :2])
    free = evaluate(device, network, rows, x, calibration=calibration).usage
    assert free.parts == 1
    assert free.computed_again == 0
    bound = least_bound(device, network, rows, x, calibration)
    assert bound < free.peak_bytes
    tight = evaluate(device, network, rows, x, calibration=calibration, memory_bound=bound)
    assert tight.usage.peak_bytes <= bound
    assert tight.usage.parts > 1
    assert calibrated or tight.usage.slice_images == 1  # a calibration takes all images at once
    assert torch.equal(tight.logits[tight.index].cpu(), expected)


@DEVICES
def test_a_population_that_does_not_fit_is_divided_and_shares_less(device: Device) -> None:
    network = shared_network(small_nasbench201())
    rows, x = population(network.space, 12), images(2, 4, 4)
    free = evaluate(device, network, rows, x)
    bound = free.usage.peak_bytes // 8
    tight = evaluate(device, network, rows, x, memory_bound=bound)
    assert tight.usage.parts > 1
    assert tight.usage.computed_again > 0
    assert tight.usage.peak_bytes <= bound
    assert torch.equal(tight.logits, free.logits)


@DEVICES
def test_a_bound_too_small_for_one_child_is_refused(device: Device) -> None:
    network, x = shared_network(SmallChain()), images(2, 4, 4)
    with pytest.raises(
        NasfastError, match=r"too small for one child: its evaluation needs at least [0-9]+ bytes, got 100$"
    ):
        evaluate(device, network, [[1, 1, 1, 1]], x, memory_bound=100)
    with pytest.raises(NasfastError, match="its calibration needs at least"):
        evaluate(device, network, [[1, 1, 1, 1]], x, calibration=x, memory_bound=100)


@DEVICES
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.06), (torch.float16, 0.01)], ids=str)
@pytest.mark.parametrize("calibrated", [False, True], ids=["running", "calibrated"])
@pytest.mark.parametrize("name", SPACES)
def test_values_of_16_bits(name: str, calibrated: bool, dtype: torch.dtype, tolerance: float, device: Device) -> None:
    network = shared_network(SPACES[name]())
    rows, x = population(network.space, 4), images(2, 6, 7).to(dtype)
    calibration = images(8, 6, 7, seed=2).to(dtype) if calibrated else None
    found = logits(device, network, rows, x, calibration=calibration)
    assert found.dtype == torch.float32
    expected = exact(network, rows, x.float(), None if calibration is None else calibration.float())
    assert error(found, expected) < tolerance


@DEVICES
def test_wide_layers_take_several_blocks_of_channels(device: Device) -> None:
    network = shared_network(NASBench201(channels=21, cells=1))  # to 84 channels
    rows = [network.space.encode("|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|")]
    x, calibration = images(2, 5, 5), images(4, 5, 5, seed=2)
    found = logits(device, network, rows, x, calibration=calibration)
    assert error(found, exact(network, rows, x, calibration)) < TOLERANCE


@DEVICES
def test_statistics_of_many_pixels_far_from_zero(device: Device) -> None:
    """Several runs of several tiles, and a mean that is large beside the spread."""
    network = shared_network(small_nasbench201())
    rows = [network.space.encode("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|")]
    x, calibration = images(2, 16, 16), images(70, 16, 16, seed=2) + 30
    found = logits(device, network, rows, x, calibration=calibration)
    assert error(found, exact(network, rows, x, calibration)) < TOLERANCE


@DEVICES
def test_channels_last_and_strided_images(device: Device) -> None:
    network = shared_network(SmallChain())
    rows, x = population(network.space, 2), images(3, 6, 6)
    expected = logits(device, network, rows, x)
    assert torch.equal(logits(device, network, rows, x.contiguous(memory_format=torch.channels_last)), expected)
    wide = torch.randn(3, 3, 6, 12)
    wide[..., ::2] = x
    assert torch.equal(logits(device, network, rows, wide[..., ::2]), expected)


@DEVICES
def test_nan_stays_in_its_image(device: Device) -> None:
    network, x = shared_network(SmallChain()), images(2, 8, 8)
    x[1, 0, 3, 3] = float("nan")
    found = logits(device, network, [[1, 2, 3, 0]], x)[0]
    assert torch.isfinite(found[0]).all()
    assert torch.isnan(found[1]).all()


@DEVICES
@pytest.mark.parametrize(
    ("x", "calibration", "message"),
    [
        (torch.zeros(2, 4, 8, 8), None, r"images must be \[N, 3, H, W\]"),
        (torch.zeros(0, 3, 8, 8), None, "not empty"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.float64), None, "images must be a dense float32, bfloat16 or float16"),
        (torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8).half(), "calibration must be of the images' dtype, Float"),
        (torch.zeros(2, 3, 2, 2), torch.zeros(1, 3, 2, 2), "calibration needs more than one value per channel"),
    ],
    ids=["channels", "empty", "float64", "calibration", "single values"],
)
def test_wrong_images_are_refused(x: Tensor, calibration: Tensor | None, message: str, device: Device) -> None:
    with pytest.raises(NasfastError, match=message):
        evaluate(device, shared_network(SmallChain()), [[1, 1, 1, 1]], x, calibration=calibration)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_network_on_another_device_is_refused() -> None:
    with pytest.raises(NasfastError, match=r"weights must be float32 on cuda:0, tensor 0 .* on cpu"):
        evaluate_children(shared_network(SmallChain()), [[1, 1, 1, 1]], images(2, 8, 8).cuda())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_nothing_waits_for_the_device() -> None:
    network = shared_network(SmallChain()).cuda()
    plan, x = ChildPlanner(network).plan(population(network.space, 6)), images(4, 8, 8).cuda()
    expected = plan.evaluate(x, calibration=x).logits
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = plan.evaluate(x, calibration=x).logits
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found, expected)


def test_the_kernels_give_what_the_cpu_gives(simt_module: ModuleType) -> None:
    network = shared_network(small_nasbench201())
    rows, x, calibration = population(network.space, 10), images(2, 8, 8), images(6, 8, 8, seed=2)
    expected = logits(SIMT, network, rows, x, calibration=calibration)
    simt_module.reset()
    simt_module.enable()
    found = logits(SIMT, network, rows, x, calibration=calibration)
    simt_module.disable()
    assert len(simt_module.launches()) > 0
    assert error(found, expected) < TOLERANCE
