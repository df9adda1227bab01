"""Proxy without data: synflow.

With all parameters replaced by their magnitudes, without normalisation, and an image of ones, R is the sum of the
logits; synflow = sum over the weights of convolutions and linear layers of w dR/dw (Tanaka, Kunin, Yamins, Ganguli,
"Pruning neural networks without any data by iteratively conserving synaptic flow", NeurIPS 2020). Its logarithm is
returned.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from nasfast.errors import NasfastError
from nasfast.estimators.zero_cost.layers import BatchNorm, weights_of

_SMALLEST = 1e-300


def synflow(network: nn.Module, shape: tuple[int, int, int]) -> float:
    """Logarithm of synflow for images of ``shape`` (channels, height, width); the network is left as it is.

    Computed in float64: R grows with every layer that is no longer normalised.
    """
    linear = _without_normalisation(copy.deepcopy(network).double())
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.abs_()
    weights = weights_of(linear)
    image = torch.ones(1, *shape, dtype=torch.float64, device=weights[0].device)
    gradients = torch.autograd.grad(linear(image).sum(), weights, allow_unused=True)
    total = sum(float((w.detach() * g).sum()) for w, g in zip(weights, gradients, strict=True) if g is not None)
    if not math.isfinite(total):
        raise NasfastError("synflow: the network is so deep or wide that the sum of its logits overflows float64")
    return math.log(max(total, _SMALLEST))


def _without_normalisation(network: nn.Module) -> nn.Module:
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BatchNorm):
                setattr(module, name, nn.Identity())
    return network
