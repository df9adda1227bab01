"""A network trains in a layout that keeps clear of what oneDNN's backward cannot do in channels_last."""

import pytest
import torch
from torch import nn

from nasfast.nn.memory_format import training_layout
from nasfast.nn.primitives import FactorizedReduce


@pytest.mark.parametrize(
    ("layer", "layout"),
    [
        (nn.Conv2d(7, 8, 1, 2), torch.contiguous_format),
        (nn.Conv2d(8, 8, 1, 2), torch.channels_last),
        (nn.Conv2d(4, 8, 1, 1), torch.channels_last),
        (nn.Conv2d(3, 8, 3, 2), torch.channels_last),
        (nn.Sequential(nn.ReLU(), FactorizedReduce(4, 8)), torch.contiguous_format),
    ],
)
def test_layout_of_a_network(layer, layout):
    assert training_layout(layer, "cpu") == layout
    assert training_layout(layer, "cuda") == torch.channels_last


@pytest.mark.parametrize("channels", [4, 8])
def test_backward_in_that_layout_has_the_right_gradients(channels):
    torch.manual_seed(0)
    network, images = FactorizedReduce(channels, 8), torch.randn(6, channels, 8, 8)
    gradients = []
    for layout in (torch.contiguous_format, training_layout(network, "cpu")):
        network.zero_grad()
        network.to(memory_format=layout)(images.contiguous(memory_format=layout)).square().mean().backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
