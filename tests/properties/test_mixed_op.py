"""The fused mixed operation against its twin in plain PyTorch, over drawn shapes, strides and candidates."""

from __future__ import annotations

import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from nasfast.kernels.primitives import ALL_PRIMITIVES
from tests.helpers.op_cases import TOLERANCE, Edge, assert_near, fused_results, plain_results


@st.composite
def edges(draw: st.DrawFn) -> Edge:
    stride = draw(st.sampled_from([1, 2]))
    channels, batch = draw(st.integers(1, 19)), draw(st.integers(1, 4))
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    names = draw(st.lists(st.sampled_from(ALL_PRIMITIVES), min_size=1, max_size=5, unique=True))
    if stride == 2:  # a skip connection of stride 2 halves channels and takes even sizes only
        assume(not (channels % 2 or height % 2 or width % 2) or "skip_connect" not in names)
    assume(batch * -(-height // stride) * -(-width // stride) > 1)  # BatchNorm wants two values
    return Edge(channels, height, width, stride, batch, tuple(names), draw(st.booleans()))


def case_of(edge: Edge, seed: int) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return edge.module(), *edge.inputs()


@given(edges(), st.integers(0, 99), st.booleans())
def test_outputs_and_gradients_are_the_twin_s_in_float64(edge: Edge, seed: int, recompute: bool) -> None:
    module, x, weights = case_of(edge, seed)
    fused = fused_results(edge, module, x, weights, torch.float64, recompute=recompute)
    assert_near(fused, plain_results(edge, module, x, weights), TOLERANCE[torch.float64])


@given(edges(), st.integers(0, 99))
def test_outputs_are_the_twin_s_in_float32(edge: Edge, seed: int) -> None:
    """Not the gradients: where a channel has a handful of values, they are zero but for rounding."""
    module, x, weights = case_of(edge, seed)
    fused = fused_results(edge, module, x, weights, torch.float32)
    assert_near(fused[:1], plain_results(edge, module, x, weights)[:1], 1e-4)
