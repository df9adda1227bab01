"""Proxies by how differently a network sees the images of a batch: naswot and jacob_cov.

- naswot = log |det K|, K_ij = how many rectified units are on for both images i and j or off for both (Mellor, Turner,
  Storkey, Crowley, "Neural Architecture Search without Training", ICML 2021);
- jacob_cov = -sum over the eigenvalues v of the images' correlations of log(v + k) + 1 / (v + k), k = 1e-5, where an
  image's vector is the gradient of the summed logits by its pixels (the same paper, first version, arXiv:2006.04647).

Images that a network does not tell apart make K singular and correlate fully: both scores are then low, and finite.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nasfast.estimators.zero_cost.layers import check_layers

_JACOB_EPSILON = 1e-5
_SMALLEST = 1e-5  # eigenvalue of K, which holds whole numbers


class CodeRecorder:
    """Adds up K during a forward pass through a network on which :meth:`hooks` are."""

    def __init__(self) -> None:
        self.kernel: Tensor | None = None

    def hooks(self, network: nn.Module) -> list[RemovableHandle]:
        layers = check_layers(network, (nn.ReLU, nn.ReLU6), "naswot")
        return [layer.register_forward_pre_hook(self._watch) for layer in layers]

    @torch.no_grad()
    def _watch(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        on = (inputs[0].detach().flatten(1) > 0).to(torch.float32)  # exact below 2^24 units a layer
        both = on @ on.t()
        single = on.sum(1, dtype=torch.float64)
        agree = on.shape[1] - single[:, None] - single[None] + 2 * both.double()
        self.kernel = agree if self.kernel is None else self.kernel + agree

    def value(self) -> float:
        """naswot of what was seen."""
        assert self.kernel is not None
        return float(torch.linalg.eigvalsh(self.kernel).clamp_min(_SMALLEST).log().sum())


def jacob_cov(gradient: Tensor) -> float:
    """jacob_cov of the gradient [N, C, H, W] by the images."""
    rows = gradient.detach().flatten(1).double().cpu().numpy()
    rows = rows - rows.mean(1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    constant = norms[:, 0] == 0
    rows /= np.where(norms == 0, 1.0, norms)
    correlations = np.clip(rows @ rows.T, -1.0, 1.0)
    correlations[constant] = correlations[:, constant] = 1.0
    values = np.linalg.eigvalsh(correlations).clip(0.0) + _JACOB_EPSILON
    return -float(np.sum(np.log(values) + 1.0 / values))
