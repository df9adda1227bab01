"""Typed functions over the kernels of nasfast._C.

Every function here is one public op: `torch.ops.nasfast.<name>` underneath, so autograd, autocast and torch.compile
see it; its readable twin in plain PyTorch is in `nasfast.reference`. Arguments may also be arrays of other libraries
(NumPy, CuPy, anything with `__dlpack__`): they are read where they lie, and the results are arrays of the same library.
Gradients need tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nasfast.arrays import Array, as_tensor, as_tensors, like
from nasfast.errors import ConfigError, NasfastError
from nasfast.extension import load_extension
from nasfast.spaces.darts import ALL_PRIMITIVES

_C = load_extension()

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
_LANES = 8  # channels of a block in csrc/core/types.h
_CHILD_EVAL_USAGE = 6  # numbers of Usage in csrc/child_eval/tables.h
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
        raise ConfigError(f"unknown primitive {name!r}: expected one of {', '.join(ALL_PRIMITIVES)}")
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
        params: per edge and candidate, in the order of the modules of `nasfast.reference`: separable convolutions
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
        out = sum(w * candidate(x) for w, candidate in zip(weights[0], nasfast.reference.MixedOp(...)._ops))

    Liu, Simonyan, Yang, "DARTS: Differentiable Architecture Search", ICLR 2019.
    """
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

        nasfast.reference.channel_shuffle(torch.cat([mixed, passed], dim=1), groups)

    Xu et al., "PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search", ICLR 2020.
    """
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
        torch.cat([nasfast.reference_paths.run_paths(graph, params, group, row) for group, row in zip(groups, index)])

    Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", ECCV 2020.
    """
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
    torch.ops.nasfast.supernet_update_running_(
        stats, index, mean, var, batches, sizes, graph.code, per_operation, momentum
    )


def build_info() -> dict[str, object]:
    """How the extension was built and which instruction set runs: torch, compiler, openmp, cuda, isa, ..."""
    return _C.build_info()


def empty_cache() -> int:
    """Give the CPU buffers kept between steps back to the system. Returns their bytes."""
    return _C.empty_buffer_cache()


def _check_devices(op: str, x: Tensor, **arguments: Sequence[Tensor | None]) -> None:
    """A single argument on the meta device brings the whole call here, where nothing would be computed."""
    for name, tensors in arguments.items():
        for t in tensors:
            if t is not None and t.device != x.device:
                raise NasfastError(f"{op}: {name} must be on {x.device}, got {t.device}")


def _input_stride(graph: Sequence[int]) -> int:
    inputs, _, candidates, _ = graph[:4]
    return next(graph[e + 2] for e in range(4, len(graph), 3 + candidates) if graph[e] < inputs)


