"""Steps of a DARTS search: one on the weights, and one on the architecture, of first or second order.

Functions of a network and its optimizers, with no state of their own. Every loss is ``criterion(network(inputs),
targets)``; the network is in train mode, and its weights are ``parameters()``, its architecture ``arch_parameters()``.

H. Liu, K. Simonyan, Y. Yang, "DARTS: Differentiable Architecture Search", arXiv:1806.09055.
Y. Xu et al., "PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search", arXiv:1907.05737: the
same steps on another network, with the architecture left alone for the first epochs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from nasfast.supernets.cell_network import SearchNetwork
from nasfast.supernets.mixture import MixtureNetwork

Network = SearchNetwork | MixtureNetwork
Criterion = Callable[[Tensor, Tensor], Tensor]

_RADIUS = 0.01
"""Length of the finite-difference step on the weights; the paper's epsilon is this over the norm of the gradient."""
_SMALLEST_NORM = 1e-12


class Batch(NamedTuple):
    """Inputs ``[B, C, H, W]`` and class numbers ``[B]``."""

    inputs: Tensor
    targets: Tensor


class StepResult(NamedTuple):
    """Loss (a detached scalar) and logits of a step. They stay on the device: a step never waits for it."""

    loss: Tensor
    logits: Tensor


def cosine_rate(epoch: int, epochs: int, highest: float, lowest: float) -> float:
    """Learning rate of an epoch: half a cosine from ``highest`` at epoch 0 towards ``lowest`` at epoch ``epochs``."""
    return lowest + 0.5 * (highest - lowest) * (1 + math.cos(math.pi * epoch / epochs))


def weight_step(
    network: Network, criterion: Criterion, optimizer: torch.optim.Optimizer, batch: Batch, clip: float
) -> StepResult:
    """One step on the weights alone, with the norm of all their gradients clipped at ``clip``."""
    weights: list[Tensor] = list(network.parameters())
    logits = network(batch.inputs)
    loss = criterion(logits, batch.targets)
    _set_gradients(weights, torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True))
    torch.nn.utils.clip_grad_norm_(weights, clip, foreach=True)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return StepResult(loss.detach(), logits.detach())


def first_order_step(
    network: Network,
    criterion: Criterion,
    arch_optimizer: torch.optim.Optimizer,
    valid: Batch,
    penalty: Tensor | None = None,
) -> StepResult:
    """One step on the architecture at the present weights, whose gradients are neither asked for nor computed.

    Args:
        penalty: A function of the architecture to add to the loss; the loss that is returned is without it.
    """
    alphas = network.arch_parameters()
    logits = network(valid.inputs)
    loss = criterion(logits, valid.targets)
    total = loss if penalty is None else loss + penalty
    _arch_update(alphas, _arch_gradients(total, alphas), arch_optimizer)
    return StepResult(loss.detach(), logits.detach())


class UnrollBuffers:
    """Memory of the second-order step, allocated once: a copy of the weights, a direction, the running statistics."""

    def __init__(self, network: Network) -> None:
        self._weights: list[Tensor] = list(network.parameters())
        self._statistics = list(network.buffers())
        self._kept_weights = _views(self._weights)[1]
        self._kept_statistics = [torch.empty_like(buffer) for buffer in self._statistics]
        self.flat_direction, self.direction = _views(self._weights)

    @contextmanager
    def unrolled(self) -> Iterator[None]:
        """Lets the block change weights and move running statistics; afterwards both have the bits they had before."""
        with torch.no_grad():
            torch._foreach_copy_(self._kept_weights, self._weights)
            torch._foreach_copy_(self._kept_statistics, self._statistics)
        try:
            yield
        finally:
            self.rewind()
            with torch.no_grad():
                torch._foreach_copy_(self._statistics, self._kept_statistics)

    @torch.no_grad()
    def rewind(self) -> None:
        """Put the weights back to where :meth:`unrolled` began."""
        torch._foreach_copy_(self._weights, self._kept_weights)

    @torch.no_grad()
    def move(self, factor: float) -> None:
        """Add ``factor`` times the direction to the weights."""
        torch._foreach_add_(self._weights, self.direction, alpha=factor)


