"""The fused forward of one mixed operation, installed on the module it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nasfast.dropin.alone import PROBE_SIZE, Unrecognised
from nasfast.dropin.call_guard import Guard, autocast_dtype, fusable_state, signature
from nasfast.dropin.forward import FusedForward
from nasfast.dropin.fused_graph import Edge, FusedGraph, run_graph
from nasfast.dropin.randomness import Randomness, ShapeBlind
from nasfast.dropin.reads import Reads
from nasfast.dropin.recognise import Bank, own_children
from nasfast.dropin.trace import Forward, candidate_weights, class_forward, random_state_kept, replaced
from nasfast.nn.cells import channel_shuffle
from nasfast.nn.fused_partial import pass_on

_FRACTIONS = (4, 2, 8, *(n for n in range(3, 17) if n not in (4, 8)))


class FusedMixed(FusedForward):
    """Stands for `forward` of a module that sums weighted candidates.

    Attributes:
        layers: the candidates, and what else the module holds.
        convention: how a call brings its weights: "vector" or "list" as the second argument, or "inside": the
            module's own forward is run with unit vectors for candidates, and its weights are what comes out.
        given: whether a call brings anything beside the image.
        fraction: 1, or n where only the first of n equal parts of the channels is mixed, the rest passed on
            (2x2 max pool at stride 2), and the result shuffled in n groups.
    """

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self.module = bank.module
        self.children = [candidate.module for candidate in bank.candidates]
        mixed = {id(bank.holder), *map(id, self.children)}
        self.layers = [*self.children, *(child for child in own_children(bank.module) if id(child) not in mixed)]
        self.guard = Guard([bank.module, bank.holder], self.layers, bank.norms())
        self.reads = Reads(bank.module)
        self.draws = ShapeBlind()
        self._autocast: dict[tuple[object, ...], bool] = {}
        self.graph = FusedGraph(1, 1, [Edge(bank, 0, 0)])
        self.convention, self.fraction, self.given = _read_convention(self)
        self.kind = f"mixed operation of {len(self.children)} candidates"
        if self.fraction > 1:
            self.kind += f" on 1/{self.fraction} of the channels"

    def holds(self) -> bool:
        return self.guard.holds()

    def fused(self, *args: Any, **kwargs: Any) -> Tensor | None:
        x = args[0] if args else None
        if not self.holds() or not fusable_state(x):
            return None
        assert isinstance(x, Tensor)
        weights = self.weights(x, args, kwargs)
        if (
            weights is None
            or not self.keeps_autocast(x, args, kwargs)
            or x.shape[1] != self.bank.channels * self.fraction
        ):
            return None
        taken = x[:, : self.bank.channels]
        out = run_graph(self.graph, [taken], weights.view(1, -1))
        if self.fraction == 1:
            return out
        passed = pass_on(x, self.bank.channels, self.bank.stride)
        return channel_shuffle(torch.cat([out, passed], dim=1), self.fraction)

    def weights(self, like: Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
        """The weights [K] of this call, None where they cannot be told.

        What a call brings is taken as it is for as long as the forward reads what it read when that was found out, and
        does not decide by it; else the forward itself says what it makes of it.
        """
        if torch.is_autocast_enabled(like.device.type):
            like = like.float()  # as a number that multiplies a bfloat16 image does, they count in float32
        given = args[1] if len(args) == 2 and not kwargs and self.reads.same() else None
        vector = self._vector(given, like)
        if self.fraction > 1:
            # It may pass over candidates of weight 0.
            return None if vector is None or (self.reads.branches and not vector.all()) else vector
        if vector is not None and not self.reads.branches:
            return vector
        randomness = Randomness(like.device, [self.module])

        def trace(size: int) -> Tensor | None:
            return candidate_weights(self.module, self.children, like, args, kwargs, size)[0]

        weights = self.draws.run(trace, randomness, randomness.rewind)
        if weights is None:
            randomness.rewind()
        return weights

    def keeps_autocast(self, like: Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
        """Whether its own forward gives autocast's dtype where its candidates do, or no autocast is on.

        Weights of float32 with dimensions of their own would make a float32 image of it, numbers do not.
        """
        dtype = autocast_dtype(like, like.dtype)
        if not torch.is_autocast_enabled(like.device.type):
            return True
        key = signature((*args[1:], *kwargs.values()))
        if key not in self._autocast:
            self._autocast[key] = _result_dtype(self, like.device, dtype, args, kwargs) == dtype
        return self._autocast[key]

    def _vector(self, given: Any, like: Tensor) -> Tensor | None:
        """Weights [K] that are given in the form that was found."""
        count = len(self.children)
        if self.convention == "vector" and isinstance(given, Tensor) and given.shape == (count,):
            return given.to(like.dtype) if torch.is_autocast_enabled(like.device.type) else given
        if self.convention == "list" and isinstance(given, (list, tuple)) and len(given) == count:
            return as_vector(given, like)
        return None


def as_vector(values: Sequence[Any], like: Tensor) -> Tensor:
    """Scalars, as tensors or numbers, in one tensor."""
    return torch.stack([torch.as_tensor(value, dtype=like.dtype, device=like.device).reshape(()) for value in values])


def _read_convention(plan: FusedMixed) -> tuple[str, int, bool]:
    """Find out how the module takes its weights. Raises Unrecognised with the reason where it cannot be told."""
    module, bank = plan.module, plan.bank
    if "forward" in module.__dict__:
        raise Unrecognised("it has a forward of its own on the instance")
    count = len(plan.children)
    like = _like(module)
    x = torch.randn(2, bank.channels, PROBE_SIZE, PROBE_SIZE, dtype=like.dtype, device=like.device)
    vector = torch.rand(count, dtype=like.dtype, device=like.device)
    forms: list[tuple[str, tuple[Any, ...]]] = [
        ("vector", (vector,)),
        ("list", (list(vector),)),
        ("inside", ()),
    ]
    partly: list[int] = []
    with random_state_kept(like.device) as rewind, torch.no_grad():
        for convention, extra in forms:
            rewind()
            try:
                weights, called = candidate_weights(module, plan.children, like, (x, *extra), {})
            except Exception:
                continue
            if weights is not None:
                same = bool(extra) and torch.equal(weights, vector)
                rewind()
                return (convention if same else "inside"), 1, bool(extra)
            if 0 < len(set(called)) < count:
                partly = called
        for fraction in _FRACTIONS:
            for convention, extra in forms[:2]:
                if _mixes_a_fraction(plan, x.repeat(1, fraction, 1, 1), extra):
                    rewind()
                    return convention, fraction, True
        rewind()
    if partly:
        raise Unrecognised(f"its forward runs {len(set(partly))} of its {count} candidates")
    raise Unrecognised("its forward is no weighted sum of its candidates that could be called")


def _like(module: nn.Module) -> Tensor:
    return next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))


def _mixes_a_fraction(plan: FusedMixed, x: Tensor, extra: tuple[Any, ...]) -> bool:
    try:
        out, called = _with_blank_candidates(plan, (x, *extra), {})
    except Exception:
        return False
    expected = x[:, :, :: plan.bank.stride, :: plan.bank.stride].shape
    return called == list(range(len(plan.children))) and isinstance(out, Tensor) and out.shape == expected


def _with_blank_candidates(plan: FusedMixed, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, list[int]]:
    """What the module's own forward gives where its candidates give zeros, and which of them it called."""
    called: list[int] = []

    def stub(k: int) -> Forward:
        def forward(part: Tensor, *_: Any, **__: Any) -> Tensor:
            if part.shape[1] != plan.bank.channels:
                raise Unrecognised("another share of the channels")
            called.append(k)
            return torch.zeros_like(part[:, :, :: plan.bank.stride, :: plan.bank.stride])

        return forward

    with replaced(plan.children, [stub(k) for k in range(len(plan.children))]):
        return class_forward(plan.module, args, kwargs), called


def _result_dtype(
    plan: FusedMixed, device: torch.device, dtype: torch.dtype, args: Sequence[Any], kwargs: dict[str, Any]
) -> torch.dtype | None:
    """The dtype of the module's own result from a state and candidates of `dtype`, None where it cannot be told."""
    if any(True for layer in plan.layers[len(plan.children) :] for _ in layer.buffers()):
        return None  # they would take the zeros for images
    size = (2, plan.bank.channels * plan.fraction, PROBE_SIZE, PROBE_SIZE)
    x = torch.zeros(size, dtype=dtype, device=device)
    with random_state_kept(device) as rewind, torch.no_grad():
        try:
            out, _ = _with_blank_candidates(plan, (x, *args[1:]), kwargs)
        except Exception:
            return None
        finally:
            rewind()
    return out.dtype if isinstance(out, Tensor) else None