@torch.library.register_fake("nasfast::_mixed_op_forward")
def _mixed_op_forward_fake(states, weights, params, stats, graph, eps, recompute):  # type: ignore[no-untyped-def]
    x = states[0]
    _check_devices("mixed_op", x, states=states, weights=[weights], params=params, stats=[stats])
    n, c, h, w = x.shape
    stride = _input_stride(graph)
    out = x.new_empty((n, graph[1] * c, -(-h // stride), -(-w // stride))).to(memory_format=torch.channels_last)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    used = torch.empty((_norm_count(graph), 2, c), dtype=dtype, device=x.device)
    cuda = x.device.type == "cuda"
    saved = [] if recompute else [x.new_empty((n * k,)) for k in _C.mixed_op_saved_elements(graph, c, h, w, cuda)]
    return out, used, saved


@torch.library.register_fake("nasfast::_mixed_op_backward")
def _mixed_op_backward_fake(  # type: ignore[no-untyped-def]
    grad_out, out, states, weights, params, stats, saved, graph, eps, batch_stats, want_states, want_params
):
    x = states[0]
    grad_states = [
        torch.empty_like(s, memory_format=torch.channels_last) if want else x.new_empty((0,))
        for s, want in zip(states, want_states, strict=True)
    ]
    return grad_states, weights.new_empty(weights.shape), _grads(params, want_params)


def _grads(params: Sequence[Tensor], wanted: bool) -> list[Tensor]:
    return [p.new_empty(p.shape) for p in params] if wanted else []


@torch.library.register_fake("nasfast::update_running_stats_")
def _update_running_stats_fake(stats, running_mean, running_var, batches, momentum, count):  # type: ignore[no-untyped-def]
    return None


@torch.library.register_fake("nasfast::child_eval")
def _child_eval_fake(  # type: ignore[no-untyped-def]
    images, calibration, tensors, eps, primitives, macros, nodes, inputs, outputs, classes, memory_bound
):
    _check_devices("child_eval", images, calibration=[calibration], tensors=tensors)
    logits = images.new_empty((outputs.shape[0], images.shape[0], classes), dtype=torch.float32)
    return logits, torch.empty((_CHILD_EVAL_USAGE,), dtype=torch.int64, device=outputs.device)


def _norm_count(graph: Sequence[int]) -> int:
    return _C.mixed_op_norm_count(list(graph))


@torch.library.register_fake("nasfast::_relu_conv_bn_forward")
def _relu_conv_bn_forward_fake(x, weights, affine, stats, eps, recompute):  # type: ignore[no-untyped-def]
    _check_devices("relu_conv_bn", x, weights=weights, affine=affine, stats=[stats])
    n, _, h, w = x.shape
    stride = len(weights)
    channels = sum(weight.shape[0] for weight in weights)
    out = x.new_empty((n, channels, h // stride, w // stride)).to(memory_format=torch.channels_last)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    used = torch.empty((1, 2, channels), dtype=dtype, device=x.device)
    padded = channels if x.device.type == "cuda" else -(-channels // _LANES) * _LANES
    saved = x.new_empty((0,) if recompute else (n * padded * (h // stride) * (w // stride),))
    return out, used, saved


@torch.library.register_fake("nasfast::_relu_conv_bn_backward")
def _relu_conv_bn_backward_fake(  # type: ignore[no-untyped-def]
    grad_out, x, weights, affine, stats, saved, eps, batch_stats, want_x, want_params
):
    grad_x = torch.empty_like(x, memory_format=torch.channels_last) if want_x else x.new_empty((0,))
    return grad_x, _grads(weights, want_params), _grads(affine, want_params)


@torch.library.register_fake("nasfast::shuffle_channels")
def _shuffle_channels_fake(mixed, passed, groups):  # type: ignore[no-untyped-def]
    _check_devices("shuffle_channels", mixed, passed=[passed])
    n, m, h, w = mixed.shape
    return mixed.new_empty((n, m + passed.shape[1], h, w)).to(memory_format=torch.channels_last)


@torch.library.register_fake("nasfast::_shuffle_channels_backward")
def _shuffle_channels_backward_fake(grad, mixed_channels, groups):  # type: ignore[no-untyped-def]
    n, c, h, w = grad.shape
    return tuple(
        grad.new_empty((n, k, h, w)).to(memory_format=torch.channels_last) for k in (mixed_channels, c - mixed_channels)
    )


@torch.library.register_fake("nasfast::_supernet_paths_forward")
def _supernet_paths_forward_fake(images, index, params, running, graph, eps, per_operation, keep):  # type: ignore[no-untyped-def]
    _check_devices("supernet_paths", images, index=[index], params=params, running=running)
    channels, halvings, logits = _C.supernet_output(list(graph))
    n, _, h, w = images.shape
    if logits:
        out = images.new_empty((n, channels))
    else:
        scale = 2**halvings
        out = images.new_empty((n, channels, -(-h // scale), -(-w // scale))).to(memory_format=torch.channels_last)
    context = torch.library.get_ctx()  # what is kept depends on the paths that are taken
    kept, stats = context.new_dynamic_size(), context.new_dynamic_size()
    return out, images.new_empty((kept,)), images.new_empty((stats,), dtype=torch.float64)


@torch.library.register_fake("nasfast::_supernet_paths_backward")
def _supernet_paths_backward_fake(  # type: ignore[no-untyped-def]
    grad_out, images, index, params, running, kept, stats, graph, eps, per_operation, want_images, want_params
):
    grads = [
        torch.empty_like(p) if want else images.new_empty((0,)) for p, want in zip(params, want_params, strict=True)
    ]
    return torch.empty_like(images) if want_images else images.new_empty((0,)), grads


@torch.library.register_fake("nasfast::supernet_update_running_")
def _supernet_update_running_fake(  # type: ignore[no-untyped-def]
    stats, index, mean, var, batches, sizes, graph, per_operation, momentum
):
    return None
