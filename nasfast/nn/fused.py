"""The modules of `nasfast.nn.cells` on the fused kernels: same constructors, parameters, names and results.

Their candidates are never called: weights and BatchNorm buffers are read from them, at every call. So a hook on a
candidate, another layer in its place, or BatchNorms of several settings would go unseen; each is refused instead.
Hooks on a fused module itself, and parametrized weights (`torch.nn.utils.parametrize`), work. A compiled module
(`torch.compile`) is checked when it is traced: a layer replaced after that needs another compilation. Global module
hooks see a fused module as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nasfast.errors import NasfastError
from nasfast.kernels import ops
from nasfast.kernels.primitives import INPUTS_PER_NODE
from nasfast.nn.cells import Cell, MixedOp, PartialMixedOp
from nasfast.nn.checkpointing import saved_last
from nasfast.nn.fused_contract import Structure, first_difference, walk

_INSTEAD = "build the network with fused=False, or take the module of nasfast.nn.cells and accelerate() it"


class NormSettings(NamedTuple):
    """What all BatchNorms of one kernel call have in common; momentum None is the average over all batches."""

    training: bool
    track_running_stats: bool
    eps: float
    momentum: float | None


def norm_settings(norm: nn.BatchNorm2d) -> tuple[bool, bool, float, float | None]:
    """The fields of `NormSettings`, of one BatchNorm."""
    return norm.training, norm.track_running_stats, norm.eps, norm.momentum


class ParamList:
    """Convolution weights and BatchNorms of candidate modules, in the order the kernels expect.

    Holds the modules, not their tensors: `.to(...)`, `load_state_dict` and parametrizations are seen.
    """

    def __init__(self, candidates: Iterable[nn.Module], names: Iterable[str] | None = None) -> None:
        """`names` are the candidates' names in error messages, by default their numbers."""
        roots = zip(names, candidates, strict=True) if names is not None else enumerate(candidates)
        leaves = [
            part
            for name, root in roots
            for part in walk(str(name), root)
            if isinstance(part[1], nn.Conv2d | nn.BatchNorm2d)
        ]
        self.layers = [layer for _, layer in leaves]
        self.convs = [layer for layer in self.layers if isinstance(layer, nn.Conv2d)]
        self.norms = [layer for layer in self.layers if isinstance(layer, nn.BatchNorm2d)]
        self.norm_names = [name for name, layer in leaves if isinstance(layer, nn.BatchNorm2d)]

    def params(self) -> list[Tensor]:
        out: list[Tensor] = []
        try:
            for layer in self.layers:
                values = layer._parameters
                weight, bias = values["weight"], values["bias"]
                if weight is not None:
                    out.append(weight)
                if bias is not None:
                    out.append(bias)
        except KeyError:  # a parametrized weight, or one that is a plain attribute
            pairs = [(layer.weight, layer.bias) for layer in self.layers]
            out = [tensor for pair in pairs for tensor in pair if isinstance(tensor, Tensor)]
        return out

    def settings(self) -> NormSettings | None:
        """The settings of the BatchNorms, None where there are none.

        Raises:
            NasfastError: they differ.
        """
        found = {(norm.training, norm.track_running_stats, norm.eps, norm.momentum) for norm in self.norms}
        if len(found) > 1:
            raise self._difference()
        return NormSettings(*found.pop()) if found else None

    def _difference(self) -> NasfastError:
        first: dict[tuple[Any, ...], str] = {}
        for name, norm in zip(self.norm_names, self.norms, strict=True):
            first.setdefault(norm_settings(norm), name)
        (own, name), (other, other_name) = list(first.items())[:2]
        i = next(i for i in range(len(own)) if own[i] != other[i])
        setting = NormSettings._fields[i]
        return NasfastError(
            f"a fused module needs all its BatchNorms to have the same settings, but {name} has {setting}={own[i]} "
            f"and {other_name} has {setting}={other[i]}: set them alike (some frozen and some not do not go together), "
            f"or {_INSTEAD}"
        )

    def buffers(self, name: str) -> list[Tensor] | None:
        """A buffer of each BatchNorm; None where they have none.

        Raises:
            NasfastError: some have it and some have not.
        """
        found = [norm._buffers[name] for norm in self.norms]
        if not any(buffer is None for buffer in found):
            return found  # type: ignore[return-value]
        if not all(buffer is None for buffer in found):
            missing = next(n for n, buffer in zip(self.norm_names, found, strict=True) if buffer is None)
            raise NasfastError(f"a fused module needs {name} in all its BatchNorms or in none, {missing} has none")
        return None

    def running_stats(self) -> Tensor | None:
        """[norms, 2, C] for evaluation; None without BatchNorm, or where it keeps none and uses the batch's."""
        means, variances = self.buffers("running_mean"), self.buffers("running_var")
        if not means or not variances:
            return None
        flat = [t for pair in zip(means, variances, strict=True) for t in pair]
        return torch.stack(flat).view(len(means), 2, -1)

    def move_running_stats(self, momentum: float | None, used: Tensor, count: int) -> None:
        """What BatchNorm does to its buffers in a training step with `count` values per channel."""
        batches = self.buffers("num_batches_tracked")
        means, variances = self.buffers("running_mean"), self.buffers("running_var")
        if count == 0 or means is None or variances is None:
            if batches is not None:
                torch._foreach_add_(batches, 1)
            return
        if batches is None:  # of a checkpoint older than the counter
            batches = [torch.zeros((), dtype=torch.long) for _ in means]
            momentum = momentum or 0.0
        if momentum is not None:
            ops.update_running_stats_(used, means, variances, batches, momentum=momentum, count=count)
            return
        for k, counter in enumerate(batches):
            share = 1.0 / (int(counter) + 1)
            one = slice(k, k + 1)
            ops.update_running_stats_(used[one], means[one], variances[one], batches[one], momentum=share, count=count)


