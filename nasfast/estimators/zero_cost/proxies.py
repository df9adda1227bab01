"""All proxies by name, and how those of one network are computed together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasfast.errors import NasfastError
from nasfast.estimators.zero_cost.catalogue import PROXIES, check_proxies
from nasfast.estimators.zero_cost.gradients import FisherRecorder, grad_norm, grasp, snip
from nasfast.estimators.zero_cost.kernels import CodeRecorder, jacob_cov
from nasfast.estimators.zero_cost.layers import hooks, weights_of
from nasfast.estimators.zero_cost.synflow import synflow
from nasfast.estimators.zero_cost.zen import zen


def score_network(network: nn.Module, images: Tensor, labels: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Scores of an untrained network by proxy, those of ``params`` and ``flops`` left out.

    One forward of the batch in train mode serves naswot, jacob_cov and everything by the loss (cross-entropy), and one
    backward all gradients. Weights and statistics are as they were afterwards; ``zen`` draws from torch's generator.

    Args:
        network: Images [N, C, H, W] to logits [N, classes].
        images: float32 [N, C, H, W], normalised.
        labels: int64 [N].

    Raises:
        NasfastError: A score is not finite, or the network lacks the layers that a proxy looks at.
    """
    names = check_proxies(names)
    found: dict[str, float] = {}
    if any(PROXIES[name].shares for name in names):
        found |= _shared(network, images, labels, names)
    if "synflow" in names:
        _, *sides = images.shape
        found["synflow"] = synflow(network, (sides[0], sides[1], sides[2]))
    if "zen" in names:
        count, channels, height, width = images.shape
        found["zen"] = zen(network, (count, channels, height, width))
    for name, value in found.items():
        if not math.isfinite(value):
            raise NasfastError(f"zero-cost: {name} is {value}, expected a finite number")
    return {name: found[name] for name in names if name in found}


def _shared(network: nn.Module, images: Tensor, labels: Tensor, names: Sequence[str]) -> dict[str, float]:
    """What one forward of the batch gives."""
    wanted = {PROXIES[name].shares for name in names}
    codes, fisher = CodeRecorder(), FisherRecorder()
    handles = codes.hooks(network) if "naswot" in names else []
    handles += fisher.hooks(network) if "fisher" in names else []
    by_loss, by_pixels = bool(wanted & {"loss", "flow"}), "pixels" in wanted
    inputs = images.clone().requires_grad_(by_pixels)
    found: dict[str, float] = {}
    with _kept(network), hooks(handles), torch.set_grad_enabled(by_loss or by_pixels):
        logits = network.train()(inputs)
        if by_loss:
            found |= _by_loss(network, functional.cross_entropy(logits, labels), names, fisher, by_pixels)
        if by_pixels:
            found["jacob_cov"] = jacob_cov(torch.autograd.grad(logits.sum(), inputs, materialize_grads=True)[0])
    if "naswot" in names:
        found["naswot"] = codes.value()
    return found


@contextmanager
def _kept(network: nn.Module) -> Iterator[None]:
    """After the block, the network's mode and its buffers are as they were."""
    was_training, buffers = network.training, {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        yield
    finally:
        network.train(was_training)
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])


def _by_loss(
    network: nn.Module, loss: Tensor, names: Sequence[str], fisher: FisherRecorder, keep: bool
) -> dict[str, float]:
    """grad_norm, snip, fisher and grasp; ``keep`` leaves the graph for another backward."""
    weights, second = weights_of(network), "grasp" in names
    gradients = torch.autograd.grad(loss, weights, create_graph=second, retain_graph=second or keep, allow_unused=True)
    pairs = [(w, g) for w, g in zip(weights, gradients, strict=True) if g is not None]
    used, given = [w for w, _ in pairs], [g for _, g in pairs]
    found: dict[str, float] = {}
    if "fisher" in names:
        found["fisher"] = fisher.stop()
    if "grad_norm" in names:
        found["grad_norm"] = grad_norm(given)
    if "snip" in names:
        found["snip"] = snip(used, given)
    if second:
        found["grasp"] = grasp(used, given, keep)
    return found
