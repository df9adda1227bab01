"""The plain PyTorch twin: names, order of initialisation, shapes, errors."""

import pytest
import torch
from torch import nn

from nasfast.errors import ConfigError, ShapeError
from nasfast.kernels.primitives import ALL_PRIMITIVES
from nasfast.nn import cells, primitives


@pytest.mark.parametrize("name", ALL_PRIMITIVES)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("affine", [False, True])
def test_primitives_keep_channels_and_divide_the_size(name, stride, affine):
    op = primitives.build_primitive(name, 6, stride, affine)
    x = torch.randn(2, 6, 8, 10)
    assert op(x).shape == (2, 6, 8 // stride, 10 // stride)
    norms = [module for module in op.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all((norm.weight is not None) == affine for norm in norms)


def test_first_random_numbers_go_to_the_first_parameter():
    torch.manual_seed(5)
    cell = cells.Cell(2, 2, 6, 6, 4, reduction=False, reduction_prev=True)
    torch.manual_seed(5)
    first = nn.Conv2d(6, 2, 1, bias=False)
    second = nn.Conv2d(6, 2, 1, bias=False)
    assert torch.equal(cell.preprocess0.conv_1.weight, first.weight)
    assert torch.equal(cell.preprocess0.conv_2.weight, second.weight)


def test_state_dict_keys_of_one_edge():
    keys = set(cells.MixedOp(4, 2).state_dict())
    assert {"_ops.1.1.running_mean", "_ops.3.conv_1.weight", "_ops.3.bn.running_var", "_ops.4.op.1.weight"} <= keys
    assert {"_ops.4.op.6.weight", "_ops.7.op.2.weight", "_ops.7.op.3.num_batches_tracked"} <= keys


def test_reduction_cell_halves_the_size_and_only_its_inputs_have_stride_two():
    cell = cells.Cell(3, 2, 8, 8, 4, reduction=True, reduction_prev=False)
    assert [op.stride for op in cell._ops] == [2, 2, 2, 2, 1, 2, 2, 1, 1]
    out = cell(torch.randn(2, 8, 8, 8), torch.randn(2, 8, 8, 8), torch.rand(9, 8))
    assert out.shape == (2, 8, 4, 4)


def test_a_cell_is_the_weighted_sum_of_its_edges():
    cell = cells.Cell(1, 1, 4, 4, 4, reduction=False, reduction_prev=False).eval()
    s0, s1 = torch.randn(2, 1, 4, 5, 5)
    weights = torch.zeros(2, 8)
    weights[0, 3] = 2.0
    weights[1, 3] = -1.0
    expected = 2 * cell.preprocess0(s0) - cell.preprocess1(s1)
    torch.testing.assert_close(cell(s0, s1, weights), expected)


def test_partial_channels_pass_three_quarters_on():
    op = cells.PartialMixedOp(8, 1)
    x = torch.randn(2, 8, 4, 4)
    weights = torch.zeros(8)
    weights[3] = 1.0
    out = op(x, weights)
    # Shuffled in four groups of two: output channel i * 4 + g is input channel g * 2 + i.
    expected = torch.stack([x[:, g * 2 + i] for i in range(2) for g in range(4)], dim=1)
    torch.testing.assert_close(out, expected)


def test_partial_edges_are_weighted_whole():
    cell = cells.PartialCell(1, 1, 4, 4, 8, reduction=True, reduction_prev=False).eval()
    s0, s1 = torch.randn(2, 1, 4, 6, 6)
    weights = torch.rand(2, 8)
    one, other = torch.eye(2)
    both = cell(s0, s1, weights, torch.tensor([0.5, -2.0]))
    expected = 0.5 * cell(s0, s1, weights, one) - 2.0 * cell(s0, s1, weights, other)
    torch.testing.assert_close(both, expected)


def test_zero_is_zero_and_keeps_not_a_number():
    x = torch.tensor([[[[1.0, torch.nan], [2.0, 3.0]]]])
    out = primitives.Zero(1)(x)
    assert out[0, 0, 0, 0] == 0
    assert out[0, 0, 0, 1].isnan()


@pytest.mark.parametrize("size", [(7, 8), (8, 7), (1, 1)])
def test_factorized_reduce_refuses_odd_sizes(size):
    with pytest.raises(ShapeError, match=f"must be even, got {size[0]}x{size[1]}"):
        primitives.FactorizedReduce(4, 4)(torch.randn(1, 4, *size))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: primitives.build_primitive("conv_9x9", 4, 1, False), "unknown primitive 'conv_9x9'"),
        (lambda: primitives.build_primitive("none", 4, 3, False), "stride must be 1 or 2, got 3"),
        (lambda: cells.PartialMixedOp(6, 1), "6 channels"),
        (lambda: primitives.FactorizedReduce(4, 5), "must be even, got 5"),
    ],
)
def test_impossible_modules_are_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
