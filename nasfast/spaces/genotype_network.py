"""The network a genotype stands for: only the chosen operations, trained from scratch or from the supernet's weights.

Submodule names are those of the public DARTS code (stem, cells.i.preprocess0, cells.i._ops.j, auxiliary_head,
classifier), so published weights load with `load_state_dict`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nasfast.errors import ConfigError, ShapeError
from nasfast.kernels.primitives import INPUTS_PER_NODE, PRIMITIVES, num_edges
from nasfast.nn.primitives import FactorizedReduce, Identity, ReLUConvBN, build_primitive
from nasfast.spaces.genotype import Genotype

STEM_MULTIPLIER = 3


def drop_path(x: Tensor, probability: float, generator: torch.Generator | None = None) -> Tensor:
    """Zero whole samples with this probability and scale the others by 1 / (1 - probability).

    Larsson, Maire, Shakhnarovich, "FractalNet: Ultra-Deep Neural Networks without Residuals", ICLR 2017.

    Shape: x [N, C, H, W] to the same.
    """
    keep = 1.0 - probability
    mask = torch.rand((x.shape[0], 1, 1, 1), generator=generator, device=x.device) < keep
    return x * (mask.to(x.dtype) / keep)


class DerivedCell(nn.Module):
    """A cell with two chosen operations per node.

    Shape: s0 [N, C_prev_prev, H0, W0], s1 [N, C_prev, H, W] to [N, len(concat) * C, H', W'].
    """

    def __init__(
        self,
        genotype: Genotype,
        c_prev_prev: int,
        c_prev: int,
        channels: int,
        reduction: bool,
        reduction_prev: bool,
    ) -> None:
        super().__init__()
        self.preprocess0: nn.Module
        if reduction_prev:
            self.preprocess0 = FactorizedReduce(c_prev_prev, channels)
        else:
            self.preprocess0 = ReLUConvBN(c_prev_prev, channels, 1, 1, 0)
        self.preprocess1 = ReLUConvBN(c_prev, channels, 1, 1, 0)
        edges = genotype.reduce if reduction else genotype.normal
        self.reduction = reduction
        self._concat = genotype.reduce_concat if reduction else genotype.normal_concat
        self.multiplier = len(self._concat)
        self._indices = tuple(source for _, source in edges)
        self._ops = nn.ModuleList(
            build_primitive(name, channels, 2 if reduction and source < INPUTS_PER_NODE else 1, affine=True)
            for name, source in edges
        )

    def forward(
        self, s0: Tensor, s1: Tensor, drop_probability: float = 0.0, generator: torch.Generator | None = None
    ) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        inputs: list[Tensor] = []
        for op, source in zip(self._ops, self._indices, strict=True):
            out = op(states[source])
            if self.training and drop_probability > 0 and not isinstance(op, Identity):
                out = drop_path(out, drop_probability, generator)
            inputs.append(out)
            if len(inputs) == INPUTS_PER_NODE:
                states.append(inputs[0] + inputs[1])
                inputs = []
        return torch.cat([states[i] for i in self._concat], dim=1)


class _AuxiliaryPool(nn.Module):
    """Pool a feature map to 2x2: 5x5 windows 3 apart on the 8x8 maps of CIFAR, even shares on every other size."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if (height, width) == (8, 8):
            return nn.functional.avg_pool2d(x, 5, stride=3, count_include_pad=False)
        if min(height, width) < 2:
            raise ShapeError(
                f"auxiliary head: needs feature maps of at least 2x2, got {height}x{width}; "
                "use images of at least 8x8 or train without the auxiliary head"
            )
        return nn.functional.adaptive_avg_pool2d(x, 2)


