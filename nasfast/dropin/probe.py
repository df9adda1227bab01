"""Decide by experiment whether a fused forward equals the module's own.

Both run on the same random input, in train and in eval mode, with the module's parameters and statistics moved off
their initial values so that nothing hides behind a zero. Compared are the output, the gradients of every input, every
weight and every parameter, and every buffer afterwards. This happens in float64, where a relu or a pool does not flip
by rounding and equal means equal; the outputs are then compared in the module's own dtype too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nasfast.dropin.call_guard import call_signature, kernels_take
from nasfast.dropin.forward import FusedForward
from nasfast.dropin.trace import random_state_kept

EXACT_TOLERANCE = 1e-8
"""Largest relative difference in float64: far above its rounding, far below any real difference."""

LOW_PRECISION_TOLERANCE = 5e-2

MakeArguments = Callable[[Tensor], tuple[Any, ...]]


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Put back, bit for bit, parameters, their gradients, buffers, modes and random state after the block."""
    parameters = [(p, p.data, p.data.clone(), p.grad) for p in module.parameters()]
    buffers = [
        (part, name, buffer, buffer.clone())
        for part in module.modules()
        for name, buffer in part._buffers.items()
        if buffer is not None
    ]
    modes = [(part, part.training) for part in module.modules()]
    device = parameters[0][1].device if parameters else torch.device("cpu")
    with random_state_kept(device) as rewind:
        try:
            yield
        finally:
            for parameter, data, value, grad in parameters:
                parameter.grad = None
                parameter.data = data
                parameter.data.copy_(value)
                parameter.grad = grad
            for part, name, buffer, value in buffers:
                buffer.data.copy_(value)
                part._buffers[name] = buffer
            for part, mode in modes:
                part.training = mode
            rewind()


@contextmanager
def one_thread() -> Iterator[None]:
    """Probes are small: on a busy machine threads would spend their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def difference(plan: FusedForward, arguments: MakeArguments, tolerance: float) -> str | None:
    """Why the fused forward is not the module's own, or None where no difference was found."""
    module = plan.module
    own = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    if not kernels_take(own):
        return f"there is no fused kernel for {str(own.dtype).removeprefix('torch.')} on {own.device.type}"
    with untouched(module):
        _move_values(module)
        for training in (True, False):
            reason = _compare(plan, arguments(own), training, _tolerance(own.dtype, tolerance), gradients=False)
            if reason is not None:
                return reason
        plan.autocast_calls = _signatures_in_autocast(plan, arguments, own)
        _to_double(module)
        for training in (True, False):
            reason = _compare(plan, arguments(own.double()), training, EXACT_TOLERANCE, gradients=True)
            if reason is not None:
                return reason
    return None


def _signatures_in_autocast(plan: FusedForward, arguments: MakeArguments, own: Tensor) -> frozenset[object]:
    """The calls, by the dtype of their images, that give the same under autocast to bfloat16 in both modes."""
    if own.dtype != torch.float32:
        return frozenset()
    args = arguments(own)
    images = [index for index, value in enumerate(args) if isinstance(value, Tensor) and value.dim() == 4]
    found = set()
    for dtype in plan.autocast_images:
        cast = [value.detach().to(dtype) if index in images else value for index, value in enumerate(args)]
        signature = call_signature(cast, {})
        plan.autocast_calls = frozenset({signature})  # or it would not try
        if all(_same_in_autocast(plan, tuple(cast), training) for training in (True, False)):
            found.add(signature)
    return frozenset(found)


def _same_in_autocast(plan: FusedForward, args: tuple[Any, ...], training: bool) -> bool:
    plan.module.train(training)
    try:
        with torch.autocast(args[0].device.type, torch.bfloat16):
            own = _Run(plan.module, plan.original, args, gradients=False)
            fused = _Run(plan.module, plan.fused, args, gradients=False)
    except Exception:
        return False
    buffers = zip(own.buffers, fused.buffers, strict=True)
    return _alike(own.output, fused.output) and all(_alike(mine, theirs) for (_, mine), (_, theirs) in buffers)


def _alike(own: object, fused: object) -> bool:
    """Tensors of one dtype, and as near as what is rounded at every step can be."""
    if not isinstance(own, Tensor) or not isinstance(fused, Tensor):
        return False
    if own.dtype != fused.dtype or own.shape != fused.shape:
        return False
    own, fused = own.double(), fused.double()
    return bool((own - fused).norm() <= LOW_PRECISION_TOLERANCE * own.norm())