def finish_batch(layers: ParamList, settings: NormSettings, used: Tensor, out: Tensor) -> None:
    """What BatchNorm does beside its output after it normalised with the batch's statistics `used`.

    Raises:
        ValueError: a single value per channel, as torch.nn.BatchNorm2d.
    """
    count = out.shape[0] * out.shape[2] * out.shape[3]
    if count == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got an output of {tuple(out.shape)}")
    if settings.training and settings.track_running_stats:
        layers.move_running_stats(settings.momentum, used, count)


def run_mixed(
    graph: ops.MixedGraph, states: Sequence[Tensor], weights: Tensor, layers: ParamList, recompute: bool
) -> Tensor:
    """`ops.mixed_op` with the BatchNorm rules of torch: batch statistics and their running average when training.

    Raises:
        NasfastError: BatchNorms of different settings.
    """
    settings = layers.settings()
    stats = layers.running_stats() if settings is not None and not settings.training else None
    eps = 1e-5 if settings is None else settings.eps
    out, used = ops.mixed_op(states, weights, layers.params(), graph, stats=stats, eps=eps, recompute=recompute)
    if settings is not None and stats is None:
        finish_batch(layers, settings, used, out)
    return saved_last(out)


def run_preprocess(layers: ParamList, x: Tensor, recompute: bool) -> Tensor:
    """`reference.ReLUConvBN` (1x1) or `reference.FactorizedReduce`, whichever the layers are of, as one kernel call."""
    settings = layers.settings()
    assert settings is not None
    stats = None if settings.training else layers.running_stats()
    params = layers.params()
    convs = len(layers.convs)
    out, used = ops.relu_conv_bn(x, params[:convs], params[convs:], stats=stats, eps=settings.eps, recompute=recompute)
    if stats is None:
        finish_batch(layers, settings, used, out)
    return saved_last(out)


