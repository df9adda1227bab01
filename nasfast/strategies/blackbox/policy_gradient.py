"""Reinforcement learning: a policy draws architectures and learns from their scores. REINFORCE and PPO."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from nasfast.errors import ConfigError
from nasfast.spaces.base import Rows
from nasfast.strategies.base import State, Strategy, Values, check_at_least
from nasfast.strategies.blackbox.policies import CategoricalPolicy, LSTMPolicy, Policy, pack_optimizer, unpack_optimizer
from nasfast.utils.suggest import must_be_one_of


@dataclass
class PolicyGradient(Strategy):
    """What REINFORCE and PPO share: the policy, the baseline and the batch that an update waits for.

    The advantage of an architecture is its score minus a running mean, over a running standard deviation, so that
    settings do not depend on the unit of the score. One that breaks the constraints has the advantage -1 and leaves the
    running statistics alone.

    Args:
        policy: Independent categoricals, or an LSTM controller.
        batch: Architectures per update.
        lr: Learning rate of Adam.
        entropy: Weight of the policy's entropy, which keeps it from settling early.
        baseline_decay: Of the running mean and variance, per architecture.
        hidden, bound: Width of the LSTM, and its largest logit.
    """

    policy: Literal["categorical", "lstm"] = "categorical"
    batch: int = 1
    lr: float = 0.1
    entropy: float = 0.2
    baseline_decay: float = 0.9
    hidden: int = 64
    bound: float = 5.0

    def __post_init__(self) -> None:
        if self.policy not in ("categorical", "lstm"):
            raise ConfigError(f"policy {must_be_one_of(self.policy, ('categorical', 'lstm'))}")
        check_at_least(
            type(self).__name__.lower(), batch=(self.batch, 1), hidden=(self.hidden, 1), entropy=(self.entropy, 0)
        )
        if not (self.lr > 0 and 0 <= self.baseline_decay < 1 and self.bound > 0):
            raise ConfigError("lr and bound must be above 0, baseline_decay in [0, 1)")

    def start(self) -> None:
        sizes = self.space.sizes.tolist()
        self.network: Policy
        if self.policy == "lstm":
            self.network = LSTMPolicy(sizes, self.hidden, self.bound, self.generator)
        else:
            self.network = CategoricalPolicy(sizes)
        self.optimizer = torch.optim.Adam(self.network.parameters(), self.lr)
        self.told: list[tuple[list[int], float]] = []  # rows with their advantages, until the batch is full
        self.mean, self.variance, self.weight = 0.0, 0.0, 0.0

    def ask(self, count: int) -> Rows:
        return self.network.sample(self.generator.random((count, len(self.space.sizes))))

    def learn(self, rows: Rows, values: Values, violations: Values) -> None:
        for row, value, violation in zip(rows.tolist(), values[:, 0].tolist(), violations.tolist(), strict=True):
            self.told.append((row, -1.0 if violation > 0 else self._advantage(value)))
            if len(self.told) == self.batch:
                told, self.told = self.told, []
                advantages = torch.tensor([advantage for _, advantage in told], dtype=torch.float32)
                self._update(np.array([row for row, _ in told], np.int64), advantages)

    def _advantage(self, value: float) -> float:
        """Advantage over what was told before; the statistics then take the value in (decayed, bias-corrected)."""
        keep = self.baseline_decay
        mean = self.mean / self.weight if self.weight else value
        spread = (self.variance / self.weight) ** 0.5 if self.weight else 0.0
        difference = value - mean
        self.mean = keep * self.mean + (1 - keep) * value
        self.variance = keep * self.variance + (1 - keep) * difference**2
        self.weight = keep * self.weight + (1 - keep)
        return difference / spread if spread > 0 else float(np.sign(difference))

    def _update(self, rows: Rows, advantages: Tensor) -> None:
        raise NotImplementedError

    def _step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def save(self) -> State:
        running = [self.mean, self.variance, self.weight]
        told = [[row, advantage] for row, advantage in self.told]
        return {"network": pack_optimizer(self.network, self.optimizer), "told": told, "running": running}

    def load(self, own: State) -> None:
        unpack_optimizer(self.network, self.optimizer, own["network"])
        self.told = [(row, advantage) for row, advantage in own["told"]]
        self.mean, self.variance, self.weight = own["running"]


@dataclass
class Reinforce(PolicyGradient):
    """Steps along advantage times gradient of the log-probability.

    Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning", Machine
    Learning 1992; for architectures: Zoph, Le, "Neural Architecture Search with Reinforcement Learning", ICLR 2017
    (``policy="lstm"``) and Ying et al., "NAS-Bench-101", ICML 2019 (``policy="categorical"``).
    """

    paper = "Williams, Machine Learning 1992; Zoph, Le, ICLR 2017"

    def _update(self, rows: Rows, advantages: Tensor) -> None:
        chosen, entropy = self.network.score(rows)
        self._step(-(advantages * chosen + self.entropy * entropy).mean())


@dataclass
class PPO(PolicyGradient):
    """Several steps per batch, each held near the policy that drew it by clipping the ratio of probabilities.

    Schulman et al., "Proximal Policy Optimization Algorithms", arXiv:1707.06347; for architectures: Zoph et al.,
    "Learning Transferable Architectures for Scalable Image Recognition", CVPR 2018.

    Args:
        epochs: Steps per batch.
        clip: How far the ratio may move from 1.
    """

    paper = "Schulman et al., arXiv:1707.06347"

    policy: Literal["categorical", "lstm"] = "lstm"
    batch: int = 10
    lr: float = 0.01
    epochs: int = 5
    clip: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("ppo", epochs=(self.epochs, 1), clip=(self.clip, 1e-6))

    def _update(self, rows: Rows, advantages: Tensor) -> None:
        with torch.no_grad():
            before, _ = self.network.score(rows)
        for _ in range(self.epochs):
            chosen, entropy = self.network.score(rows)
            ratio = (chosen - before).exp()
            bounded = ratio.clamp(1 - self.clip, 1 + self.clip)
            gain = torch.minimum(ratio * advantages, bounded * advantages)
            self._step(-(gain + self.entropy * entropy).mean())


REINFORCE_LSTM = partial(Reinforce, policy="lstm", batch=4, lr=0.01, entropy=0.1)
"""REINFORCE with an LSTM controller, which learns from four architectures at a time."""
