"""Ops on arrays of other libraries: the same memory in and out, the same values as with tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nasfast.errors import NasfastError
from nasfast.kernels import ops
from nasfast.kernels._arrays import as_tensor, like
from nasfast.nn.fused import ParamList
from tests.helpers.op_cases import EDGES
from tests.helpers.require import require


def nhwc(n: int, c: int, h: int, w: int) -> np.ndarray:
    """[n, c, h, w], the channels of a pixel side by side."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, h, w, c), dtype=np.float32).transpose(0, 3, 1, 2)


def test_numpy_in_numpy_out() -> None:
    torch.manual_seed(0)
    edge = EDGES["darts"]
    x, weights = nhwc(2, 16, 8, 8), np.full((1, 8), 0.125, dtype=np.float32)
    params = [p.detach().numpy() for p in ParamList(edge.module()._ops).params()]
    out, used = ops.mixed_op([x], weights, params, edge.graph())
    tensors = [torch.from_numpy(p) for p in params]
    expected, stats = ops.mixed_op([torch.from_numpy(x)], torch.from_numpy(weights), tensors, edge.graph())
    assert isinstance(out, np.ndarray)
    assert isinstance(used, np.ndarray)
    assert np.array_equal(out, expected.numpy())
    assert np.array_equal(used, stats.numpy())
    again, _ = ops.mixed_op([x], weights, params, edge.graph(), stats=used)
    np.testing.assert_allclose(again, out, rtol=0, atol=1e-5)


def test_relu_conv_bn_of_arrays() -> None:
    x, weight = nhwc(2, 6, 4, 4), np.ones((4, 6, 1, 1), dtype=np.float32)
    gamma, beta = np.ones(4, dtype=np.float32), np.zeros(4, dtype=np.float32)
    out, used = ops.relu_conv_bn(x, [weight], [gamma, beta])
    assert isinstance(out, np.ndarray)
    assert out.shape == (2, 4, 4, 4)
    np.testing.assert_allclose(used[0, 0], np.maximum(x, 0).sum(1).mean(), rtol=1e-5)


def test_running_statistics_of_arrays_move_in_place() -> None:
    stats = np.ones((1, 2, 3), dtype=np.float32)
    mean, variance, count = np.zeros(3, dtype=np.float32), np.ones(3, dtype=np.float32), np.zeros((), dtype=np.int64)
    ops.update_running_stats_(stats, [mean], [variance], [count], momentum=0.5, count=11)
    np.testing.assert_allclose(mean, 0.5)
    np.testing.assert_allclose(variance, 0.5 + 0.5 * 11 / 10)
    assert count == 1


def test_nothing_is_copied() -> None:
    x = nhwc(2, 3, 4, 5)
    shared = as_tensor("op", "x", x)
    assert shared.data_ptr() == x.ctypes.data
    assert shared.is_contiguous(memory_format=torch.channels_last)
    back = like(x, shared)
    assert back.ctypes.data == x.ctypes.data
    tensor = torch.zeros(2)
    assert as_tensor("op", "x", tensor) is tensor
    assert like(tensor, shared) is shared


class Opaque:
    """Exports its memory, but names no namespace."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: object) -> object:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()  # type: ignore[return-value]


def test_what_is_no_array_is_named() -> None:
    with pytest.raises(NasfastError, match=r"mixed_op: states\[0\] must be a torch tensor or an array .* got list"):
        ops.mixed_op([[1.0]], torch.ones(1, 1), [], EDGES["none"].graph())
    dates = np.zeros((1, 2, 3, 3), dtype="datetime64[s]")
    with pytest.raises(NasfastError, match="relu_conv_bn: x cannot be shared over DLPack"):
        ops.relu_conv_bn(dates, [torch.ones(2, 2, 1, 1)])
    with pytest.raises(NasfastError, match="Opaque has no __array_namespace__"):
        ops.relu_conv_bn(Opaque(nhwc(1, 2, 3, 3)), [torch.ones(2, 2, 1, 1)])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cupy_in_cupy_out() -> None:
    cupy = require("cupy")
    x = cupy.asarray(nhwc(2, 6, 4, 4))
    weight = cupy.ones((4, 6, 1, 1), dtype=cupy.float32)
    out, _ = ops.relu_conv_bn(x, [weight])
    assert isinstance(out, cupy.ndarray)
    expected, _ = ops.relu_conv_bn(torch.from_dlpack(x), [torch.from_dlpack(weight)])
    assert torch.equal(torch.from_dlpack(out), expected)