class Fused(nn.Module):
    """Computes in place of the modules named in `replaces`, as long as they are what they were at construction."""

    replaces: tuple[str, ...] = ("_ops",)

    def __init__(self, *args: Any, recompute: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recompute = recompute
        self._structure = self._note()
        self._link()

    def _note(self) -> Structure:
        return Structure([self], [(name, part) for name in self.replaces if (part := self._modules.get(name))])

    def _link(self) -> None:
        """Find the layers to read weights from."""
        raise NotImplementedError

    def _current(self) -> None:
        """Make sure that the layers are those of now, and still what the kernels compute.

        Raises:
            NasfastError: they are not; the message names the layer.
        """
        if torch.compiler.is_compiling():
            self._check_while_tracing()
        elif self._structure.holders[0] is not self or not self._structure.holds():
            self._renew()

    def _check_while_tracing(self) -> bool:
        """Once per compilation, in which layers are taken as fixed."""
        if self._structure.holders[0] is not self or not self._structure.holds():
            self._renew()
            raise NasfastError(
                f"{type(self).__name__}: layers were replaced or parametrized since its last call: "
                "call it once (an empty batch will do) before torch.compile"
            )
        return True

    # What torch.compiler.assume_constant_result does, without the seconds that its import of torch._dynamo takes.
    _check_while_tracing._dynamo_marked_constant = True  # type: ignore[attr-defined]

    def _renew(self) -> None:
        """Raises NasfastError where the structure is another one."""
        then, now = self._structure.look, self._note()
        kind = type(self).__name__
        difference = first_difference(now.look, then)
        if difference is not None:
            name, is_now, was = difference
            raise NasfastError(
                f"{kind}: {name} was changed: found {is_now}, the fused kernels compute {was}; "
                f"put it back, or {_INSTEAD}"
            )
        heard = now.listened_to()
        if heard is not None:
            raise NasfastError(
                f"{kind}: {heard} has a hook or a forward of its own, which a fused module does not call (pruning and "
                f"hook-based weight_norm and spectral_norm add one; torch.nn.utils.parametrizations work): remove it, "
                f"or {_INSTEAD}"
            )
        self._structure = now
        self._link()

    def _layers_of(self, name: str) -> ParamList:
        return ParamList([self.get_submodule(name)], [name])


def one_edge(module: MixedOp | PartialMixedOp) -> ops.MixedGraph:
    """A mixed operation on its own."""
    return ops.MixedGraph(1, 1, (ops.EdgeSpec(0, 0, module.stride, module.primitives, module.affine),))


class FusedMixedOp(Fused, MixedOp):
    """`reference.MixedOp` as one kernel call: forward(x [N, C, H, W], weights [K]) -> [N, C, h, w], channels_last."""

    def _link(self) -> None:
        self._layers = self._layers_of("_ops")
        self._graph = one_edge(self)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        self._current()
        return run_mixed(self._graph, [x], weights.unsqueeze(0), self._layers, self.recompute)


def cell_graph(
    steps: int, stride: int, primitives: tuple[str, ...], affine: bool, pool_norm: bool = True
) -> ops.MixedGraph:
    """The edges of a DARTS cell: node i takes the two inputs and every earlier node."""
    edges = tuple(
        ops.EdgeSpec(source, node, stride if source < INPUTS_PER_NODE else 1, primitives, affine, pool_norm)
        for node in range(steps)
        for source in range(INPUTS_PER_NODE + node)
    )
    return ops.MixedGraph(INPUTS_PER_NODE, steps, edges)


class FusedCell(Fused, Cell):
    """`reference.Cell` with all its edges in one kernel call."""

    replaces = ("preprocess0", "preprocess1", "_ops")

    def _link(self) -> None:
        self._layers = self._layers_of("_ops")
        self._before = [self._layers_of(name) for name in ("preprocess0", "preprocess1")]
        edge = self._ops[0]
        self._graph = cell_graph(self._steps, 2 if self.reduction else 1, edge.primitives, edge.affine)  # type: ignore[arg-type]

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor, chosen: Sequence[int] | None = None) -> Tensor:
        self._current()
        states = [run_preprocess(p, s, self.recompute) for p, s in zip(self._before, (s0, s1), strict=True)]
        if chosen is None:
            nodes = run_mixed(self._graph, states, weights, self._layers, self.recompute)
        else:
            nodes = self._run_chosen(states, weights, chosen)
        return self._concatenate(states, nodes)

    def _run_chosen(self, states: list[Tensor], weights: Tensor, chosen: Sequence[int]) -> Tensor:
        """The nodes from one candidate per edge."""
        edges = [
            replace(edge, primitives=(edge.primitives[k],)) for edge, k in zip(self._graph.edges, chosen, strict=True)
        ]
        graph = ops.MixedGraph(self._graph.inputs, self._graph.nodes, tuple(edges))
        layers = ParamList(self._candidate(edge, k) for edge, k in enumerate(chosen))
        index = torch.tensor(list(chosen), device=weights.device)
        return run_mixed(graph, states, weights.gather(1, index[:, None]), layers, self.recompute)

    def _concatenate(self, states: list[Tensor], nodes: Tensor) -> Tensor:
        kept = self._multiplier
        if kept == self._steps:
            return nodes
        if kept < self._steps:
            channels = nodes.shape[1] // self._steps
            return nodes[:, (self._steps - kept) * channels :]
        return torch.cat([*states[self._steps - kept :], nodes], dim=1)
