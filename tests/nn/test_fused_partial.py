"""Fused partial channels against their twins in plain PyTorch, in float64 where equal means equal."""

import pytest
import torch

from nasfast.nn import cells
from nasfast.nn import fused_partial as partial


def step(module, *args):
    """Output, gradients of every argument and parameter, and buffers afterwards."""
    args = [arg.clone().requires_grad_() for arg in args]
    out = module(*args)
    direction = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    gradients = torch.autograd.grad(out, [*args, *module.parameters()], direction)
    return [out, *gradients, *module.buffers()]


def assert_same(plain, fused, *args):
    fused.load_state_dict(plain.state_dict())
    for training in (True, False):
        plain.train(training)
        fused.train(training)
        for a, b in zip(step(plain, *args), step(fused, *args), strict=True):
            torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-11)


def noise(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_mixed_op_equals_its_twin(stride, affine, recompute):
    plain = cells.PartialMixedOp(16, stride, affine=affine).double()
    fused = partial.FusedPartialMixedOp(16, stride, affine=affine, recompute=recompute).double()
    assert_same(plain, fused, noise(2, 16, 6, 8), noise(8))


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    ("reduction", "steps", "multiplier"),
    [(False, 1, 1), (False, 3, 3), (False, 3, 2), (False, 2, 4), (True, 1, 1), (True, 3, 3), (True, 3, 2)],
)
def test_cell_equals_its_twin(reduction, steps, multiplier, recompute):
    shape = (steps, multiplier, 6, 10, 8, reduction, True)
    plain = cells.PartialCell(*shape).double()
    fused = partial.FusedPartialCell(*shape, recompute=recompute).double()
    edges = steps * (steps + 3) // 2
    assert_same(plain, fused, noise(2, 6, 16, 8), noise(2, 10, 8, 4), noise(edges, 8), noise(edges))


def test_parameters_are_drawn_and_named_like_the_twin():
    torch.manual_seed(1)
    plain = cells.PartialCell(2, 2, 6, 6, 8, True, False)
    torch.manual_seed(1)
    fused = partial.FusedPartialCell(2, 2, 6, 6, 8, True, False)
    assert list(plain.state_dict()) == list(fused.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), fused.parameters(), strict=True))
