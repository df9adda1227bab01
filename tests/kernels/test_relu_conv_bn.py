"""torch.ops.nasfast.relu_conv_bn and update_running_stats_ against plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nasfast.kernels import ops
from nasfast.nn import primitives
from tests.conftest import Device
from tests.helpers.op_cases import TOLERANCES, assert_near, leaves, run

SHAPES = [  # in, out, height, width, batch
    (16, 8, 6, 6, 2),
    (5, 7, 4, 6, 3),
    (33, 12, 2, 8, 1),
    (64, 16, 8, 8, 2),
    (2, 4, 4, 2, 2),
]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def build(c_in: int, c_out: int, reduce: bool, affine: bool) -> tuple[nn.Module, list[Tensor], list[Tensor]]:
    if reduce:
        module: nn.Module = primitives.FactorizedReduce(c_in, c_out + c_out % 2, affine)
        convs, norm = [module.conv_1.weight, module.conv_2.weight], module.bn
    else:
        module = primitives.ReLUConvBN(c_in, c_out, 1, 1, 0, affine)
        convs, norm = [module.op[1].weight], module.op[2]
    if affine:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -1, 1)
    return module, convs, [norm.weight, norm.bias] if affine else []


DTYPES = [
    ("cpu", torch.float64),
    ("cpu", torch.float32),
    *((device, dtype) for device in ("simt", "cuda") for dtype in (torch.float32, torch.bfloat16, torch.float16)),
]


@pytest.mark.parametrize(("device", "dtype"), DTYPES, ids=str, indirect=["device"])
@pytest.mark.parametrize("affine", [False, True], ids=["plain", "affine"])
@pytest.mark.parametrize("reduce", [False, True], ids=["pointwise", "reduction"])
@pytest.mark.parametrize("recompute", [False, True], ids=["saved", "recompute"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_gradients_equal_the_twin_s(  # type: ignore[no-untyped-def]
    shape, recompute, reduce, affine, dtype, device: Device
) -> None:
    c_in, c_out, height, width, batch = shape
    module, convs, norm = build(c_in, c_out, reduce, affine)
    x = torch.randn(batch, c_in, height, width, dtype=torch.float64)
    if dtype.itemsize == 2:  # same rounded inputs for both
        module, x = module.to(dtype), x.to(dtype)
    mine, *params = leaves(x, *convs, *norm, dtype=dtype, on=device.torch)
    weights, affines = params[: len(convs)], params[len(convs) :]
    fused = run(lambda: ops.relu_conv_bn(mine, weights, affines, recompute=recompute)[0], [mine, *params])
    module = module.double()
    (plain,) = leaves(x, dtype=torch.float64)
    tolerance = TOLERANCES[device.name][dtype]
    assert_near(
        fused, run(lambda: module(plain), [plain, *module.parameters()]), tolerance * (5 if dtype.itemsize > 2 else 1)
    )


def test_gradcheck_with_given_statistics() -> None:
    _, convs, norm = build(3, 4, True, True)
    inputs = leaves(torch.randn(2, 3, 4, 4), *convs, *norm, dtype=torch.float64)
    stats = torch.rand(1, 2, 4, dtype=torch.float64) + 0.5
    assert torch.autograd.gradcheck(
        lambda x, a, b, g, c: ops.relu_conv_bn(x, [a, b], [g, c], stats=stats)[0], inputs, fast_mode=True
    )


def test_an_empty_batch_gives_empty_results(device: Device) -> None:
    x = torch.zeros(0, 4, 6, 6, device=device.torch, requires_grad=True)
    weight = torch.zeros(8, 4, 1, 1, device=device.torch, requires_grad=True)
    out, _ = ops.relu_conv_bn(x, [weight])
    out.sum().backward()
    assert out.shape == (0, 8, 6, 6)
    assert weight.grad is not None
    assert not weight.grad.any()


X = torch.zeros(2, 6, 4, 4)
WEIGHT = torch.zeros(4, 6, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X[0], [WEIGHT], [], None), r"states\[0\] must be \[N, C, H, W\]"),
        ((X.half(), [WEIGHT], [], None), r"must be float32, float64 or bfloat16, got Half"),
        ((X, [], [], None), r"weights must hold 1 or 2 tensors, got 0"),
        ((X, [WEIGHT[:, :5]], [], None), r"weights\[0\] must be \[O, 6, 1, 1\], got \[4, 5, 1, 1\]"),
        ((X[:, :, 1:], [WEIGHT, WEIGHT], [], None), r"even height and width for a factorized reduction, got 3 x 4"),
        ((X, [WEIGHT], [WEIGHT], None), r"affine must hold 0 or 2 tensors, got 1"),
        ((X, [WEIGHT], [torch.zeros(3)] * 2, None), r"affine must be \[4\], got \[3\]"),
        ((X, [WEIGHT], [], torch.zeros(1, 2, 5)), r"stats must be \[1, 2, 4\], got \[1, 2, 5\]"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple, message: str) -> None:
    with pytest.raises(RuntimeError, match="relu_conv_bn: .*" + message):
        torch.ops.nasfast.relu_conv_bn(*arguments, 1e-5, False)


RUNNING = [
    *(("cpu", dtype) for dtype in (torch.float64, torch.float32, torch.bfloat16)),
    *((device, dtype) for device in ("simt", "cuda") for dtype in (torch.float32, torch.bfloat16)),
]


@pytest.mark.parametrize(("device", "dtype"), RUNNING, ids=str, indirect=["device"])
def test_running_statistics_move_as_batchnorm_s(dtype: torch.dtype, device: Device) -> None:
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64)
    norm = nn.BatchNorm2d(4).to(device.torch, dtype)
    plain = nn.BatchNorm2d(4).double()
    for step in range(2):
        y = x + step
        plain(y)
        stats = torch.stack([y.mean((0, 2, 3)), y.var((0, 2, 3), unbiased=False)]).unsqueeze(0).to(device.torch)
        buffers = [norm.running_mean, norm.running_var, norm.num_batches_tracked]
        ops.update_running_stats_(stats, *([b] for b in buffers), momentum=0.1, count=75)  # type: ignore[arg-type]
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(norm.running_mean.cpu().double(), plain.running_mean, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(norm.running_var.cpu().double(), plain.running_var, rtol=tolerance, atol=tolerance)
    assert norm.num_batches_tracked.item() == 2


def test_wrong_running_statistics_are_named() -> None:
    stats = torch.zeros(1, 2, 4)
    good = [torch.zeros(4)]
    count = [torch.zeros((), dtype=torch.int64)]
    with pytest.raises(RuntimeError, match="must hold 1 tensors each"):
        ops.update_running_stats_(stats, [], good, count, momentum=0.1, count=9)
    with pytest.raises(RuntimeError, match=r"contiguous \[4\], got \[3\]"):
        ops.update_running_stats_(stats, [torch.zeros(3)], good, count, momentum=0.1, count=9)
    with pytest.raises(RuntimeError, match="count must be above 1"):
        ops.update_running_stats_(stats, good, good, count, momentum=0.1, count=1)
    with pytest.raises(RuntimeError, match="batches must be int64"):
        ops.update_running_stats_(stats, good, good, good[:1], momentum=0.1, count=9)
