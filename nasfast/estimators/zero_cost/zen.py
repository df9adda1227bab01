"""Proxy without labels: zen.

zen = log E |f(x) - f(x + 0.01 e)| + sum over BatchNorms of log of the root of their mean batch variance, with f the
features before global pooling, x and e standard normal, and standard normal weights (Lin et al., "Zen-NAS: A Zero-Shot
NAS for High-Performance Image Recognition", ICCV 2021). The second term undoes what normalisation takes away. Skip
connections stay: the spaces choose them.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from nasfast.estimators.zero_cost.layers import BatchNorm, check_layers, hooks, weights_of

_STEP = 0.01
_SMALLEST = 1e-30  # of a distance that is zero where no image reaches the features


class _Watch:
    """Records the features before the last global pooling, and the scale of every BatchNorm's input."""

    def __init__(self) -> None:
        self.features: Tensor | None = None
        self.log_scale = 0.0

    def pool(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.features = inputs[0].double()

    def norm(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, BatchNorm)
        x = inputs[0]
        variance = x.double().var([d for d in range(x.dim()) if d != 1], correction=0).mean()
        self.log_scale += 0.5 * math.log(float(variance) + layer.eps)


@torch.no_grad()
def zen(network: nn.Module, shape: tuple[int, int, int, int]) -> float:
    """zen with images of ``shape`` (images, channels, height, width); random numbers are torch's own.

    The network is left as it is.
    """
    net = copy.deepcopy(network).train()
    pools = check_layers(net, (nn.AdaptiveAvgPool2d,), "zen")
    for weight in weights_of(net):
        nn.init.normal_(weight)
    device = next(net.parameters()).device
    x = torch.randn(shape, device=device)
    moved = x + _STEP * torch.randn(shape, device=device)
    watch = _Watch()
    with hooks([pool.register_forward_pre_hook(watch.pool) for pool in pools]):
        net(moved)
        other = watch.features
        with hooks([m.register_forward_pre_hook(watch.norm) for m in net.modules() if isinstance(m, BatchNorm)]):
            net(x)
    assert watch.features is not None
    assert other is not None
    distance = float((watch.features - other).flatten(1).norm(dim=1).mean())
    return math.log(max(distance, _SMALLEST)) + watch.log_scale
