"""A training or search step as one CUDA graph: recorded once, then replayed with a single launch.

A DARTS step on a GPU is thousands of short kernels, and Python takes longer to launch them than the GPU to run them.
A graph keeps every launch and every address. So inputs are copied into fixed buffers, results are read from fixed
buffers, learning rates live in tensors, and nothing in the step may wait for the GPU; the ops of nasfast never do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nasfast.errors import ConfigError, NasfastError
from nasfast.strategies.gradient.steps import Batch, Criterion, Network, StepResult, first_order_step, weight_step

_WARMUP = 3
"""Runs before the recording: torch wants them on a side stream, so that libraries allocate their workspaces."""


class Snapshot:
    """The values of tensors and of optimizers' states, to be put back in place after trial runs.

    An optimizer's state that did not exist yet is put back to zero, which SGD without dampening and Adam take for no
    state: the next step is bit for bit a first step.
    """

    def __init__(self, tensors: Sequence[Tensor], optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._optimizers = optimizers
        known = [*tensors, *self._states()]
        self._kept = {id(tensor): (tensor, tensor.detach().clone()) for tensor in known}

    def _states(self) -> list[Tensor]:
        states = [state for optimizer in self._optimizers for state in optimizer.state.values()]
        return [value for state in states for value in state.values() if isinstance(value, Tensor)]

    @torch.no_grad()
    def restore(self) -> None:
        for tensor, value in self._kept.values():
            tensor.copy_(value)
        for tensor in self._states():
            if id(tensor) not in self._kept:
                tensor.zero_()


def make_capturable(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Let an optimizer's step be recorded: its learning rate in a tensor on the device, its step count too.

    Raises:
        ConfigError: an optimizer that cannot read its learning rate on the device, or SGD with dampening (its first
            step is unlike the others).
    """
    for group in optimizer.param_groups:
        if group.get("dampening"):
            raise ConfigError("graphs: SGD must have no dampening, its first step would be recorded for all")
        if "capturable" in group:
            group["capturable"] = True
        elif "fused" in group:
            group["fused"], group["foreach"] = True, False
        else:
            raise ConfigError(f"graphs: {type(optimizer).__name__} must take 'capturable' or 'fused', and does not")
        if not isinstance(group["lr"], Tensor):
            group["lr"] = torch.tensor(float(group["lr"]), device=device)
    for state in optimizer.state.values():
        if isinstance(state.get("step"), Tensor):
            state["step"] = state["step"].to(device)


class RecordedRates:
    """The tensors that a recording reads learning rates from."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._optimizers = tuple(optimizers)
        self._rates = self._present()

    def _present(self) -> list[Any]:
        return [group["lr"] for optimizer in self._optimizers for group in optimizer.param_groups]

    def check(self) -> None:
        """Raise NasfastError where an optimizer has another rate now, which the recording would not see."""
        present = self._present()
        if len(present) != len(self._rates) or any(a is not b for a, b in zip(present, self._rates, strict=True)):
            raise NasfastError(
                "captured step: a learning rate was replaced since it was recorded, as an assignment or "
                "load_state_dict does; change rates with nasfast.training.optim.set_rate, record again after loading"
            )


def refuse_kept_casts(device_type: str) -> None:
    """Raise ConfigError under an autocast that keeps its casts of weights: a recording would read them for ever."""
    if torch.is_autocast_enabled(device_type) and torch.is_autocast_cache_enabled():
        raise ConfigError(
            "graphs: the autocast around a step to record must not keep casts of weights: "
            "use torch.autocast(..., cache_enabled=False)"
        )


@contextmanager
def fresh_casts() -> Iterator[None]:
    """In the block, no cast of a weight is one that an autocast kept before; afterwards, none is one of the block's."""
    torch.clear_autocast_cache()
    try:
        yield
    finally:
        torch.clear_autocast_cache()


