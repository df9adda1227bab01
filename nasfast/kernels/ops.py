"""Typed functions over the kernels of nasfast._C.

Every function here is one public op: `torch.ops.nasfast.<name>` underneath, so autograd, autocast and torch.compile
see it; its readable twin in plain PyTorch is in `nasfast.nn.cells`. Arguments may also be arrays of other libraries
(NumPy, CuPy, anything with `__dlpack__`): they are read where they lie, and the results are arrays of the same library.
Gradients need tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nasfast.errors import ConfigError
from nasfast.kernels._arrays import Array, as_tensor, as_tensors, like
from nasfast.kernels._extension import load_extension
from nasfast.kernels._library import require_ops
from nasfast.kernels.primitives import ALL_PRIMITIVES
from nasfast.utils.suggest import must_be_one_of

# The numbers of csrc/mixed_op/graph.h.
_PRIMITIVE_CODES = {
    "none": 0,
    "max_pool_3x3": 1,
    "avg_pool_3x3": 2,
    "skip_connect": 3,
    "sep_conv_3x3": 4,
    "sep_conv_5x5": 5,
    "dil_conv_3x3": 6,
    "dil_conv_5x5": 7,
    "sep_conv_7x7": 8,
    "conv_7x1_1x7": 9,
}
_NORM_FACTOR = 16
_NORM_CODES = {"batch": 0, "affine": 1, "none": 2}


@dataclass(frozen=True)
class EdgeSpec:
    """One edge of a mixed graph: a mixture of candidate primitives from a source state into a node.

    Args:
        source: index of the state it leaves: the inputs come first, then the nodes.
        node: index of the node it flows into.
        stride: 1 or 2 (2 only from an input).
        primitives: names of the candidates, as in `nasfast.spaces.darts`.
        affine: BatchNorm has a weight and a bias.
        pool_norm: pools are followed by BatchNorm, as in the DARTS search network; with False they are not.
        norms: instead of the two above, per candidate: "batch", "affine" or, for pools, "none".
    """

    source: int
    node: int
    stride: int
    primitives: tuple[str, ...]
    affine: bool = False
    pool_norm: bool = True
    norms: tuple[str, ...] | None = None


@dataclass(frozen=True)
class MixedGraph:
    """Source states, nodes and the edges between them: a single mixed operation, or a whole search cell."""

    inputs: int
    nodes: int
    edges: tuple[EdgeSpec, ...]
    code: list[int] = field(init=False, repr=False, compare=False)
    """The integers that the kernels read."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "code", self._encode())

    def _encode(self) -> list[int]:
        counts = {len(edge.primitives) for edge in self.edges}
        if len(counts) != 1:
            raise ConfigError(f"mixed graph: every edge must have the same number of candidates, got {sorted(counts)}")
        out = [self.inputs, self.nodes, counts.pop(), len(self.edges)]
        for edge in self.edges:
            out += [edge.source, edge.node, edge.stride]
            out += [_candidate_code(edge, k) for k in range(len(edge.primitives))]
        return out


@dataclass(frozen=True)
class PathGraph:
    """A shared network as the supernet ops read it.

    Attributes:
        code: Units, operations and entries, see csrc/supernet/program.h.
        eps: Of every BatchNorm.
    """

    code: list[int]
    eps: list[float]


def _candidate_code(edge: EdgeSpec, candidate: int) -> int:
    name = edge.primitives[candidate]
    if name not in _PRIMITIVE_CODES:
        raise ConfigError(f"unknown primitive {name!r}: it {must_be_one_of(name, ALL_PRIMITIVES)}")
    if edge.norms is not None:
        if len(edge.norms) != len(edge.primitives) or edge.norms[candidate] not in _NORM_CODES:
            raise ConfigError(
                f"mixed graph: norms must be one of {', '.join(_NORM_CODES)} for each of {len(edge.primitives)} "
                f"candidates, got {edge.norms}"
            )
        norm = _NORM_CODES[edge.norms[candidate]]
    elif "pool" in name and not edge.pool_norm:
        norm = _NORM_CODES["none"]
    else:
        norm = _NORM_CODES["affine" if edge.affine else "batch"]
    return _PRIMITIVE_CODES[name] + _NORM_FACTOR * norm


