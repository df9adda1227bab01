"""A network for tables: piecewise-linear embeddings into a chain of blocks, members and folds side by side.

Members share all weights but a scale per feature and their head (TabM, Gorishniy et al. 2025); numbers are read
piecewise linearly ("On embeddings for numerical features", Gorishniy et al. 2022), by `nasfast.kernels.table`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasfast.automl.network.dropout import MaskPool
from nasfast.automl.network.settings import NetworkSettings
from nasfast.kernels.table import TableLayout, table_embedding

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "silu": F.silu, "gelu": F.gelu}


class TableNetwork(nn.Module):
    """Networks of the same form for every fold; nothing flows between folds.

    Args:
        layout: Of the encoded table.
        outputs: Numbers per row and member: classes, or 1.
        groups: Folds.
        settings: Form of the network.
        generator: Draws the weights.
    """

    def __init__(
        self, layout: TableLayout, outputs: int, groups: int, settings: NetworkSettings, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.layout, self.settings = layout, settings
        features, rows = len(layout.increments), sum(layout.increments) + sum(layout.lookups)
        width, members = settings.width, settings.members

        def uniform(*shape: int, fan_in: int) -> nn.Parameter:
            bound = 1 / math.sqrt(fan_in)
            return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))

        # Every fold starts from the same weights: what differs between them is the rows they see.
        def same(parameter: nn.Parameter) -> nn.Parameter:
            return nn.Parameter(parameter.detach().expand(groups, *parameter.shape).clone())

        self.embedding = same(uniform(rows, width, fan_in=features))
        signs = torch.randint(0, 2, (members, features), generator=generator) * 2.0 - 1
        self.scales = same(nn.Parameter(signs if members > 1 else torch.ones(1, features)))
        self.bias = same(uniform(1, 1, width, fan_in=features))
        self.weights = nn.ParameterList(same(uniform(width, width, fan_in=width)) for _ in range(settings.depth))
        self.biases = nn.ParameterList(same(uniform(1, width, fan_in=width)) for _ in range(settings.depth))
        self.head = same(uniform(members, width, outputs, fan_in=width))
        self.head_bias = same(nn.Parameter(torch.zeros(members, 1, outputs)))

    def forward(self, bins: Tensor, fractions: Tensor, rows: Tensor | None, masks: MaskPool | None = None) -> Tensor:
        """Outputs [groups, members, B, outputs] of the rows int64 [groups, B] of an encoded table, or of all rows.

        Args:
            masks: Of dropout, while training.
        """
        s = self.settings
        activation = _ACTIVATIONS[s.activation]
        h = table_embedding(self.embedding, bins, fractions, self.scales, self.layout, rows) + self.bias
        groups, batch, members, width = h.shape
        h = activation(h).reshape(groups, batch * members, width)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = h if masks is None else masks.apply(h)
            x = activation(torch.baddbmm(bias, x, weight))
            h = h + x if s.block == "resnet" else x
        h = h if masks is None else masks.apply(h)
        h = h.view(groups, batch, members, width).transpose(1, 2).reshape(groups * members, batch, width)
        out = torch.bmm(h, self.head.view(groups * members, width, -1))
        return out.view(groups, members, batch, -1) + self.head_bias
