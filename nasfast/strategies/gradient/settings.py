"""What a search by gradients has to be told: the part of a run's settings that its strategy reads."""

from __future__ import annotations

from typing import Protocol

from nasfast.training.optim import SGDOptions


class BilevelSettings(SGDOptions, Protocol):
    """Settings of :class:`nasfast.strategies.gradient.bilevel.BilevelSearch`; ``SearchConfig`` has them all."""

    @property
    def strategy(self) -> str: ...

    @property
    def seed(self) -> int: ...

    @property
    def device(self) -> str: ...

    @property
    def order(self) -> str: ...

    @property
    def epochs(self) -> int: ...

    @property
    def warmup_epochs(self) -> int: ...

    @property
    def lr_min(self) -> float: ...

    @property
    def grad_clip(self) -> float: ...

    @property
    def arch_lr(self) -> float: ...

    @property
    def arch_weight_decay(self) -> float: ...

    @property
    def anchor(self) -> float: ...

    @property
    def guard(self) -> str: ...

    @property
    def max_skips(self) -> int: ...

    @property
    def min_entropy(self) -> float: ...

    @property
    def stable_epochs(self) -> int: ...

    @property
    def guard_from(self) -> int: ...

    @property
    def channels(self) -> int: ...

    @property
    def layers(self) -> int: ...

    @property
    def steps(self) -> int: ...

    @property
    def fused(self) -> bool: ...

    @property
    def recompute(self) -> bool: ...

    def temperatures(self) -> tuple[float | None, float | None]:
        """Of the first and the last epoch; None for the strategy's own."""
        ...
