"""What every op returns, in shapes alone: torch.compile and meta tensors ask for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nasfast.errors import NasfastError
from nasfast.kernels._extension import load_extension

_C = load_extension()

_LANES = 8  # channels of a block in csrc/core/types.h
_CHILD_EVAL_USAGE = 6  # numbers of Usage in csrc/child_eval/tables.h


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


@torch.library.register_fake("nasfast::_table_embedding_forward")
def _table_embedding_forward_fake(weights, bins, fractions, scales, rows, increments, lookups):  # type: ignore[no-untyped-def]
    _check_devices("table_embedding", weights, bins=[bins], fractions=[fractions], scales=[scales], rows=[rows])
    batch = bins.shape[0] if rows is None else rows.shape[-1]
    return weights.new_empty((weights.shape[0], batch, scales.shape[1], weights.shape[2]))


@torch.library.register_fake("nasfast::_table_embedding_backward")
def _table_embedding_backward_fake(  # type: ignore[no-untyped-def]
    grad, weights, bins, fractions, scales, rows, increments, lookups, want_weights, want_scales
):
    return (
        weights.new_empty(weights.shape if want_weights else (0,)),
        scales.new_empty(scales.shape if want_scales else (0,)),
    )
