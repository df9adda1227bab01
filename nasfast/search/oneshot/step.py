"""One training step of a weight-shared network along sampled paths, on one rank or several.

The gradients of a step's paths are added. Weights that none of them uses get no gradient, so that neither momentum nor
weight decay moves them. Of several ranks, each computes its share of the images; gradients are averaged over the ranks,
and the running statistics of each BatchNorm over the ranks that used it. All ranks know all paths of the step, hence
which weights are used: nothing is looked for, and ranks send exactly those, in the network's order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nasfast.errors import ConfigError
from nasfast.spaces.base import Rows
from nasfast.supernets.shared import SharedNetwork
from nasfast.supernets.uses import uses_of
from nasfast.training.distributed import Ranks


class StepSums(NamedTuple):
    """Of a step on this rank, over its paths and images: losses, right answers, and how many there were."""

    loss: Tensor
    right: Tensor
    seen: int


def accumulate_paths(
    forward: Callable[[Tensor, Rows], Tensor],
    images: Tensor,
    labels: Tensor,
    rows: Rows,
    *,
    bf16: bool = False,
    distill: bool = False,
    parts: int = 1,
) -> StepSums:
    """Add the gradients of the loss of every path on the whole batch; memory is that of one path on one part of it.

    BatchNorm sees a part at a time; but for it, the gradients do not depend on ``parts``.

    Args:
        forward: The shared network, or :class:`nasfast.supernets.path_forward.PathForward` of it: images and a row
            to logits.
        images: float32 [N, C, H, W], normalised.
        labels: int64 [N].
        rows: int64 [K, D].
        bf16: Compute in bfloat16 where autocast does.
        distill: Every path but the first learns the outputs of the first.
        parts: Equal parts that the images go through in, one after the other.
    """
    if len(labels) % parts:
        raise ConfigError(f"{len(labels)} images cannot be cut into {parts} equal parts")
    sums = [
        _one_part(forward, part, own, rows, bf16, distill, 1 / parts)
        for part, own in zip(images.chunk(parts), labels.chunk(parts), strict=True)
    ]
    loss, right = (torch.stack(found).sum(0) for found in ([s.loss for s in sums], [s.right for s in sums]))
    return StepSums(loss, right, len(rows) * len(labels))


def _one_part(
    forward: Callable[[Tensor, Rows], Tensor],
    images: Tensor,
    labels: Tensor,
    rows: Rows,
    bf16: bool,
    distill: bool,
    weight: float,
) -> StepSums:
    """Add the gradients, times ``weight``, of the loss of every path on these images."""
    loss_sum = torch.zeros((), dtype=torch.float64, device=images.device)
    right = torch.zeros((), dtype=torch.float64, device=images.device)
    target = labels
    for row in rows:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            logits = forward(images, row)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss = F.cross_entropy(logits, target)
        (weight * loss).backward()
        with torch.no_grad():
            loss_sum += loss.double() * len(labels)
            right += (logits.argmax(1) == labels).sum()
            if distill and target is labels:
                target = logits.softmax(1)
    return StepSums(loss_sum, right, len(rows) * len(labels))


@torch.no_grad()
def average_over_ranks(
    network: SharedNetwork, ranks: Ranks, rows_of_ranks: Sequence[Rows], flags: Sequence[Tensor] = (), parts: int = 1
) -> list[Tensor]:
    """After the backward of a step: average gradients and running statistics over the ranks, in one message.

    Args:
        rows_of_ranks: The paths that each rank took in this step.
        flags: Tensors to sum along with the rest, as float32.
        parts: Parts that the images of the step went through in.

    Returns:
        The sums of ``flags``; of one rank, they themselves.
    """
    if ranks.count == 1:
        return list(flags)
    uses = [uses_of(network, rows) for rows in rows_of_ranks]
    own = uses[ranks.index]
    targets: list[Tensor] = []
    given: list[Tensor] = []
    divisors: list[int] = []
    for key, operation in network.ops.items():
        if any(key in use.learning for use in uses):
            for parameter in operation.parameters():
                if parameter.grad is None:  # another rank's path uses it
                    parameter.grad = torch.zeros_like(parameter)
                targets.append(parameter.grad)
                given.append(parameter.grad)
                divisors.append(ranks.count)
        users = sum(key in use.computed for use in uses)
        for name, buffer in operation.named_buffers() if users else ():
            if name.endswith("num_batches_tracked"):
                buffer += parts * (max(use.computed[key] for use in uses) - own.computed[key])
            else:
                targets.append(buffer)
                given.append(buffer if key in own.computed else torch.zeros_like(buffer))
                divisors.append(users)
    sums = ranks.sum([*(flag.float() for flag in flags), *given])
    for target, total, divisor in zip(targets, sums[len(flags) :], divisors, strict=True):
        target.copy_(total / divisor)
    return sums[: len(flags)]
