"""accelerate on the pre-processing of cells: relu, pointwise convolutions, BatchNorm."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nasfast.dropin import accelerate, preprocess
from tests.helpers import foreign_networks as foreign
from tests.helpers.foreign_cases import assert_same_results


class Halving(foreign.Shrink):
    """Another number of channels than it is given, and relu in the forward."""

    def __init__(self, width_in, width, norm=nn.BatchNorm2d):
        super().__init__(width, norm)
        self.even = nn.Conv2d(width_in, width // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(width_in, width // 2, 1, 2, bias=False)


def entry(width_in, width, norm=nn.BatchNorm2d, step=1, **options):
    conv = nn.Conv2d(width_in, width, **({"kernel_size": 1, "stride": step, "bias": False} | options))
    return nn.Sequential(nn.ReLU(), conv, norm(width))


def plain_norm(width):
    return nn.BatchNorm2d(width, affine=False)


def cumulative_norm(width):
    return nn.BatchNorm2d(width, momentum=None, eps=1e-3)


def block(first):
    """A cell with `first` before its mixed operations, whose images are 8 x 8 behind it."""
    torch.manual_seed(0)
    cell = foreign.TwoInputBlock(4, 4, lambda c: foreign.VectorChoice(foreign.operations(c, 1)))
    cell.adapt_a = first
    return cell.double()


@pytest.fixture
def calls(monkeypatch):
    """Shapes of the images that fused pre-processing was given."""
    seen = []
    real = preprocess.run_preprocess

    def counted(layers, x, recompute):
        seen.append(tuple(x.shape))
        return real(layers, x, recompute)

    monkeypatch.setattr(preprocess, "run_preprocess", counted)
    return seen


def step(cell, size, width=3):
    torch.manual_seed(1)
    shapes = [(2, width, size, size), (2, 4, 8, 8), (5, 6)]
    args = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    out = cell(*args)
    gradients = torch.autograd.grad(out.square().sum(), [*args, *cell.parameters()])
    return [out, *gradients, *(buffer.clone() for buffer in cell.buffers())]


def assert_same_steps(cell, twin, size):
    for training in (True, False):
        cell.train(training)
        twin.train(training)
        assert_same_results(step(cell, size), step(twin, size))


KINDS = {
    "affine": (lambda: entry(3, 4), 8),
    "not affine": (lambda: entry(3, 4, plain_norm), 8),
    "cumulative": (lambda: entry(3, 4, cumulative_norm), 8),
    "halves": (lambda: Halving(3, 4), 16),
    "halves, not affine": (lambda: Halving(3, 4, plain_norm), 16),
}


@pytest.mark.parametrize("kind", KINDS)
def test_is_fused_and_equal(kind, calls):
    build, size = KINDS[kind]
    cell = block(build())
    twin = copy.deepcopy(cell)
    state = {name: id(value) for name, value in [*cell.named_parameters(), *cell.named_buffers()]}
    report = accelerate(cell)
    assert [name for name, _ in report.fused] == ["", "adapt_a", "adapt_b"]
    assert dict(report.fused)["adapt_a"].startswith("pre-processing")
    assert state == {name: id(value) for name, value in [*cell.named_parameters(), *cell.named_buffers()]}
    assert list(cell.state_dict()) == list(twin.state_dict())
    calls.clear()
    assert_same_steps(cell, twin, size)
    assert calls == [(2, 3, size, size), (2, 4, 8, 8)] * 2


class Leaky(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)

    def forward(self, tensor):
        return self.norm(self.conv(F.leaky_relu(tensor, 0.01)))


class Shifted(Halving):
    """Reads the same pixels with both convolutions."""

    def forward(self, tensor):
        tensor = F.relu(tensor)
        return self.norm(torch.cat((self.even(tensor), self.odd(tensor)), 1))


LEFT = {
    "another activation": (Leaky, "differs in train mode", 8),
    "the same pixels twice": (lambda: Shifted(3, 4), "differs in train mode", 16),
    "a dense convolution": (lambda: entry(3, 4, kernel_size=3, padding=1), "3x3 convolution", 8),
    "a bias": (lambda: entry(3, 4, bias=True), "convolution with bias", 8),
    "one strided convolution": (lambda: entry(3, 4, step=2), "of this stride has no fused form", 16),
}


@pytest.mark.parametrize("kind", LEFT)
def test_what_differs_is_left_and_named(kind, calls):
    build, reason, size = LEFT[kind]
    cell = block(build())
    twin = copy.deepcopy(cell)
    report = accelerate(cell)
    assert [name for name, _ in report.fused] == ["", "adapt_b"]
    assert [name for name, _ in report.left] == ["adapt_a"]
    assert report.left[0][1].startswith("as pre-processing: ")
    assert reason in report.left[0][1]
    assert_same_steps(cell, twin, size)


def test_a_change_later_runs_its_own_forward(calls):
    cell = block(entry(3, 4))
    twin = copy.deepcopy(cell)
    accelerate(cell)
    for each in (cell, twin):
        each.adapt_a[0] = nn.SiLU()
    calls.clear()
    assert_same_steps(cell, twin, 8)
    assert calls == [(2, 4, 8, 8)] * 2


def test_an_odd_size_fails_as_it_did():
    first = Halving(3, 4)
    cell = block(first)
    accelerate(cell)
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        cell.adapt_a(torch.randn(2, 3, 7, 8, dtype=torch.float64))


def test_replicas_of_data_parallel_run_their_own_forward(calls):
    cell = block(entry(3, 4))
    accelerate(cell)
    replica = cell.adapt_a._replicate_for_data_parallel()
    replica._modules = {name: copy.deepcopy(child) for name, child in cell.adapt_a._modules.items()}
    with torch.no_grad():
        replica[1].weight.mul_(3)
    calls.clear()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    expected = replica[2](replica[1](F.relu(x)))
    torch.testing.assert_close(replica(x), expected)
    assert calls == []
