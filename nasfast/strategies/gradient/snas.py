"""SNAS: the weights of a forward are drawn from a relaxed categorical distribution, which grows sharper over time.

S. Xie, H. Zheng, C. Liu, L. Lin, "SNAS: Stochastic Neural Architecture Search", ICLR 2019. The paper trains weights and
architecture on the same images; here the architecture learns on images of its own, as with the other strategies.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURES = (1.0, 0.1)
"""Of the first and the last epoch; the paper leaves them open."""


def gumbel_noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Noise of the standard Gumbel distribution, in the shape, dtype and device of a tensor."""
    draw = torch.empty_like(like, requires_grad=False).exponential_(generator=generator)
    return -draw.clamp_min(torch.finfo(like.dtype).tiny).log()


def concrete_weights(alphas: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """``softmax((alphas + noise) / temperature)``: [E, K] to weights [E, K], rows sum to 1 (the paper's equation 4).

    With Gumbel noise, the largest weight is where a draw from softmax(alphas) falls, at any temperature.

    Args:
        temperature: Above 0; towards 0 the weights become one-hot.
    """
    return F.softmax((alphas + noise) / temperature, dim=-1)
