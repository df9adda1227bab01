"""The network in which every place that a decision chooses for mixes all of its candidates by weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasfast.errors import ConfigError, ShapeError, SpaceError
from nasfast.nn.cells import PARTIAL_FRACTION, channel_shuffle
from nasfast.nn.memory_format import training_layout
from nasfast.spaces.base import Space
from nasfast.spaces.graph import Graph, Node, Op
from nasfast.spaces.graph_network import Zero, make_operation
from nasfast.supernets.cell_network import ALPHA_SCALE
from nasfast.supernets.fused_place import mix_fused, primitive_of
from nasfast.supernets.relaxation import Relaxation, Softmax, move_in_place
from nasfast.supernets.shared import SharedNetwork
from nasfast.supernets.wiring import Place, find_wiring


class MixtureNetwork(nn.Module):
    """All architectures of a space at once: a place gives ``sum_k w[k] * candidate_k(x)``, by its decision's weights.

    Places that follow one decision (an edge of a cell that is stacked) have weights of their own but the same mixture.
    Architecture parameters are plain tensors that require a gradient: they are in neither ``parameters()`` nor
    ``state_dict()``, but follow ``.to(...)``. Parameters have the names of :class:`SharedNetwork`.

    Liu, Simonyan, Yang, "DARTS: Differentiable Architecture Search", ICLR 2019.

    Args:
        space: One with ``fixed_wiring`` (or that is ``mixable``), whose candidates at a place have one shape.
        affine: Candidates' batch normalisation has a weight and a bias. Without, as DARTS has it while it searches, a
            candidate cannot make up for its weight; the names of both are missing then.
        partial: PC-DARTS' partial channels: a quarter is mixed, the rest passes by, and the edges into a node are
            weighed too (Xu et al., ICLR 2020). Candidates have a quarter of the channels.
        fused: Use the fused kernels at places whose candidates are all primitives of the DARTS family.

    Attributes:
        places: How every architecture is wired.
        alphas: Architecture parameters, one tensor [decisions, values] for each number of values.
        relaxation: What makes weights of them.
        layout: The memory format that it computes in; channels_last unless that is unsafe.

    Shape: images [N, in_channels, H, W] to logits [N, num_classes].

    Raises:
        SpaceError: The space is wired by its decisions, or a place has candidates of several shapes.
        ConfigError: ``partial`` where a place changes channels or size, or has no multiple of 4 channels.
    """

    def __init__(
        self,
        space: Space,
        num_classes: int = 10,
        in_channels: int = 3,
        *,
        affine: bool = True,
        partial: bool = False,
        fused: bool = True,
    ) -> None:
        super().__init__()
        if not space.mixable:
            raise SpaceError(
                f"{space.name}: its decisions choose what reads what, so that there is no place to mix candidates at; "
                "expected a space with fixed_wiring, such as nasbench201"
            )
        self.space, self.num_classes, self.in_channels = space, num_classes, in_channels
        self.partial, self.fused = partial, fused
        shared = SharedNetwork(space, num_classes, in_channels)
        self.places: tuple[Place, ...] = shared.places or find_wiring(space, num_classes, in_channels)
        _check_places(space, self.places, partial)
        self.ops = shared.ops
        self._keys = [[shared.key_of(node) if node.weights else "" for node in place.nodes] for place in self.places]
        self._graph = Graph((), space.operations)
        self._prepare_candidates(affine)
        self._primitives = [self._primitives_of(place) for place in self.places]
        last_reader = {source: i for i, place in enumerate(self.places) for source in place.nodes[0].inputs}
        self._free: list[list[int]] = [[] for _ in self.places]
        for source, reader in last_reader.items():
            self._free[reader].append(source)
        self.layout = training_layout(self, "cpu")
        self.relaxation: Relaxation = Softmax()
        self._make_alphas()

    def _prepare_candidates(self, affine: bool) -> None:
        """Candidates without affine normalisation, and on a share of the channels, where that is asked for."""
        for place, keys in zip(self.places, self._keys, strict=True):
            for node, key in zip(place.nodes, keys, strict=True):
                if place.decision < 0 or not key:
                    continue
                assert node.op is not None
                if self.partial:
                    self.ops[key] = make_operation(self._graph, _quarter(node.op))
                if not affine:
                    _drop_affine(self.ops[key])

    def _primitives_of(self, place: Place) -> tuple[str, ...] | None:
        """Names for the fused kernel of a place's candidates; None where one of them has none."""
        if place.decision < 0 or not self.fused:
            return None
        names = [primitive_of(self.space.operations, node.op) for node in place.nodes if node.op is not None]
        return None if None in names else tuple(name for name in names if name is not None)

    def _make_alphas(self) -> None:
        sizes = self.space.sizes.tolist()
        groups = list(dict.fromkeys(sizes))
        self.alphas = [(ALPHA_SCALE * torch.randn(sizes.count(k), k)).requires_grad_() for k in groups]
        rows = dict.fromkeys(groups, 0)
        self._rows: list[tuple[int, int]] = []  # tensor and row of each decision
        for size in sizes:
            self._rows.append((groups.index(size), rows[size]))
            rows[size] += 1
        self.betas = (ALPHA_SCALE * torch.randn(len(sizes))).requires_grad_() if self.partial else None
        self._joined = _joined_decisions(self.places) if self.partial else []

    def arch_parameters(self) -> list[Tensor]:
        """The alphas and, with partial channels, the edges' betas [decisions]."""
        return [*self.alphas, *([] if self.betas is None else [self.betas])]

    def _of_decisions(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [tensors[group][row] for group, row in self._rows]

    def expected_weights(self) -> list[Tensor]:
        """Weights [values] of every decision, from which an architecture is derived."""
        return self._of_decisions([self.relaxation.expected(alpha) for alpha in self.alphas])

    def sample_weights(self) -> list[Tensor]:
        """Weights [values] of every decision for one forward."""
        return self._of_decisions([self.relaxation.sample(alpha) for alpha in self.alphas])

    def edge_weights(self) -> Tensor | None:
        """Weights [decisions] of the edges, which sum to 1 over those into one node; None without partial channels."""
        if self.betas is None:
            return None
        weights = torch.ones_like(self.betas)
        for group in self._joined:
            index = torch.tensor(group, device=weights.device)
            weights = weights.index_copy(0, index, F.softmax(self.betas[index], dim=0))
        return weights

    def forward(self, images: Tensor, weights: Sequence[Tensor] | None = None) -> Tensor:
        """Logits.

        Args:
            weights: One tensor [values] per decision, in place of those that the architecture parameters give. Of
                these, and of hard samples, candidates of weight zero are left out: they cost nothing, and their weight
                gets no gradient.
        """
        if images.dim() != 4 or images.shape[1] != self.in_channels:
            raise ShapeError(f"images must be [N, {self.in_channels}, H, W], got {list(images.shape)}")
        skips_zeros = weights is not None or self.relaxation.hard
        weights = self._check_weights(weights) if weights is not None else self.sample_weights()
        live = _values(weights) if skips_zeros else [None] * len(weights)
        edges = self.edge_weights()
        values: dict[int, Tensor] = {}
        for index, place in enumerate(self.places):
            node = place.nodes[0]
            read = [values[source] for source in node.inputs]
            if node.kind == "input":
                values[index] = images.contiguous(memory_format=self.layout)
            elif node.kind == "sum":
                values[index] = functools.reduce(torch.add, self._weigh(node, read, edges))
            elif node.op is None:
                values[index] = torch.cat(read, 1)
            elif place.decision < 0:
                values[index] = self._apply_operation(node, self._keys[index][0], read[0])
            else:
                values[index] = self._mix(index, read[0], weights[place.decision], live[place.decision])
            for source in self._free[index]:
                del values[source]
        return values[len(self.places) - 1]

    def _check_weights(self, weights: Sequence[Tensor]) -> Sequence[Tensor]:
        shapes, expected = [list(w.shape) for w in weights], [[size] for size in self.space.sizes.tolist()]
        if shapes != expected:
            raise ShapeError(f"{self.space.name}: weights must be of shapes {expected}, got {shapes}")
        return weights

    def _weigh(self, node: Node, read: list[Tensor], edges: Tensor | None) -> list[Tensor]:
        """Summands by the weights of the edges they come over."""
        if edges is None:
            return read
        decisions = [self.places[source].decision for source in node.inputs]
        if tuple(decisions) not in self._joined:
            return read
        return [edges[decision] * value for decision, value in zip(decisions, read, strict=True)]

    def _apply_operation(self, node: Node, key: str, x: Tensor) -> Tensor:
        assert node.op is not None
        if node.op.is_identity:
            return x
        return Zero(node.op.c_out, node.op.stride)(x) if node.op.is_zero else self.ops[key](x)

    def _mix(self, index: int, x: Tensor, weights: Tensor, live: list[float] | None) -> Tensor:
        if not self.partial:
            return self._mix_all(index, x, weights, live)
        taken = x.shape[1] // PARTIAL_FRACTION
        first = x[:, :taken].contiguous(memory_format=self.layout)
        mixed = self._mix_all(index, first, weights, live)
        joined = channel_shuffle(torch.cat([mixed, x[:, taken:]], 1), PARTIAL_FRACTION)
        return joined.contiguous(memory_format=self.layout)

    def _mix_all(self, index: int, x: Tensor, weights: Tensor, live: list[float] | None) -> Tensor:
        place, keys, primitives = self.places[index], self._keys[index], self._primitives[index]
        chosen = [
            k
            for k, node in enumerate(place.nodes)
            if node.op is not None and not node.op.is_zero and (live is None or live[k] != 0)
        ]
        op = place.nodes[0].op
        assert op is not None
        if not chosen:
            return Zero(x.shape[1] if self.partial else op.c_out, op.stride)(x)
        if primitives is not None:
            modules = [self.ops[keys[k]] if keys[k] else nn.Identity() for k in chosen]
            mixed = mix_fused(x, weights[chosen], [primitives[k] for k in chosen], modules, op.stride)
            return mixed.contiguous(memory_format=self.layout)
        parts = weights.unbind()
        terms = [parts[k] * self._apply_operation(place.nodes[k], keys[k], x) for k in chosen]
        return functools.reduce(torch.add, terms)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MixtureNetwork:
        super()._apply(fn, recurse)
        move_in_place(self.arch_parameters(), fn)
        return self


def _values(weights: Sequence[Tensor]) -> list[list[float] | None]:
    """The numbers of every decision's weights, read from the device at once."""
    flat = iter(torch.cat([w.detach() for w in weights]).tolist())
    return [[next(flat) for _ in range(len(w))] for w in weights]


def _check_places(space: Space, places: Sequence[Place], partial: bool) -> None:
    for place in places:
        if place.decision < 0:
            continue
        name = space.decisions[place.decision].name
        shapes = {(node.op.c_in, node.op.c_out, node.op.stride) for node in place.nodes if node.op is not None}
        if len(shapes) != 1:
            raise SpaceError(f"{space.name}: {name} chooses among outputs of several shapes, which cannot be mixed")
        c_in, c_out, stride = shapes.pop()
        if partial and (c_in != c_out or stride != 1):
            raise ConfigError(
                f"{space.name}: partial channels need operations that keep channels and size, so that the rest can "
                f"pass by, but {name} goes from {c_in} to {c_out} channels with stride {stride}"
            )
        if partial and not any(node.weights for node in place.nodes):
            raise ConfigError(
                f"{space.name}: with partial channels most of them would pass by {name}, which chooses whether any do"
            )
        if partial and c_in % PARTIAL_FRACTION:
            raise ConfigError(
                f"{space.name}: partial channels need a multiple of {PARTIAL_FRACTION} channels, {name} has {c_in}"
            )


def _quarter(op: Op) -> Op:
    return replace(op, c_in=op.c_in // PARTIAL_FRACTION, c_out=op.c_out // PARTIAL_FRACTION)


def _drop_affine(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.affine = False
            layer.register_parameter("weight", None)
            layer.register_parameter("bias", None)


def _joined_decisions(places: Sequence[Place]) -> list[tuple[int, ...]]:
    """The decisions whose places are summed, for every such sum; each decision is in one at most.

    Raises:
        ConfigError: A decision is summed with these here and with others there.
    """
    groups = list[tuple[int, ...]]()
    for place in places:
        node = place.nodes[0]
        decisions = tuple(places[source].decision for source in node.inputs)
        if node.kind == "sum" and min(decisions) >= 0 and decisions not in groups:
            groups.append(decisions)
    flat = [decision for group in groups for decision in group]
    if len(set(flat)) < len(flat):
        raise ConfigError("partial channels: one decision's edge flows into nodes with different other edges")
    return groups
