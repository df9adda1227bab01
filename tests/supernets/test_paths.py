"""Paths through a shared network on the supernet kernels, against the network in plain PyTorch, path by path."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from nasfast.errors import NasfastError, SpaceError
from nasfast.spaces.base import Space
from nasfast.spaces.cells import darts, enas_micro
from nasfast.spaces.enas_macro import enas_macro
from nasfast.supernets.paths import forward_paths
from nasfast.supernets.shared import SharedNetwork
from tests.helpers.child_eval_cases import Branches, OwnLayers, SmallChain, shared_network, small_nasbench201

SPACES = {"chain": SmallChain, "nasbench201": small_nasbench201, "branches": Branches, "own": OwnLayers}
# Of the largest value of the float64 reference.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}


def population(space: Space, count: int, seed: int = 3) -> np.ndarray:
    return space.sample(np.random.default_rng(seed), count)


def batch(count: int, height: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1)).to(dtype)


def loop(network: SharedNetwork, images: Tensor, rows: np.ndarray) -> Tensor:
    return torch.cat([network(group, row) for group, row in zip(images.chunk(len(rows)), rows, strict=True)])


def per_operation_loop(network: SharedNetwork, images: Tensor, rows: np.ndarray) -> Tensor:
    """Place by place: the images that chose an operation go through it together."""
    assert network.places is not None
    values: list[Tensor] = []
    for place in network.places:
        first = place.nodes[0]
        read = [values[i] for i in first.inputs]
        if first.kind == "input":
            values.append(images)
        elif first.kind == "sum":
            values.append(sum(read[1:], read[0]))
        elif place.decision < 0:
            values.append(network.compute(first, read[0]))
        else:
            parts, order = [], []
            for choice in sorted(set(rows[:, place.decision].tolist())):
                picked = torch.from_numpy(np.flatnonzero(rows[:, place.decision] == choice))
                node, x = place.nodes[choice], read[0][picked]
                assert node.op is not None
                y = x if node.op.is_identity else torch.zeros_like(x) if node.op.is_zero else network.compute(node, x)
                parts.append(y)
                order.append(picked)
            values.append(torch.cat(parts)[torch.cat(order).argsort()])
    return values[-1]


def step(network: SharedNetwork, forward, images: Tensor, rows: np.ndarray) -> dict[str, Tensor]:
    """Logits, gradients and running statistics of a step of a copy of the network."""
    network = copy.deepcopy(network)
    images = images.detach().clone().requires_grad_()
    logits = forward(network, images, rows)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (logits * weights.to(logits)).sum().backward()
    assert images.grad is not None
    found = {"logits": logits.detach(), "images": images.grad}
    found |= {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return found | dict(network.named_buffers())


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        scale = max(float(value.double().abs().max()), 1e-2)
        assert float((found[name].double() - value.double()).abs().max()) <= tolerance * scale, name


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("groups", "size"), [(1, (16, 16)), (3, (13, 9)), (2, (8, 8))], ids=str)
@pytest.mark.parametrize("name", SPACES)
def test_agrees_with_the_loop(name, groups, size, training, isa):
    network = shared_network(SPACES[name]()).train(training)
    rows, images = population(network.space, groups), batch(6, *size)
    expected = step(copy.deepcopy(network).double(), loop, images, rows)
    assert_same(step(copy.deepcopy(network).double(), forward_paths, images, rows), expected, TOLERANCE[torch.float64])
    assert_same(step(network, forward_paths, images.float(), rows), expected, TOLERANCE[torch.float32])


@pytest.mark.parametrize("device", ["simt", "cuda"], indirect=True)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", SPACES)
def test_cuda_agrees_with_the_loop(name, training, device):
    network = shared_network(SPACES[name]()).train(training)
    rows, images = population(network.space, 2), batch(4, 8, 6)
    expected = step(copy.deepcopy(network).double(), loop, images, rows)
    found = step(network.to(device.torch), forward_paths, images.float().to(device.torch), rows)
    assert_same({name: t.cpu() for name, t in found.items()}, expected, TOLERANCE[torch.float32])


@pytest.mark.parametrize("name", ["chain", "nasbench201"])
@pytest.mark.parametrize(("groups", "statistics"), [(1, "group"), (3, "group"), (21, "operation")])
def test_bits_do_not_depend_on_threads(name, groups, statistics, threads):
    network = shared_network(SPACES[name]()).train()
    rows, images = population(network.space, groups), batch(21, 8, 8, torch.float32)

    def forward(network, images, rows):
        return forward_paths(network, images, rows, statistics=statistics)

    threads(1)
    expected = step(network, forward, images, rows)
    for count in (1, 2):
        threads(count)
        found = step(network, forward, images, rows)
        assert all(torch.equal(found[key], expected[key]) for key in expected)


CELLS = {
    "darts": lambda: darts(3, 4),
    "enas-micro": lambda: enas_micro(3, 4),
    "enas-macro": lambda: enas_macro(3, 1, 8),
    "enas-macro of two branches": lambda: enas_macro(3, 2, 6),
}


@pytest.mark.parametrize("name", CELLS)
def test_spaces_that_wire_their_rows_differently(name):
    space = CELLS[name]()
    known = space.neighbours(np.zeros(len(space.sizes), np.int64))
    rows, images = known[:: len(known) // 3][:3], batch(6, 8, 8)
    network = SharedNetwork(space, num_classes=7).double().train()
    assert_same(step(network, forward_paths, images, rows), step(network, loop, images, rows), 1e-8)


@pytest.mark.parametrize("name", ["chain", "nasbench201"])
@pytest.mark.parametrize("seed", range(3))
def test_a_path_for_every_image(name, seed):
    network = shared_network(SPACES[name]()).train()
    rows, images = population(network.space, 10, seed), batch(10, 8, 8)
    expected = step(copy.deepcopy(network).double(), per_operation_loop, images, rows)
    for dtype in (torch.float64, torch.float32):
        found = step(
            copy.deepcopy(network).to(dtype), partial(forward_paths, statistics="operation"), images.to(dtype), rows
        )
        # Unchosen here means: on no image's path. In the loop all that was computed gets a gradient, if only of zero.
        assert set(found) <= set(expected)
        assert all(float(expected[key].abs().max()) == 0 for key in set(expected) - set(found))
        assert_same(found, {key: expected[key] for key in found}, TOLERANCE[dtype])


@pytest.mark.parametrize("name", ["chain", "nasbench201"])
def test_statistics_of_an_operation_are_those_of_all_samples_that_chose_it(name):
    network = shared_network(SPACES[name]()).double().train()
    row, images = population(network.space, 1), batch(6, 8, 8)

    def per_operation(network, images, rows):
        return forward_paths(network, images, rows, statistics="operation")

    # The same path for every image, each a group of its own, is one batch; so are two groups of one path.
    expected = step(network, loop, images, row)
    for groups in (2, 6):
        assert_same(step(network, per_operation, images, np.repeat(row, groups, 0)), expected, 1e-9)


def test_layouts_and_strides_do_not_matter():
    network = shared_network(SmallChain()).double().train()
    rows, images = population(network.space, 2), batch(4, 8, 8)
    expected = step(network, forward_paths, images, rows)
    wide = torch.zeros(4, 3, 8, 16, dtype=torch.float64)
    wide[..., ::2] = images
    for other in (images.to(memory_format=torch.channels_last), wide[..., ::2]):
        found = step(network, forward_paths, other, rows)
        assert torch.equal(found["logits"], expected["logits"])
        assert torch.equal(found["images"], expected["images"])
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    found = step(last, forward_paths, images, rows)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_frozen_parameters_and_images_get_no_gradient():
    network = shared_network(SmallChain()).train()
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("stem" not in name)
    images = batch(4, 8, 8, torch.float32)
    forward_paths(network, images, [[1, 2, 3, 0]]).sum().backward()
    touched = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert not any("stem" in name for name in touched)
    assert any("layer2" in name for name in touched)


def test_nothing_is_kept_without_gradients():
    network = shared_network(SmallChain()).train()
    rows, images = population(network.space, 2), batch(4, 8, 8, torch.float32)
    expected = forward_paths(copy.deepcopy(network), images, rows)
    with torch.no_grad():
        found = forward_paths(network, images, rows)
    assert found.grad_fn is None
    assert torch.equal(found, expected)


def test_nan_reaches_the_logits_of_its_image():
    network = shared_network(SmallChain()).eval()
    images = batch(4, 8, 8, torch.float32)
    images[1, 0, 3, 3] = float("nan")
    logits = forward_paths(network, images, [[1, 2, 3, 0], [2, 1, 0, 3]])
    assert torch.isnan(logits[1]).all()
    assert torch.isfinite(logits[[0, 2, 3]]).all()


def test_trained_weights_are_seen():
    network = shared_network(SmallChain()).eval()
    rows, images = population(network.space, 1), batch(2, 8, 8, torch.float32)
    before = forward_paths(network, images, rows)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    torch.testing.assert_close(forward_paths(network, images, rows), network(images, rows[0]), rtol=1e-3, atol=1e-3)
    assert not torch.equal(forward_paths(network, images, rows), before)


def test_a_copy_has_weights_of_its_own_and_nothing_outlives_a_network():
    network = shared_network(SmallChain()).eval()
    rows, images = population(network.space, 1), batch(2, 8, 8, torch.float32)
    expected = forward_paths(network, images, rows)
    twin = pickle.loads(pickle.dumps(copy.deepcopy(network)))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(forward_paths(twin, images, rows), expected)
    known = weakref.ref(network)
    del network, parameter
    gc.collect()
    assert known() is None


@pytest.mark.parametrize(
    ("rows", "shape", "message"),
    [
        ([[0, 0, 0, 4]], (2, 3, 8, 8), "layer3 must be 0 to 3, got 4"),
        ([[0, 0, 0]], (2, 3, 8, 8), "a row of 4 integers"),
        (np.empty((0, 4), np.int64), (2, 3, 8, 8), "got 0 rows and 2 images"),
        ([[0, 0, 0, 0]] * 3, (4, 3, 8, 8), "got 3 rows and 4 images"),
        ([[0, 0, 0, 0]], (0, 3, 8, 8), "got 1 rows and 0 images"),
        ([[0, 0, 0, 0]], (2, 4, 8, 8), r"images must be \[N, 3, H, W\]"),
    ],
)
def test_wrong_rows_and_images_are_refused(rows, shape, message):
    with pytest.raises(NasfastError, match=message):
        forward_paths(shared_network(SmallChain()), torch.zeros(shape), rows)


def test_what_makes_no_sense_is_refused():
    network = shared_network(SmallChain()).train()
    with pytest.raises(SpaceError, match="statistics must be"):
        forward_paths(network, torch.zeros(2, 3, 8, 8), [[0, 0, 0, 0]], statistics="image")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="more than one value per channel"):
        forward_paths(network, torch.zeros(2, 3, 1, 1), [[0, 0, 0, 0], [1, 1, 1, 1]])
    branches = shared_network(Branches()).train()
    with pytest.raises(SpaceError, match="wired alike"):
        forward_paths(branches, torch.zeros(2, 3, 8, 8), [[0, 0, 0], [1, 1, 1]], statistics="operation")
    next(iter(network.ops.values())).eval()
    with pytest.raises(SpaceError, match="mode of the network"):
        forward_paths(network, torch.zeros(2, 3, 8, 8), [[0, 0, 0, 0]])
