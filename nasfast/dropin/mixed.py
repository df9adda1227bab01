"""The fused forward of one mixed operation, installed on the module it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nasfast.dropin.alone import PROBE_SIZE, Unrecognised
from nasfast.dropin.auxiliary import Auxiliary, check_together, edge_rows, possible_auxiliaries
from nasfast.dropin.call_guard import Guard, fusable_state, in_autocast
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
        auxiliary: the skip that is added beside the mixture, None without one. Its weight follows those of the
            candidates.
    """

    auxiliary: Auxiliary | None = None

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self.module = bank.module
        self.children = [candidate.module for candidate in bank.candidates]
        mixed = {id(bank.holder), *map(id, self.children)}
        self.layers = [*self.children, *(child for child in own_children(bank.module) if id(child) not in mixed)]
        self.reads = Reads(bank.module)
        self.draws = ShapeBlind()
        self.convention, self.fraction, self.given = _read_convention(self)
        self.guard = Guard([bank.module, bank.holder], self.layers, self.norms())
        banks = [bank, self.auxiliary.bank] if self.auxiliary else [bank]
        self.graph = FusedGraph(1, 1, [Edge(each, 0, 0) for each in banks])
        self.kind = f"mixed operation of {len(self.children)} candidates"
        if self.auxiliary:
            self.kind += " and a skip beside them"
        if self.fraction > 1:
            self.kind += f" on 1/{self.fraction} of the channels"

    def norms(self) -> list[nn.BatchNorm2d]:
        """Those of the candidates and of the skip beside them."""
        return [*self.bank.norms(), *(self.auxiliary.norms() if self.auxiliary else ())]

    def parts(self) -> list[nn.Module]:
        """The modules whose results its forward adds up."""
        beside = self.auxiliary.module if self.auxiliary else None
        return self.children if beside is None else [*self.children, beside]

    def holds(self) -> bool:
        return self.guard.holds()

    def same_reads(self) -> bool:
        return self.reads.same()

    def fused(self, *args: Any, **kwargs: Any) -> Tensor | None:
        x = args[0] if args else None
        if not self.holds() or not fusable_state(x):
            return None
        assert isinstance(x, Tensor)
        if x.shape[1] != self.bank.channels * self.fraction or not self.fits_autocast(x, args, kwargs):
            return None
        weights = self.weights(x, args, kwargs)
        if weights is None:
            return None
        taken = x[:, : self.bank.channels]
        rows = weights.view(1, -1)
        out = run_graph(self.graph, [taken], edge_rows(rows) if self.auxiliary else rows)
        if self.fraction == 1:
            return out
        passed = pass_on(x, self.bank.channels, self.bank.stride)
        return channel_shuffle(torch.cat([out, passed], dim=1), self.fraction)

    def weights(self, like: Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
        """The weights [K] of this call, [K + 1] with a skip beside the mixture; None where they cannot be told.

        What a call brings is taken as it is for as long as the forward reads what it read when that was found out, and
        does not decide by it; else the forward itself says what it makes of it.
        """
        if in_autocast(like):  # a number that multiplies a bfloat16 image does so in float32
            like = like.new_empty(0, dtype=torch.float32)
        known = len(args) == 2 and not kwargs and not self.auxiliary and self.reads.same()
        given = args[1] if known else None
        vector = self._vector(given, like)
        if self.fraction > 1:
            # It may pass over candidates of weight 0.
            return None if vector is None or (self.reads.branches and not vector.all()) else vector
        if vector is not None and not self.reads.branches:
            return vector
        randomness = Randomness(like.device, [self.module])

        def trace(size: int) -> Tensor | None:
            return self._trace(like, args, kwargs, size)

        weights = self.draws.run(trace, randomness, randomness.rewind)
        if weights is None:
            randomness.rewind()
        return weights

    def _trace(self, like: Tensor, args: Sequence[Any], kwargs: dict[str, Any], size: int) -> Tensor | None:
        image = self.auxiliary is not None and self.auxiliary.module is None
        try:
            return candidate_weights(self.module, self.parts(), like, args, kwargs, size, image)[0]
        except Exception:
            if image:  # what its forward does with images, it need not do with vectors
                return None
            raise

    def _vector(self, given: Any, like: Tensor) -> Tensor | None:
        """Weights [K] that are given in the form that was found."""
        count = len(self.children)
        if self.convention == "vector" and isinstance(given, Tensor) and given.shape == (count,):
            return given
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
        for auxiliary in possible_auxiliaries(bank, plan.layers[count:]):
            parts = plan.children if auxiliary.module is None else [*plan.children, auxiliary.module]
            for _, extra in forms:
                rewind()
                try:
                    found = candidate_weights(module, parts, like, (x, *extra), {}, 1, auxiliary.module is None)[0]
                except Exception:
                    continue
                if found is not None:
                    check_together(bank, auxiliary)
                    plan.auxiliary = auxiliary
                    rewind()
                    return "inside", 1, bool(extra)
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
    called: list[int] = []

    def stub(k: int) -> Forward:
        def forward(part: Tensor, *_: Any, **__: Any) -> Tensor:
            if part.shape[1] != plan.bank.channels:
                raise Unrecognised("another share of the channels")
            called.append(k)
            return torch.zeros_like(part[:, :, :: plan.bank.stride, :: plan.bank.stride])

        return forward

    try:
        with replaced(plan.children, [stub(k) for k in range(len(plan.children))]):
            out = class_forward(plan.module, (x, *extra), {})
    except Exception:
        return False
    expected = x[:, :, :: plan.bank.stride, :: plan.bank.stride].shape
    return called == list(range(len(plan.children))) and isinstance(out, Tensor) and out.shape == expected
