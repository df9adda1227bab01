"""The state of a differentiable search: network, optimizers, guard, and the two steps that one step consists of."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nasfast.spaces.base import Space
from nasfast.strategies.gradient.collapse_guard import CollapseGuard, GuardSettings, Observation, Verdict
from nasfast.strategies.gradient.drnas import anchor_distance
from nasfast.strategies.gradient.readout import Derived, architecture_of
from nasfast.strategies.gradient.relaxations import Sampled, make_relaxation
from nasfast.strategies.gradient.settings import BilevelSettings
from nasfast.strategies.gradient.steps import (
    Batch,
    StepResult,
    UnrollBuffers,
    cosine_rate,
    first_order_step,
    second_order_step,
    weight_step,
)
from nasfast.supernets.cell_network import SearchNetwork
from nasfast.supernets.mixture import MixtureNetwork
from nasfast.training.optim import set_rate, weight_optimizer

_SEED_DRAWS = 5
"""The generator of drawn weights has a seed this far from the run's, as the generators of the loop have theirs."""


class BilevelStep(NamedTuple):
    """Results on the train batch and, where the architecture took a step, on the validation batch."""

    train: StepResult
    valid: StepResult | None


class BilevelSearch:
    """Searches one supernet by turns: the architecture on one half of the images, the weights on the other.

    Args:
        space: A space of fixed wiring to search; None for the cells of DARTS.
    """

    def __init__(self, config: BilevelSettings, num_classes: int, in_channels: int, space: Space | None = None) -> None:
        self.config = config
        with torch.random.fork_rng(devices=[]):  # the caller's global generator is left alone
            torch.manual_seed(config.seed)
            self.network = _make_network(config, num_classes, in_channels, space)
        draws = torch.Generator(config.device).manual_seed(config.seed + _SEED_DRAWS)
        self.network.relaxation = make_relaxation(config.strategy, draws, config.temperatures())
        self.architecture = architecture_of(self.network)
        self.network.to(config.device).train()
        self.criterion = nn.CrossEntropyLoss()
        self.weight_optimizer = weight_optimizer(self.network, config)
        self.arch_optimizer = torch.optim.Adam(
            self.network.arch_parameters(),
            lr=config.arch_lr,
            betas=(0.5, 0.999),
            weight_decay=config.arch_weight_decay,
            foreach=True,
        )
        self._buffers = UnrollBuffers(self.network) if config.order == "second" else None
        self._guard = CollapseGuard(
            GuardSettings(
                config.guard,
                config.max_skips,
                config.min_entropy,
                config.stable_epochs,
                config.guard_from,
                "the normal cell" if space is None else "the architecture",
            )
        )

    def begin_epoch(self, epoch: int) -> float:
        """Set the learning rate and the temperature of an epoch; returns the rate."""
        if isinstance(self.network.relaxation, Sampled):
            self.network.relaxation.begin_epoch(epoch, self.config.epochs)
        rate = cosine_rate(epoch, self.config.epochs, self.config.lr, self.config.lr_min)
        set_rate(self.weight_optimizer, rate)
        return rate

    def searches(self, epoch: int) -> bool:
        """Whether the architecture takes steps in this epoch."""
        return epoch >= self.config.warmup_epochs

    def step(self, train: Batch, valid: Batch | None) -> BilevelStep:
        """The architecture's step on ``valid`` (None: it takes none), then the weights' step on ``train``."""
        judged = None
        if valid is not None and self._buffers is not None:
            judged = second_order_step(
                self.network, self.criterion, self.weight_optimizer, self.arch_optimizer, self._buffers, train, valid
            )
        elif valid is not None:
            judged = first_order_step(self.network, self.criterion, self.arch_optimizer, valid, self._penalty())
        return BilevelStep(
            weight_step(self.network, self.criterion, self.weight_optimizer, train, self.config.grad_clip), judged
        )

    def _penalty(self) -> Tensor | None:
        """What the architecture's loss has besides the images'."""
        if self.config.strategy != "drnas" or not self.config.anchor:
            return None
        return self.config.anchor * anchor_distance(self.network.arch_parameters())

    def end_epoch(self, epoch: int) -> tuple[Observation, list[Verdict]]:
        """Measure the architecture and let the guard judge it (in epochs where it moves)."""
        seen = self.architecture.observe()
        return seen, self._guard.judge(epoch, seen) if self.searches(epoch) else []

    def derive(self) -> Derived:
        """The architecture found so far, with the guard's cap on skip connections."""
        return self.architecture.derive(self._guard.cap)

    def state(self) -> dict[str, Any]:
        """Everything the next step depends on, as plain tensors and containers."""
        relaxation = self.network.relaxation
        return {
            "network": self.network.state_dict(),
            "alphas": [alpha.detach() for alpha in self.network.arch_parameters()],
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "arch_optimizer": self.arch_optimizer.state_dict(),
            "guard": self._guard.state(),
            "relaxation": relaxation.state() if isinstance(relaxation, Sampled) else {},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue where the search was whose state this is."""
        self.network.load_state_dict(state["network"])
        with torch.no_grad():
            for own, stored in zip(self.network.arch_parameters(), state["alphas"], strict=True):
                own.copy_(stored)
        self.weight_optimizer.load_state_dict(state["weight_optimizer"])
        self.arch_optimizer.load_state_dict(state["arch_optimizer"])
        self._guard.load_state(state["guard"])
        if isinstance(self.network.relaxation, Sampled):
            self.network.relaxation.load_state(state["relaxation"])


def _make_network(
    config: BilevelSettings, num_classes: int, in_channels: int, space: Space | None
) -> SearchNetwork | MixtureNetwork:
    partial = config.strategy == "pcdarts"
    if space is not None:
        network = MixtureNetwork(space, num_classes, in_channels, affine=False, partial=partial, fused=config.fused)
        return network.to(memory_format=network.layout)
    return SearchNetwork(
        config.channels,
        num_classes,
        config.layers,
        None,
        config.steps,
        config.steps,
        in_channels=in_channels,
        partial=partial,
        fused=config.fused,
        recompute=config.recompute,
    )