def mixed_op(
    states: Sequence[Array],
    weights: Array,
    params: Sequence[Array],
    graph: MixedGraph,
    *,
    stats: Array | None = None,
    eps: float = 1e-5,
    recompute: bool = False,
) -> tuple[Array, Array]:
    """The fused DARTS mixed operation, over a single edge or all edges of a cell.

    Args:
        states: the graph's inputs, each [N, C, H, W]; float32, bfloat16, float64 on the CPU and float16 on CUDA
            (computed in float32; float64 in float64); channels_last is read as it is, other layouts are copied once.
        weights: [edges, candidates], the architecture weight of every candidate.
        params: per edge and candidate, in the order of the modules of `nasfast.nn.cells`: separable convolutions
            depthwise [C, 1, k, k] and pointwise [C, C, 1, 1], twice; dilated ones once; skip_connect at stride 2
            conv_1 and conv_2 [C/2, C, 1, 1]; each followed by its BatchNorm's weight and bias [C] where affine.
        stats: None to normalise with the batch's statistics; otherwise [norms, 2, C], the mean and variance to use.
        eps: BatchNorm's epsilon.
        recompute: save only the inputs and statistics, and repeat the forward in backward.

    Returns:
        The nodes, concatenated, [N, nodes * C, h, w] in channels_last, and the statistics that were used, [norms, 2, C]
        (mean and biased variance; no gradient).

    Raises:
        RuntimeError: an argument of another shape, dtype or device; the message names it.

    Equivalent to, for one edge::

        x = states[0]
        out = sum(w * candidate(x) for w, candidate in zip(weights[0], nasfast.nn.cells.MixedOp(...)._ops))

    Liu, Simonyan, Yang, "DARTS: Differentiable Architecture Search", ICLR 2019.
    """
    require_ops()
    op = "mixed_op"
    out, used = torch.ops.nasfast.mixed_op(
        as_tensors(op, "states", states),
        as_tensor(op, "weights", weights),
        as_tensors(op, "params", params),
        None if stats is None else as_tensor(op, "stats", stats),
        graph.code,
        eps,
        recompute,
    )
    example = states[0] if states else out
    return like(example, out), like(example, used)


def relu_conv_bn(
    x: Array,
    weights: Sequence[Array],
    affine: Sequence[Array] = (),
    *,
    stats: Array | None = None,
    eps: float = 1e-5,
    recompute: bool = False,
) -> tuple[Array, Array]:
    """relu, a pointwise convolution and BatchNorm in one op: the pre-processing of a cell.

    Args:
        x: [N, I, H, W]; dtypes as in `mixed_op`; channels_last is read as it is.
        weights: one tensor [O, I, 1, 1]; or two, [O1, I, 1, 1] and [O2, I, 1, 1], for a factorized reduction, which
            halves an even height and width: the first reads pixels (2i, 2j), the second (2i + 1, 2j + 1).
        affine: empty, or BatchNorm's weight and bias [O].
        stats: None to normalise with the batch's statistics; otherwise [1, 2, O], the mean and variance to use.
        recompute: save only the input and the statistics.

    Returns:
        [N, O, h, w] in channels_last, and the statistics that were used, [1, 2, O] (no gradient).

    Raises:
        RuntimeError: an argument of another shape, dtype or device; the message names it.

    Equivalent to, for one weight::

        y = F.conv2d(F.relu(x), weights[0])
        out = F.batch_norm(y, None, None, *affine, training=True, eps=eps)
    """
    require_ops()
    op = "relu_conv_bn"
    out, used = torch.ops.nasfast.relu_conv_bn(
        as_tensor(op, "x", x),
        as_tensors(op, "weights", weights),
        as_tensors(op, "affine", affine),
        None if stats is None else as_tensor(op, "stats", stats),
        eps,
        recompute,
    )
    return like(x, out), like(x, used)


def shuffle_channels(mixed: Array, passed: Array, groups: int) -> Array:
    """The channels that PC-DARTS mixed and those it passed on, side by side and dealt out over the groups.

    Args:
        mixed, passed: [N, M, H, W] and [N, P, H, W] of one floating dtype; channels_last, also as a slice of the
            channels of another tensor, is read as it is.
        groups: divides M + P.

    Returns:
        [N, M + P, H, W] in channels_last.

    Raises:
        RuntimeError: an argument of another shape, dtype or device; the message names it.

    Equivalent to::

        nasfast.nn.cells.channel_shuffle(torch.cat([mixed, passed], dim=1), groups)

    Xu et al., "PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search", ICLR 2020.
    """
    require_ops()
    op = "shuffle_channels"
    out = torch.ops.nasfast.shuffle_channels(as_tensor(op, "mixed", mixed), as_tensor(op, "passed", passed), groups)
    return like(mixed, out)


