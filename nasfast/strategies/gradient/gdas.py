"""GDAS: one candidate per decision is drawn and computed in each forward; its gradient reaches the architecture.

X. Dong, Y. Yang, "Searching for a Robust Neural Architecture in Four GPU Hours", CVPR 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nasfast.strategies.gradient.snas import concrete_weights

TEMPERATURES = (10.0, 0.1)
"""Of the first and the last epoch, as in the benchmark of Dong and Yang, "NAS-Bench-201", ICLR 2020."""


def gdas_weights(alphas: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """One-hot weights [E, K]: 1 for the largest of ``alphas + noise``, exactly 0 for the others.

    Backward, the 1 stands for its relaxed weight, ``softmax((alphas + noise) / temperature)``; weights of candidates
    that were not drawn get no gradient, so that these need not be computed.

    Args:
        alphas: [E, K].
        noise: [E, K], see :func:`nasfast.strategies.gradient.snas.gumbel_noise`: the draw then follows softmax(alphas).
        temperature: Above 0.
    """
    soft = concrete_weights(alphas, noise, temperature)
    drawn = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
    return drawn + drawn * (soft - soft.detach())