@dataclass(frozen=True)
class CapturedStep:
    """A recorded step.

    Attributes:
        inputs: the buffers it reads; a call copies its arguments into them.
        outputs: what the step returned. Every call overwrites the tensors in it: clone what is to be kept.
        rates: where it reads learning rates.
    """

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    outputs: Any
    rates: RecordedRates

    def __call__(self, *inputs: Tensor) -> Any:
        """Run the step on new inputs of the recorded shapes and dtypes. Does not wait for the GPU.

        Raises:
            NasfastError: another number of inputs, another shape or dtype, or a learning rate that was replaced.
        """
        if len(inputs) != len(self.inputs):
            raise NasfastError(f"captured step: takes {len(self.inputs)} inputs, got {len(inputs)}")
        for i, (buffer, value) in enumerate(zip(self.inputs, inputs, strict=True)):
            if buffer.shape != value.shape or buffer.dtype != value.dtype:
                raise NasfastError(
                    f"captured step: input {i} must be {buffer.dtype} {tuple(buffer.shape)} as recorded, "
                    f"got {value.dtype} {tuple(value.shape)}"
                )
        self.rates.check()
        for buffer, value in zip(self.inputs, inputs, strict=True):
            buffer.copy_(value, non_blocking=True)
        self.graph.replay()
        return self.outputs


def capture(
    step: Callable[..., Any],
    inputs: Sequence[Tensor],
    modules: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    *,
    state: Sequence[Tensor] = (),
    warmup: int = _WARMUP,
) -> CapturedStep:
    """Record `step(*inputs)` as a CUDA graph.

    The step runs a few times before, as torch asks for; all it changes is put back: parameters and buffers of the
    modules, `state`, and the optimizers' states. Recording itself computes nothing.

    Args:
        step: a function of tensors that updates modules and optimizers; it must not read a value back from the GPU,
            nor depend on Python state that changes from step to step, nor draw from a generator of its own.
        inputs: example inputs on a CUDA device.
        modules, optimizers: what the step changes; optimizers are made capturable (see `make_capturable`).
        state: tensors that it changes besides, as architecture parameters that are not parameters of a module.

    Raises:
        NasfastError: torch sees no CUDA device, or an input is not on one.
        ConfigError: an optimizer cannot be recorded, or the autocast around keeps casts of weights.
    """
    device = _cuda_device(inputs)
    refuse_kept_casts(device.type)
    for optimizer in optimizers:
        make_capturable(optimizer, device)
    changed = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    buffers = tuple(t.detach().clone() for t in inputs)
    snapshot = Snapshot([*changed, *state], optimizers)
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(warmup):
            step(*buffers)
    torch.cuda.current_stream(device).wait_stream(side)
    snapshot.restore()
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with fresh_casts(), torch.cuda.graph(graph):
        outputs = step(*buffers)
    return CapturedStep(graph, buffers, outputs, RecordedRates(optimizers))


def capture_search_step(
    network: Network,
    criterion: Criterion,
    optimizer: torch.optim.Optimizer,
    arch_optimizer: torch.optim.Optimizer,
    train: Batch,
    valid: Batch,
    clip: float,
) -> CapturedStep:
    """A whole first-order DARTS step as one graph: the architecture on `valid`, then the weights on `train`.

    Args:
        network: one whose weights are not drawn (as by GDAS, SNAS and DrNAS): a recording would keep the temperature,
            and draws come from a generator that it does not know.
        train, valid: example batches on the GPU; later ones must have their shapes.
        clip: largest norm of the weights' gradient.

    Returns:
        A step to call with (train inputs, train targets, valid inputs, valid targets); it returns the `StepResult` of
        the weights' step and that of the architecture's. Learning rates change with `nasfast.training.optim.set_rate`.

    Raises:
        NasfastError: as `capture`.
        ConfigError: as `capture`, or the network's weights are drawn.
    """
    if network.relaxation.drawn:
        raise ConfigError(
            "graphs: a search step that draws its weights, as gdas, snas and drnas do, cannot be recorded; "
            "run the step as it is, or search with darts or pcdarts"
        )

    def step(inputs: Tensor, targets: Tensor, valid_inputs: Tensor, valid_targets: Tensor) -> tuple[StepResult, ...]:
        arch = first_order_step(network, criterion, arch_optimizer, Batch(valid_inputs, valid_targets))
        return weight_step(network, criterion, optimizer, Batch(inputs, targets), clip), arch

    return capture(
        step, [*train, *valid], [network], [optimizer, arch_optimizer], state=list(network.arch_parameters())
    )


def _cuda_device(inputs: Sequence[Tensor]) -> torch.device:
    if not torch.cuda.is_available():
        raise NasfastError("graphs: a CUDA graph needs a CUDA device, and torch sees none; run the step as it is")
    for i, tensor in enumerate(inputs):
        if not tensor.is_cuda:
            raise NasfastError(f"graphs: inputs must be on a CUDA device, got input {i} on {tensor.device}")
    return inputs[0].device