def update_running_stats_(
    stats: Array,
    running_mean: Sequence[Array],
    running_var: Sequence[Array],
    batches: Sequence[Array],
    *,
    momentum: float,
    count: int,
) -> None:
    """Move BatchNorm's running statistics by a batch's, in place, as torch.nn.BatchNorm2d does.

    Args:
        stats: [norms, 2, C], mean and biased variance of `count` values per channel.
        running_mean, running_var: `norms` tensors [C]; batches: `norms` counters.

    Equivalent to, for norm k::

        running_mean[k].lerp_(stats[k, 0], momentum)
        running_var[k].lerp_(stats[k, 1] * count / (count - 1), momentum)
        batches[k] += 1
    """
    require_ops()
    op = "update_running_stats_"
    torch.ops.nasfast.update_running_stats_(
        as_tensor(op, "stats", stats),
        as_tensors(op, "running_mean", running_mean),
        as_tensors(op, "running_var", running_var),
        as_tensors(op, "batches", batches),
        momentum,
        count,
    )


def supernet_paths(
    images: Tensor,
    index: Tensor,
    params: Sequence[Tensor],
    graph: PathGraph,
    *,
    running: Sequence[Tensor] = (),
    per_operation: bool = False,
) -> tuple[Tensor, Tensor]:
    """A shared network in which every group of images takes a path of its own; one op for forward, one for backward.

    Weights are read where they lie: a unit may use the first channels and the middle of the kernel of a larger one.
    Gradients add up in the shared weights, with the same bits on every run and for every number of threads;
    parameters on none of the paths get none.

    Args:
        images: [N, C, H, W], float32 or float64 on the CPU, float32 on CUDA, any layout.
        index: int64 [K, places] on the CPU, which operation group g computes at each place; K divides N, and a group
            is N / K images side by side.
        params: what the units of `graph` refer to, of the images' dtype.
        running: empty: normalise with the batch's statistics; else mean and variance [c] of every BatchNorm in turn.
        per_operation: statistics of all images whose groups chose the same operation, instead of each group's own.

    Returns:
        Logits [N, classes], or [N, C', h, w] where the graph ends in no head, and the statistics of the batch (no
        gradient) for :func:`supernet_update_running_`.

    Raises:
        IndexError: a number in `index` is out of range.
        RuntimeError: another argument does not fit; the message names it.

    Equivalent to::

        groups = images.chunk(len(index))
        torch.cat([run_paths(graph, params, group, row) for group, row in zip(groups, index)])

    with `run_paths` of `nasfast.kernels.reference_paths`.

    Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", ECCV 2020.
    """
    require_ops()
    return torch.ops.nasfast.supernet_paths(images, index, params, running, graph.code, graph.eps, per_operation)


def supernet_update_running_(
    stats: Tensor,
    index: Tensor,
    mean: Sequence[Tensor],
    var: Sequence[Tensor],
    batches: Sequence[Tensor],
    graph: PathGraph,
    *,
    sizes: Sequence[int],
    per_operation: bool = False,
    momentum: Sequence[float],
) -> None:
    """Move the running statistics of a supernet's BatchNorms by a batch's, in place, group after group.

    Args:
        stats, index: what :func:`supernet_paths` returned, and was given.
        mean, var, batches: of every BatchNorm of `graph`; of a wider one, the first channels move.
        sizes: of the images.
        momentum: of every BatchNorm; below 0 for a cumulative average.

    Equivalent to, for every group in turn and every BatchNorm on its path::

        norm.running_mean.lerp_(batch_mean, momentum)
        norm.running_var.lerp_(batch_var * count / (count - 1), momentum)
        norm.num_batches_tracked += 1
    """
    require_ops()
    torch.ops.nasfast.supernet_update_running_(
        stats, index, mean, var, batches, sizes, graph.code, per_operation, momentum
    )


def build_info() -> dict[str, object]:
    """How the extension was built and which instruction set runs: torch, compiler, openmp, cuda, isa, ..."""
    return load_extension().build_info()


def empty_cache() -> int:
    """Give the CPU buffers kept between steps back to the system. Returns their bytes."""
    return load_extension().empty_buffer_cache()