class AuxiliaryHead(nn.Module):
    """A second classifier two thirds up the network, used in training only.

    Szegedy et al., "Going Deeper with Convolutions", CVPR 2015. Shape: [N, C, H, W], H and W >= 2, to [N, num_classes].
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.ReLU(inplace=False),
            _AuxiliaryPool(),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(inplace=False),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(inplace=False),
        )
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class DerivedNetwork(nn.Module):
    """The stacked cells of a genotype: normal cells, and reduction cells at one and two thirds of the depth.

    Args:
        C: channels of a node in the first cell; both reductions double it.
        auxiliary: add the auxiliary head (two thirds up; it works in training mode only).
        drop_path_prob: share of samples whose path through an operation is dropped, in training mode; may be changed at
            any time. Identities are never dropped.

    Attributes:
        drop_path_generator: source of the drop path masks, on the input's device; the global one where None.

    Shape: input [N, in_channels, H, W] to (logits [N, num_classes], auxiliary logits of the same shape or None).

    Raises:
        ConfigError: C, num_classes, layers or in_channels below 1, or drop_path_prob not in [0, 1).
    """

    def __init__(
        self,
        C: int,
        num_classes: int,
        layers: int,
        auxiliary: bool,
        genotype: Genotype,
        *,
        in_channels: int = 3,
        drop_path_prob: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value in {"C": C, "num_classes": num_classes, "layers": layers, "in_channels": in_channels}.items():
            if value < 1:
                raise ConfigError(f"derived network: {name} must be at least 1, got {value}")
        if not 0 <= drop_path_prob < 1:
            raise ConfigError(f"derived network: drop_path_prob must be in [0, 1), got {drop_path_prob}")
        self.drop_path_prob = drop_path_prob
        self.drop_path_generator: torch.Generator | None = None
        self._layers = layers
        self._auxiliary = auxiliary
        stem_channels = STEM_MULTIPLIER * C
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, stem_channels, 3, padding=1, bias=False), nn.BatchNorm2d(stem_channels)
        )
        self.cells = nn.ModuleList()
        before, previous, channels, reduced = stem_channels, stem_channels, C, False
        for layer in range(layers):
            reduction = layer in (layers // 3, 2 * layers // 3)
            if reduction:
                channels *= 2
            cell = DerivedCell(genotype, before, previous, channels, reduction, reduced)
            self.cells.append(cell)
            reduced = reduction
            before, previous = previous, cell.multiplier * channels
            if layer == 2 * layers // 3:
                auxiliary_channels = previous
        if auxiliary:
            self.auxiliary_head = AuxiliaryHead(auxiliary_channels, num_classes)
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(previous, num_classes)

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor | None]:
        auxiliary_logits = None
        s0 = s1 = self.stem(input)
        for layer, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1, self.drop_path_prob, self.drop_path_generator)
            if layer == 2 * self._layers // 3 and self._auxiliary and self.training:
                auxiliary_logits = self.auxiliary_head(s1)
        return self.classifier(self.global_pooling(s1).flatten(1)), auxiliary_logits


def count_parameters(network: nn.Module) -> int:
    """Trainable parameters without the auxiliary head, as papers count them."""
    return sum(p.numel() for name, p in network.named_parameters() if not name.startswith("auxiliary"))


def inherit_weights(
    network: DerivedNetwork,
    genotype: Genotype,
    search_state: Mapping[str, Tensor],
    primitives: Sequence[str] = PRIMITIVES,
) -> int:
    """Copy the search network's weights and running statistics of every chosen operation into a derived network.

    What the search network does not have (BatchNorm's scale and shift inside its cells, the auxiliary head) stays as it
    was initialised.

    Args:
        search_state: the state_dict of a search network of the same channels and layers.
        primitives: candidates of its edges, in order.

    Returns:
        How many tensors were copied.

    Raises:
        ConfigError: another number of layers, other channels, partial channels, or a primitive that was no candidate.
    """
    names = _search_names(network, genotype, search_state, primitives)
    state = network.state_dict()
    copied = 0
    with torch.no_grad():
        for name, source in names.items():
            found = search_state.get(source)
            if found is None:
                if not _is_affine(network, name):
                    raise ConfigError(f"inherited weights: the search network has no {source}")
                continue
            if found.shape != state[name].shape:
                raise ConfigError(
                    f"inherited weights: {name} is {list(state[name].shape)}, the search network has "
                    f"{list(found.shape)}; expected the channels, stem and classes of the search network"
                )
            state[name].copy_(found)
            copied += 1
    return copied


def _search_names(
    network: DerivedNetwork, genotype: Genotype, search_state: Mapping[str, Tensor], primitives: Sequence[str]
) -> dict[str, str]:
    """Name of every tensor of the derived network -> its name in the search network; the auxiliary head has none."""
    layers = len({name.split(".")[1] for name in search_state if name.startswith("cells.")})
    if layers != len(network.cells):
        raise ConfigError(
            f"inherited weights: the derived network has {len(network.cells)} layers, the search network {layers}; "
            "expected equal"
        )
    names: dict[str, str] = {}
    for name in network.state_dict():
        parts = name.split(".")
        if parts[0] == "auxiliary_head":
            continue
        if parts[0] == "cells" and parts[2] == "_ops":
            cell = network.cells[int(parts[1])]
            assert isinstance(cell, DerivedCell)
            edge, candidate = _search_place(
                genotype.reduce if cell.reduction else genotype.normal, parts[3], primitives
            )
            parts[3:4] = [str(edge), "_ops", str(candidate)]
        names[name] = ".".join(parts)
    return names


def _search_place(edges: Sequence[tuple[str, int]], position: str, primitives: Sequence[str]) -> tuple[int, int]:
    """Edge of the search cell and candidate on it that became operation ``position`` of a derived cell."""
    primitive, source = edges[int(position)]
    if primitive not in primitives:
        raise ConfigError(f"inherited weights: {primitive} was no candidate of the search ({', '.join(primitives)})")
    return num_edges(int(position) // INPUTS_PER_NODE) + source, list(primitives).index(primitive)


def _is_affine(network: nn.Module, name: str) -> bool:
    """Whether a tensor is the scale or shift of a BatchNorm, which a search network leaves out."""
    owner, _, attribute = name.rpartition(".")
    return attribute in ("weight", "bias") and isinstance(network.get_submodule(owner), nn.BatchNorm2d)
