"""An ensemble of small neural networks, all trained at once."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from nasfast.errors import ConfigError
from nasfast.predictors.base import Features, Scores, standardise


class _Networks(nn.Module):
    """M multilayer perceptrons with weights of their own: [M, K, F] to [M, K]."""

    def __init__(self, members: int, features: int, width: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        sizes = [features, *[width] * layers, 1]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for c_in, c_out in itertools.pairwise(sizes):
            scale = (2.0 / c_in) ** 0.5
            self.weights.append(nn.Parameter(scale * torch.randn(members, c_in, c_out, generator=generator)))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, c_out)))

    def forward(self, x: Tensor) -> Tensor:
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            x = x if layer == last else x.relu()
        return x[..., 0]


class EnsemblePredictor:
    """The mean and the spread of networks that differ in where they start and in the architectures that they see.

    White, Neiswanger, Savani, "BANANAS", AAAI 2021; the ensemble as a posterior: Lakshminarayanan, Pritzel, Blundell,
    "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS 2017. Every member weighs the
    architectures by exponential draws (the Bayesian bootstrap of Rubin, 1981), all train at once on the whole set.

    Args:
        members, width, layers: Networks, units of a hidden layer, hidden layers.
        steps: Steps of Adam.
        lr: Its learning rate, which falls to 0 as a cosine.
        weight_decay: Of all weights.
        seed: Of the start and of the draws.
    """

    def __init__(
        self,
        members: int = 5,
        width: int = 32,
        layers: int = 2,
        steps: int = 120,
        lr: float = 0.01,
        weight_decay: float = 1e-3,
        seed: int = 0,
    ) -> None:
        if min(members - 1, width, layers, steps) < 1:
            raise ConfigError("an ensemble needs two members, and a width, a layer and a step at least")
        self.members, self.width, self.layers = members, width, layers
        self.steps, self.lr, self.weight_decay, self.seed = steps, lr, weight_decay, seed
        self.networks: _Networks | None = None
        self.mean, self.deviation = 0.0, 1.0

    def fit(self, features: Features, scores: Scores) -> None:
        """See :class:`nasfast.predictors.Predictor`."""
        target, self.mean, self.deviation = standardise(scores)
        generator = torch.Generator().manual_seed(self.seed)
        self.networks = _Networks(self.members, features.shape[1], self.width, self.layers, generator)
        weight = torch.empty(self.members, len(scores)).exponential_(generator=generator)
        weight /= weight.sum(1, keepdim=True)
        x = torch.from_numpy(features).expand(self.members, -1, -1)
        y = torch.from_numpy(target).float()
        optimizer = torch.optim.AdamW(self.networks.parameters(), self.lr, weight_decay=self.weight_decay, fused=True)
        for step in range(self.steps):
            optimizer.param_groups[0]["lr"] = self.lr * (1 + math.cos(math.pi * step / self.steps)) / 2
            optimizer.zero_grad(set_to_none=True)
            # The sum over members: each has a gradient of its own.
            (weight * (self.networks(x) - y).square()).sum().backward()
            optimizer.step()

    @torch.no_grad()
    def predict(self, features: Features) -> tuple[Scores, Scores]:
        """See :class:`nasfast.predictors.Predictor`."""
        if self.networks is None:
            raise ConfigError("the ensemble was asked before it was fitted")
        found = self.networks(torch.from_numpy(features).expand(self.members, -1, -1)).double().numpy()
        return self.mean + self.deviation * found.mean(0), self.deviation * found.std(0, ddof=1)