def second_order_step(
    network: Network,
    criterion: Criterion,
    weight_optimizer: torch.optim.Optimizer,
    arch_optimizer: torch.optim.Optimizer,
    buffers: UnrollBuffers,
    train: Batch,
    valid: Batch,
) -> StepResult:
    """One step on the architecture at the weights that the next SGD step on ``train`` would give (without clipping).

    The gradient through that step is the paper's finite difference (its equation 8). The weights are moved in place and
    put back bit for bit, and so are the running statistics of BatchNorm, which forwards at other weights would blur.
    The one wait for the device is for the norm that the length of the finite difference depends on.

    Args:
        weight_optimizer: SGD with one group; its rate, momentum, weight decay and momentum buffers are read.
        buffers: Made once for this network.
        train: The batch that the following step on the weights takes.
        valid: The batch that judges the architecture.
    """
    weights: list[Tensor] = list(network.parameters())
    alphas = network.arch_parameters()
    rate = float(weight_optimizer.param_groups[0]["lr"])
    with buffers.unrolled():
        loss = criterion(network(train.inputs), train.targets)
        gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        _sgd_direction(buffers.direction, weights, gradients, weight_optimizer)
        buffers.move(-rate)
        logits = network(valid.inputs)
        loss = criterion(logits, valid.targets)
        both = torch.autograd.grad(loss, [*alphas, *weights], allow_unused=True, materialize_grads=True)
        direct, outer = both[: len(alphas)], both[len(alphas) :]

        torch._foreach_copy_(buffers.direction, outer)
        epsilon = _RADIUS / max(float(buffers.flat_direction.norm()), _SMALLEST_NORM)
        buffers.rewind()
        buffers.move(epsilon)
        ahead = _arch_gradients(criterion(network(train.inputs), train.targets), alphas)
        buffers.move(-2 * epsilon)
        behind = _arch_gradients(criterion(network(train.inputs), train.targets), alphas)
        total = [d - rate * (a - b) / (2 * epsilon) for d, a, b in zip(direct, ahead, behind, strict=True)]
    _arch_update(alphas, total, arch_optimizer)
    return StepResult(loss.detach(), logits.detach())


@torch.no_grad()
def _sgd_direction(
    direction: list[Tensor], weights: list[Tensor], gradients: Sequence[Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """What an SGD step with momentum and weight decay subtracts, over the rate: momentum * m + (gradient + decay * w).

    Rounded in the order of the public code: where a relu sits at its kink, the last bit decides which way it goes.
    """
    group = optimizer.param_groups[0]
    torch._foreach_copy_(direction, weights)
    torch._foreach_mul_(direction, group["weight_decay"])
    torch._foreach_add_(direction, list(gradients))
    moments = [optimizer.state[weight].get("momentum_buffer") for weight in weights]
    moving = [(own, moment) for own, moment in zip(direction, moments, strict=True) if moment is not None]
    if moving:
        scaled = torch._foreach_mul([moment for _, moment in moving], group["momentum"])
        torch._foreach_add_([own for own, _ in moving], scaled)


def _views(tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """A flat tensor and one view of it in the shape of each of ``tensors``."""
    sizes = [tensor.numel() for tensor in tensors]
    flat = tensors[0].new_zeros(sum(sizes), requires_grad=False)
    return flat, [part.view(tensor.shape) for part, tensor in zip(flat.split(sizes), tensors, strict=True)]


def _arch_gradients(loss: Tensor, alphas: list[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of the architecture; 0 for a kind of cell that a shallow network does not have."""
    return torch.autograd.grad(loss, alphas, allow_unused=True, materialize_grads=True)


def _set_gradients(tensors: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    for tensor, gradient in zip(tensors, gradients, strict=True):
        tensor.grad = gradient


def _arch_update(alphas: list[Tensor], gradients: Sequence[Tensor], optimizer: torch.optim.Optimizer) -> None:
    _set_gradients(alphas, gradients)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
