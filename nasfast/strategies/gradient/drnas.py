"""DrNAS: the weights of a forward are drawn from Dirichlet distributions, whose concentrations are learned.

X. Chen, R. Wang, M. Cheng, X. Tang, C.-J. Hsieh, "DrNAS: Dirichlet Neural Architecture Search", ICLR 2021. Without the
paper's second part, the widening of partial channels in stages.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def concentrations(alphas: Tensor) -> Tensor:
    """Concentrations of the Dirichlet distributions, ``elu(alphas) + 1``: above 0, and 1 at alphas of 0."""
    return F.elu(alphas) + 1


def dirichlet_mean(alphas: Tensor) -> Tensor:
    """Mean weights [E, K]."""
    values = concentrations(alphas)
    return values / values.sum(-1, keepdim=True)


def dirichlet_weights(alphas: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Weights [E, K] drawn row by row from Dirichlet(elu(alphas) + 1), with the pathwise gradient of the draw.

    A Dirichlet draw is a row of gamma draws over its sum, and gamma draws are differentiable in their concentration
    (M. Figurnov, S. Mohamed, A. Mnih, "Implicit Reparameterization Gradients", NeurIPS 2018). Float64 within, because
    gamma draws of low concentrations are tiny.
    """
    draws = torch._standard_gamma(concentrations(alphas).double(), generator)
    draws = draws.clamp_min(torch.finfo(draws.dtype).tiny)
    return (draws / draws.sum(-1, keepdim=True)).to(alphas.dtype)


def anchor_distance(alphas: Sequence[Tensor]) -> Tensor:
    """Kullback-Leibler divergence of the distributions from the flat one (all concentrations 1), summed over all rows.

    Added to the architecture's loss, it keeps concentrations from growing without bound, and draws from dying out.
    """
    total = torch.zeros((), dtype=alphas[0].dtype, device=alphas[0].device)
    for alpha in alphas:
        values = concentrations(alpha)
        whole = values.sum(-1)
        rows = torch.lgamma(whole) - torch.lgamma(values).sum(-1)
        rows = rows - torch.lgamma(torch.full_like(whole, values.shape[-1]))
        rows = rows + ((values - 1) * (torch.digamma(values) - torch.digamma(whole)[..., None])).sum(-1)
        total = total + rows.sum()
    return total
