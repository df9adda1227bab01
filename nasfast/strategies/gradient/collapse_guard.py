"""A guard against the collapse of DARTS, in which skip connections crowd everything else out.

Skip connections of the normal cell and the entropy of the architecture are counted each epoch; on a sign of collapse
the search can go on, stop early, or keep the number of skip connections down when the cells are derived.

H. Liang et al., "DARTS+: Improved Differentiable Architecture Search with Early Stopping", arXiv:1909.06035: stop when
a normal cell holds too many skip connections, or when the ranking of the operations has been stable for some epochs.
A. Zela et al., "Understanding and Robustifying Differentiable Architecture Search", arXiv:1909.09656: searching on
past that point makes the derived cells worse.
X. Chen et al., "Progressive Differentiable Architecture Search", arXiv:1904.12760: a cap on skip connections, kept by
taking the weakest one out and deriving again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nasfast.kernels.primitives import INPUTS_PER_NODE
from nasfast.spaces.darts import count_skips, derive_genotype
from nasfast.spaces.genotype import Genotype
from nasfast.supernets.cell_network import SearchNetwork

MODES = ("off", "log", "cap", "stop")
_SKIP = "skip_connect"


@dataclass(frozen=True)
class GuardSettings:
    """What to watch and what to do about it.

    Args:
        mode: ``off``; ``log`` only; ``cap`` the skip connections of the derived normal cell; ``stop`` early, and cap.
        max_skips: Skip connections that a normal cell may hold. DARTS+ stops at two: ``max_skips=1``.
        min_entropy: Entropy of the operation weights (0 decided, 1 undecided) below which it is a collapse; 0: never.
        stable_epochs: Epochs after which an unchanged ranking counts as settled, which stops too; 0: never.
        first_epoch: Epochs before this one are not judged: the first rankings are noise.
        where: What the skip connections are counted in, for messages.
    """

    mode: str = "cap"
    max_skips: int = 2
    min_entropy: float = 0.0
    stable_epochs: int = 10
    first_epoch: int = 0
    where: str = "the normal cell"


@dataclass(frozen=True)
class Observation:
    """The architecture at the end of an epoch: entropy 0 to 1, skip connections, the best operation of every edge.

    An architecture of a space, which has no two kinds of cells, has all its skip connections in ``skip_normal``.
    """

    entropy: float
    skip_normal: int
    skip_reduce: int
    ranking: list[int]


@dataclass(frozen=True)
class Verdict:
    """A sign of collapse, and what follows: ``log``, ``cap`` or ``stop``."""

    reason: str
    action: str


def entropy(weights: Tensor) -> float:
    """Mean entropy of the rows of weights ``[E, K]`` that sum to 1, divided by its largest value, log K."""
    values = weights.detach().double().cpu()
    return float(torch.special.entr(values).sum(1).mean() / math.log(values.shape[1]))


def observe(network: SearchNetwork) -> Observation:
    """Measure the architecture of a network."""
    with torch.no_grad():
        normal, reduce = network.cell_weights(False), network.cell_weights(True)
    weights = torch.cat([normal[0], reduce[0]])
    skip_normal, skip_reduce = count_skips(_derive(network, normal, reduce))
    return Observation(entropy(weights), skip_normal, skip_reduce, weights.argmax(1).tolist())


def derive_capped(network: SearchNetwork, max_skips: int | None) -> Genotype:
    """The genotype of a network with at most ``max_skips`` skip connections in its normal cell; None: no cap.

    While there are more, the skip connection of the lowest weight is taken out of the running and the cell is derived
    again.
    """
    with torch.no_grad():
        normal = tuple(part.clone() for part in network.cell_weights(False))
        reduce = network.cell_weights(True)
    genotype = _derive(network, normal, reduce)
    column = network.primitives.index(_SKIP) if _SKIP in network.primitives else None
    while column is not None and max_skips is not None and count_skips(genotype)[0] > max_skips:
        # Edge weights have no say: they sum to 1 per node, so those into late nodes are small.
        weakest = min(_skip_edges(genotype), key=lambda edge: float(normal[0][edge, column]))
        normal[0][weakest, column] = 0
        genotype = _derive(network, normal, reduce)
    return genotype


def _skip_edges(genotype: Genotype) -> list[int]:
    """Rows of the weights that the skip connections of the normal cell come from."""
    rows = []
    for position, (name, source) in enumerate(genotype.normal):
        node = position // INPUTS_PER_NODE
        first = sum(INPUTS_PER_NODE + earlier for earlier in range(node))
        if name == _SKIP:
            rows.append(first + source)
    return rows


def _derive(network: SearchNetwork, normal: tuple[Tensor, ...], reduce: tuple[Tensor, ...]) -> Genotype:
    edges = (normal[1], reduce[1]) if len(normal) > 1 else (None, None)
    return derive_genotype(normal[0], reduce[0], network._steps, network._multiplier, network.primitives, *edges)


class CollapseGuard:
    """Judges each epoch's :class:`Observation`. Its state is small and goes into checkpoints."""

    def __init__(self, settings: GuardSettings) -> None:
        self.settings = settings
        self._ranking: list[int] = []
        self._stable = 0
        self._reported: list[str] = []

    @property
    def cap(self) -> int | None:
        """How many skip connections the derived normal cell may hold; None: any number."""
        return self.settings.max_skips if self.settings.mode in ("cap", "stop") else None

    def judge(self, epoch: int, seen: Observation) -> list[Verdict]:
        """The signs of collapse that are new at this epoch, at most one of each kind."""
        self._stable = self._stable + 1 if seen.ranking == self._ranking else 0
        self._ranking = seen.ranking
        if self.settings.mode == "off" or epoch < self.settings.first_epoch:
            return []
        signs = self._signs(seen)
        fresh = [kind for kind in signs if kind not in self._reported]
        self._reported = list(signs)
        return [Verdict(signs[kind], self._action(kind)) for kind in fresh]

    def _signs(self, seen: Observation) -> dict[str, str]:
        limits, signs = self.settings, {}
        if seen.skip_normal > limits.max_skips:
            signs["skips"] = f"{seen.skip_normal} skip connections in {limits.where}, more than {limits.max_skips}"
        if seen.entropy < limits.min_entropy:
            signs["entropy"] = f"entropy {seen.entropy:.3f} of the operation weights, below {limits.min_entropy}"
        if limits.stable_epochs and self._stable >= limits.stable_epochs:
            signs["stable"] = f"best operation of every edge unchanged for {self._stable} epochs"
        return signs

    def _action(self, kind: str) -> str:
        mode = self.settings.mode
        return "log" if mode == "cap" and kind != "skips" else mode

    def state(self) -> dict[str, Any]:
        """Plain values for :meth:`load_state`."""
        return {"ranking": self._ranking, "stable": self._stable, "reported": self._reported}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue where the guard was whose state this is."""
        self._ranking, self._stable = list(state["ranking"]), int(state["stable"])
        self._reported = list(state["reported"])
