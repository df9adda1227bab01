"""torch.utils.flop_counter counts the ops as their twins in plain PyTorch."""

from __future__ import annotations

import subprocess
import sys
from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from nasfast.kernels import ops
from nasfast.kernels.primitives import ALL_PRIMITIVES
from nasfast.kernels.reference_paths import run_paths
from nasfast.nn.cells import Cell
from nasfast.nn.fused import FusedCell
from tests.kernels.test_supernet import UNITS, one_unit

aten = torch.ops.aten


class Computed(TorchDispatchMode):
    """Counts each product that is computed, two for a multiply-add.

    FlopCounterMode itself has the gradient of a depthwise weight as that of a dense one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is aten.convolution.default:
            self.flops += self._convolution(result, args[1])
        elif func is aten.convolution_backward.default:
            self.flops += self._convolution(args[0], args[2]) * sum(args[-1][:2])
        elif func in (aten.addmm.default, aten.mm.default):
            a, b = args[-2:]
            self.flops += 2 * a.shape[0] * prod(b.shape)
        return result

    @staticmethod
    def _convolution(out: Tensor, weight: Tensor) -> int:
        return 2 * len(out) * prod(out.shape[2:]) * weight.numel()


def counted(compute: Any, *, backward: bool) -> int:
    """What FlopCounterMode has for a forward, or for the backward after it."""
    if not backward:
        with FlopCounterMode(display=False) as counter:
            compute()
        return counter.get_total_flops()
    out = compute()
    with FlopCounterMode(display=False) as counter:
        out.sum().backward()
    return counter.get_total_flops()


def computed(compute: Any, *, backward: bool) -> int:
    if not backward:
        with Computed() as counter:
            compute()
        return counter.flops
    out = compute()
    with Computed() as counter:
        out.sum().backward()
    return counter.flops


def cells(reduction: bool, recompute: bool = False) -> tuple[Cell, FusedCell]:
    torch.manual_seed(0)
    arguments = (2, 2, 6, 8, 4, reduction, not reduction, ALL_PRIMITIVES)
    plain, fused = Cell(*arguments), FusedCell(*arguments)
    fused.load_state_dict(plain.state_dict())
    fused.recompute = recompute
    return plain, fused


def inputs(wanted: bool) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    s1 = torch.randn(3, 8, 6, 10)
    s0 = torch.randn(3, 6, 6, 10)
    return s0.requires_grad_(wanted), s1.requires_grad_(wanted), torch.rand(5, len(ALL_PRIMITIVES), requires_grad=True)


def run_cell(cell: Cell, wanted: bool, reduction: bool) -> Any:
    s0, s1, weights = inputs(wanted)
    if not reduction:
        s0 = torch.nn.functional.interpolate(s0, scale_factor=2.0)  # the cell before this one was a reduction
    return lambda: cell(s0, s1, weights)


@pytest.mark.parametrize("reduction", [False, True])
def test_a_cell_s_forward_counts_as_its_twin_s(reduction):
    plain, fused = cells(reduction)
    expected = counted(run_cell(plain, False, reduction), backward=False)
    assert expected == computed(run_cell(plain, False, reduction), backward=False) > 0
    assert counted(run_cell(fused, False, reduction), backward=False) == expected


@pytest.mark.parametrize("reduction", [False, True])
@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_cell_s_backward_counts_what_its_twin_computes(reduction, wanted, frozen):
    plain, fused = cells(reduction)
    for cell in (plain, fused):
        cell.requires_grad_(not frozen)
    expected = computed(run_cell(plain, wanted, reduction), backward=True)
    assert counted(run_cell(fused, wanted, reduction), backward=True) == expected


def test_what_is_computed_again_counts_again():
    plain, fused = cells(reduction=True, recompute=True)
    forward = computed(run_cell(plain, True, True), backward=False)
    backward = computed(run_cell(plain, True, True), backward=True)
    assert counted(run_cell(fused, True, True), backward=True) == forward + backward


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("spare", [0, 2])
def test_paths_count_as_their_twin(name, spare):
    torch.manual_seed(0)
    graph, params = one_unit(name, 5, 7, spare)
    params = [param.requires_grad_() for param in params]
    images = torch.randn(6, 3, 7, 8, dtype=torch.float64)
    index = torch.zeros(3, 0, dtype=torch.int64)
    groups = images.chunk(3)

    def kernels() -> Tensor:
        return ops.supernet_paths(images, index, params, graph)[0]

    def plainly() -> Tensor:
        return torch.cat([run_paths(graph, params, group, []) for group in groups])

    assert counted(kernels, backward=False) == counted(plainly, backward=False) > 0
    assert counted(kernels, backward=True) == computed(plainly, backward=True)


def test_images_that_want_a_gradient_and_weights_that_do_not():
    torch.manual_seed(0)
    graph, params = one_unit("conv 3x3, norm", 5, 7)
    images = torch.randn(4, 3, 7, 8, dtype=torch.float64, requires_grad=True)
    index = torch.zeros(1, 0, dtype=torch.int64)
    expected = computed(lambda: run_paths(graph, params, images, []), backward=True)
    assert counted(lambda: ops.supernet_paths(images, index, params, graph)[0], backward=True) == expected > 0


def test_a_first_call_within_the_counter_is_counted():
    code = """
import torch
from torch.utils.flop_counter import FlopCounterMode
from nasfast.kernels import ops

with FlopCounterMode(display=False) as counter:
    ops.relu_conv_bn(torch.randn(2, 3, 4, 4), [torch.randn(5, 3, 1, 1)])
print(counter.get_total_flops())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 2 * 2 * 16 * 5 * 3