def _tolerance(dtype: torch.dtype, asked: float) -> float:
    return asked if dtype in (torch.float32, torch.float64) else max(asked, LOW_PRECISION_TOLERANCE)


def _move_values(module: nn.Module) -> None:
    """Random steps away from the values at hand: a bias of zero or a unit variance would hide what they do."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.is_floating_point():
                spread = parameter.float().std(correction=0).item() + 0.1
                parameter.data.add_(torch.randn_like(parameter), alpha=0.3 * spread)
        for buffer in module.buffers():
            if buffer.is_floating_point():
                buffer.data.mul_(0.5 + torch.rand_like(buffer)).add_(torch.rand_like(buffer), alpha=0.1)


def _to_double(module: nn.Module) -> None:
    for parameter in module.parameters():
        if parameter.is_floating_point():
            parameter.grad = None
            parameter.data = parameter.data.double()
    for part in module.modules():
        for name, buffer in part._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                part._buffers[name] = buffer.double()


class _Run:
    """Output, gradients and buffers of one call from a given state."""

    def __init__(self, module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], gradients: bool) -> None:
        state = [buffer.clone() for buffer in module.buffers()]
        leaves = _tensors(args)
        with random_state_kept(leaves[0].device) as rewind, torch.set_grad_enabled(gradients):
            try:
                self.output = forward(*args)
                self.gradients: list[tuple[str, Tensor | None]] = []
                if gradients and isinstance(self.output, Tensor):
                    self.gradients = _gradients(module, self.output, leaves)
            finally:
                self.buffers = [(name, buffer.clone()) for name, buffer in module.named_buffers()]
                for buffer, value in zip(module.buffers(), state, strict=True):
                    buffer.data.copy_(value)
                rewind()


def _gradients(module: nn.Module, output: Tensor, leaves: Sequence[Tensor]) -> list[tuple[str, Tensor | None]]:
    names = [f"input {i}" for i in range(len(leaves))]
    wanted = list(leaves)
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            names.append(name)
            wanted.append(parameter)
    generator = torch.Generator().manual_seed(output.numel())
    direction = torch.randn(output.shape, generator=generator).to(output)
    return list(zip(names, torch.autograd.grad(output, wanted, direction, allow_unused=True), strict=True))


def _compare(
    plan: FusedForward, args: tuple[Any, ...], training: bool, tolerance: float, gradients: bool
) -> str | None:
    mode = "train" if training else "eval"
    plan.module.train(training)
    try:
        own = _Run(plan.module, plan.original, args, gradients)
    except Exception as error:
        return f"its own forward could not be probed: {type(error).__name__}: {_first_line(error)}"
    try:
        fused = _Run(plan.module, plan.fused, args, gradients)
    except Exception as error:
        return f"the fused forward failed in {mode} mode: {type(error).__name__}: {_first_line(error)}"
    if fused.output is None:
        return f"its forward cannot be followed in {mode} mode"
    if not isinstance(own.output, Tensor) or own.output.shape != fused.output.shape:
        return f"its output in {mode} mode has another shape than the fused one's"
    scale = max((float(g.abs().max()) for _, g in own.gradients if g is not None and g.numel()), default=0.0)
    pairs: list[tuple[str, Tensor | None, Tensor | None, float]] = [("the output", own.output, fused.output, 0.0)]
    pairs += [
        (f"the gradient of {name}", mine, theirs, 1e-3 * scale)
        for (name, mine), (_, theirs) in zip(own.gradients, fused.gradients, strict=True)
    ]
    pairs += [
        (f"buffer {name}", mine, theirs, 0.0)
        for (name, mine), (_, theirs) in zip(own.buffers, fused.buffers, strict=True)
    ]
    for what, mine, theirs, floor in pairs:
        if not _close(mine, theirs, tolerance, floor):
            return f"{what} differs in {mode} mode"
    return None


def _close(own: Tensor | None, fused: Tensor | None, tolerance: float, floor: float) -> bool:
    if own is None or fused is None:
        # An optimizer passes a parameter without gradient over, but decays one whose gradient is zero.
        return own is fused
    if own.shape != fused.shape:
        return False
    if own.numel() == 0 or not own.is_floating_point():
        return torch.equal(own, fused)
    own, fused = own.detach().double(), fused.detach().double()
    limit = tolerance * max(float(own.abs().max()), floor)
    return bool(((own - fused).abs() <= limit).all())


def _tensors(args: Sequence[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for argument in args:
        if isinstance(argument, Tensor):
            found.append(argument)
        elif isinstance(argument, (list, tuple)):
            found += _tensors(argument)
    return found


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:120]
