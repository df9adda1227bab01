"""The search network of DARTS and PC-DARTS: a stem, search cells, global pooling and a classifier.

Submodule names, and the order in which parameters and then architecture parameters draw random numbers, are those of
the public code, so weights move between the two and a seed means the same thing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasfast.errors import ConfigError
from nasfast.kernels.primitives import INPUTS_PER_NODE, PRIMITIVES, num_edges
from nasfast.nn.cells import PARTIAL_FRACTION, Cell, PartialCell
from nasfast.spaces.darts import derive_genotype
from nasfast.spaces.genotype import Genotype
from nasfast.supernets.relaxation import Relaxation, Softmax, move_in_place

ALPHA_SCALE = 1e-3
"""Architecture parameters start as normal noise of this standard deviation: nearly equal weights."""


def cell_class(partial: bool, fused: bool) -> type[Cell]:
    """The class of search cells: whole or partial channels, on the fused kernels or in plain PyTorch."""
    if fused:
        from nasfast.nn.fused import FusedCell
        from nasfast.nn.fused_partial import FusedPartialCell

        return FusedPartialCell if partial else FusedCell
    return PartialCell if partial else Cell


class SearchNetwork(nn.Module):
    """A network whose cells mix every candidate operation on every edge.

    The first cells keep `C` channels per node; at one and two thirds of the depth a reduction cell halves the size
    and doubles the channels. Architecture parameters are plain tensors that require a gradient: they are in neither
    `parameters()` nor `state_dict()`, but follow `.to(...)`.

    Args:
        C: channels of a node in the first cell (a multiple of 4 with partial channels).
        criterion: loss of (logits, target), used by `_loss` only.
        steps: nodes per cell; multiplier: how many of the last nodes a cell concatenates.
        stem_multiplier: the stem gives `stem_multiplier * C` channels.
        partial: PC-DARTS' partial channels and edge weights.
        fused: cells on the fused kernels, else in plain PyTorch. Same parameters, same results.
        recompute: fused cells save only their inputs and statistics and repeat the forward in backward.

    Attributes:
        relaxation: what makes weights of the architecture parameters; the softmax, unless a strategy sets another.

    Shape: input [N, in_channels, H, W] to logits [N, num_classes].
    """

    def __init__(
        self,
        C: int,
        num_classes: int,
        layers: int,
        criterion: Callable[[Tensor, Tensor], Tensor] | None = None,
        steps: int = 4,
        multiplier: int = 4,
        stem_multiplier: int = 3,
        *,
        in_channels: int = 3,
        primitives: Sequence[str] = PRIMITIVES,
        partial: bool = False,
        fused: bool = True,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        _check_arguments(C, num_classes, layers, steps, multiplier, stem_multiplier, in_channels, partial)
        self._C = C
        self._num_classes = num_classes
        self._layers = layers
        self._criterion = criterion
        self._steps = steps
        self._multiplier = multiplier
        self._stem_multiplier = stem_multiplier
        self._options: dict[str, Any] = {
            "in_channels": in_channels,
            "primitives": tuple(primitives),
            "fused": fused,
            "recompute": recompute,
        }
        self.primitives = tuple(primitives)
        self.partial = partial

        channels = stem_multiplier * C
        self.stem = nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.cells = nn.ModuleList()
        build = cell_class(partial, fused)
        extra = {"recompute": recompute} if fused else {}
        before, previous, channels = channels, channels, C
        reduced = False
        for layer in range(layers):
            reduction = layer in (layers // 3, 2 * layers // 3)
            if reduction:
                channels *= 2
            self.cells.append(
                build(steps, multiplier, before, previous, channels, reduction, reduced, self.primitives, **extra)
            )
            reduced = reduction
            before, previous = previous, multiplier * channels
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(previous, num_classes)
        self.relaxation: Relaxation = Softmax()
        self._initialize_alphas()

    def _initialize_alphas(self) -> None:
        def noise(*size: int) -> Tensor:
            return (ALPHA_SCALE * torch.randn(*size)).requires_grad_()

        edges = num_edges(self._steps)
        self.alphas_normal = noise(edges, len(self.primitives))
        self.alphas_reduce = noise(edges, len(self.primitives))
        if self.partial:
            self.betas_normal = noise(edges)
            self.betas_reduce = noise(edges)

    def arch_parameters(self) -> list[Tensor]:
        """The architecture parameters: alphas [E, K] of the normal and reduction cell, then betas [E] if partial.

        Where a subclass has set ``_arch_parameters``, as public code does, they are those.
        """
        if "_given_arch_parameters" in self.__dict__:
            return list(self.__dict__["_given_arch_parameters"])
        alphas = [self.alphas_normal, self.alphas_reduce]
        return [*alphas, self.betas_normal, self.betas_reduce] if self.partial else alphas

    @property
    def _arch_parameters(self) -> list[Tensor]:
        return self.arch_parameters()

    @_arch_parameters.setter
    def _arch_parameters(self, given: Sequence[Tensor]) -> None:
        self.__dict__["_given_arch_parameters"] = list(given)

    def cell_weights(self, reduction: bool) -> tuple[Tensor, ...]:
        """Operation weights [E, K] that a cell is derived from and, with partial channels, [E] edge weights."""
        weights = self.relaxation.expected(self.alphas_reduce if reduction else self.alphas_normal)
        if not self.partial:
            return (weights,)
        return weights, softmax_per_node(self.betas_reduce if reduction else self.betas_normal, self._steps)

    def forward(self, input: Tensor) -> Tensor:
        s0 = s1 = self.stem(input)
        drawn = self._draw() if self.relaxation.drawn else None
        for cell in self.cells:
            # One softmax per cell, as in the public code: gradients then add up in its order, to the last bit.
            weights = self.cell_weights(bool(cell.reduction)) if drawn is None else drawn[bool(cell.reduction)]
            s0, s1 = s1, cell(s0, s1, *weights)
        return self.classifier(self.global_pooling(s1).flatten(1))

    def _draw(self) -> list[tuple[Any, ...]]:
        """What the normal and the reduction cells are given in one forward: weights, and which edge takes what."""
        if self.partial:
            raise ConfigError("weights are drawn for whole channels: with partial channels, expected the softmax")
        drawn: list[tuple[Any, ...]] = []
        for alphas in (self.alphas_normal, self.alphas_reduce):
            weights = self.relaxation.sample(alphas)
            drawn.append((weights, weights.argmax(1).tolist()) if self.relaxation.hard else (weights,))
        return drawn

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        if self._criterion is None:
            raise ConfigError("_loss needs a criterion: none was given to the network")
        return self._criterion(self(input), target)

    def new(self) -> SearchNetwork:
        """A network of the same shape, device and dtype: fresh weights, a copy of the architecture parameters."""
        twin = self._build_twin()
        twin.relaxation = self.relaxation
        twin.to(device=self.classifier.weight.device, dtype=self.classifier.weight.dtype)
        with torch.no_grad():
            for copy, own in zip(twin.arch_parameters(), self.arch_parameters(), strict=True):
                copy.copy_(own)
        return twin

    def _build_twin(self) -> SearchNetwork:
        return SearchNetwork(*self._shape(), partial=self.partial, **self._options)

    def _shape(self) -> tuple[Any, ...]:
        return (
            self._C,
            self._num_classes,
            self._layers,
            self._criterion,
            self._steps,
            self._multiplier,
            self._stem_multiplier,
        )

    def genotype(self) -> Genotype:
        """The cells that the architecture parameters say now."""
        with torch.no_grad():
            normal, reduce = self.cell_weights(False), self.cell_weights(True)
        return derive_genotype(
            normal[0],
            reduce[0],
            self._steps,
            self._multiplier,
            self.primitives,
            normal[1] if self.partial else None,
            reduce[1] if self.partial else None,
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SearchNetwork:
        """Moves the architecture parameters too, in place: an optimizer that holds them goes on working."""
        super()._apply(fn, recurse)
        move_in_place(self.arch_parameters(), fn)
        return self


def softmax_per_node(betas: Tensor, steps: int) -> Tensor:
    """Edge weights [E] that sum to 1 over the edges into each node."""
    sizes = [INPUTS_PER_NODE + node for node in range(steps)]
    return torch.cat([F.softmax(part, dim=-1) for part in betas.split(sizes)])


def _check_arguments(
    C: int,
    num_classes: int,
    layers: int,
    steps: int,
    multiplier: int,
    stem_multiplier: int,
    in_channels: int,
    partial: bool,
) -> None:
    for name, value in {
        "C": C,
        "num_classes": num_classes,
        "layers": layers,
        "steps": steps,
        "stem_multiplier": stem_multiplier,
        "in_channels": in_channels,
    }.items():
        if value < 1:
            raise ConfigError(f"search network: {name} must be at least 1, got {value}")
    if not 1 <= multiplier <= steps:  # beyond the nodes are the inputs, which a reduction cell halves
        raise ConfigError(
            f"search network: multiplier, the nodes that are concatenated, must be 1 to steps = {steps}, "
            f"got {multiplier}"
        )
    if partial and C % PARTIAL_FRACTION:
        raise ConfigError(f"search network: C must be a multiple of {PARTIAL_FRACTION} with partial channels, got {C}")
