"""torch.ops.nasfast.shuffle_channels against plain PyTorch."""

from __future__ import annotations

import pytest
import torch

from nasfast.kernels import ops
from nasfast.nn import cells
from tests.conftest import Device

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("mixed", "passed", "groups"), [(4, 12, 4), (3, 5, 2), (1, 2, 3), (0, 4, 2), (6, 0, 1)])
def test_values_and_gradients_are_the_twin_s_bits(
    mixed: int, passed: int, groups: int, dtype: torch.dtype, device: Device
) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(2, c, 3, 5, device=device.torch).to(dtype).requires_grad_() for c in (mixed, passed)]
    ours = ops.shuffle_channels(*parts, groups)
    plain = cells.channel_shuffle(torch.cat(parts, dim=1), groups)
    assert torch.equal(ours, plain)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    grad = torch.randn_like(plain)
    for a, b in zip(torch.autograd.grad(ours, parts, grad), torch.autograd.grad(plain, parts, grad), strict=True):
        assert torch.equal(a, b)


def test_slices_of_channels_and_other_layouts(device: Device) -> None:
    whole = torch.randn(2, 3, 5, 12, device=device.torch).permute(0, 3, 1, 2)
    for mixed, passed in ((whole[:, 2:4], whole[:, 6:]), (whole[:, ::2], whole.contiguous()[:, :2])):
        ours = ops.shuffle_channels(mixed, passed, 2)
        assert torch.equal(ours, cells.channel_shuffle(torch.cat([mixed, passed], dim=1), 2))


def test_an_empty_batch(device: Device) -> None:
    x = torch.zeros(0, 2, 3, 3, device=device.torch, requires_grad=True)
    out = ops.shuffle_channels(x, x, 2)
    out.sum().backward()
    assert out.shape == (0, 4, 3, 3)


X = torch.zeros(1, 2, 3, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X[0], X, 2), r"must be \[N, C, H, W\], got 3 and 4 dimensions"),
        ((X, X[:, :, 1:], 2), "must differ in channels only"),
        ((X, X.double(), 2), "must have one dtype and device, got Float on cpu and Double on cpu"),
        ((X.int(), X.int(), 2), "mixed must be floating point, got Int"),
        ((X, X, 3), "groups must divide the channels, got 3 for 4"),
        ((X, X, 0), "groups must divide the channels, got 0 for 4"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple, message: str) -> None:
    with pytest.raises(RuntimeError, match=f"shuffle_channels: .*{message}"):
        torch.ops.nasfast.shuffle_channels(*arguments)


def test_a_second_derivative_is_refused() -> None:
    x = X.clone().requires_grad_()
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        torch.autograd.grad(ops.shuffle_channels(x, X, 2).sum(), [x], create_graph=True)
