"""In which order candidates are tried: first settings that complement each other, then draws around them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from nasfast.automl.members.boosting import BoostingSettings
from nasfast.automl.network.settings import NetworkSettings
from nasfast.automl.trials import Trial

FIRST = (Trial("constant", "constant"), Trial("linear", "linear"))
"""What every fit begins with: they take seconds, and a model is there."""

BOOSTING = (
    BoostingSettings(),
    BoostingSettings(
        learning_rate=0.05, max_leaf_nodes=12, min_samples_leaf=10, l2_regularization=1.0, max_features=0.5
    ),
    BoostingSettings(
        learning_rate=0.05, max_leaf_nodes=63, min_samples_leaf=40, l2_regularization=10.0, max_features=0.3
    ),
)
NETWORKS = (
    NetworkSettings(),
    NetworkSettings(bins=16, block="resnet", activation="silu", depth=2, width=128, dropout=0.2, rate=1e-3, decay=1e-2),
    NetworkSettings(bins=48, depth=3, width=128, members=16, dropout=0.0, rate=2e-3, decay=3e-4),
    NetworkSettings(bins=8, activation="gelu", depth=1, width=256, dropout=0.3, rate=3e-3, decay=3e-2),
)


def draw_boosting(rng: np.random.Generator) -> BoostingSettings:
    """Settings of boosting at random."""
    return BoostingSettings(
        learning_rate=float(np.round(np.exp(rng.uniform(np.log(0.02), np.log(0.2))), 4)),
        max_leaf_nodes=int(np.round(np.exp(rng.uniform(np.log(4), np.log(100))))),
        min_samples_leaf=int(np.round(np.exp(rng.uniform(np.log(2), np.log(80))))),
        l2_regularization=float(np.round(np.exp(rng.uniform(np.log(1e-3), np.log(30))), 4)),
        max_features=float(rng.choice([0.2, 0.4, 0.6, 0.8, 1.0])),
    )


def draw_network(rng: np.random.Generator) -> NetworkSettings:
    """Settings of a network at random."""
    return NetworkSettings(
        bins=int(rng.choice([4, 8, 16, 32, 48])),
        block=str(rng.choice(["mlp", "resnet"])),  # type: ignore[arg-type]
        activation=str(rng.choice(["relu", "silu", "gelu"])),  # type: ignore[arg-type]
        depth=int(rng.integers(1, 4)),
        width=int(rng.choice([64, 128, 192, 256])),
        members=int(rng.choice([4, 8, 16])),
        dropout=float(rng.choice([0.0, 0.0, 0.1, 0.2, 0.3])),
        rate=float(np.round(np.exp(rng.uniform(np.log(5e-4), np.log(5e-3))), 5)),
        decay=float(np.round(np.exp(rng.uniform(np.log(1e-4), np.log(5e-2))), 5)),
    )


def boosting_trials(seed: int) -> Iterator[Trial]:
    """Without end."""
    return _trials("boosting", BOOSTING, draw_boosting, seed, stream=1)


def network_trials(seed: int) -> Iterator[Trial]:
    """Without end."""
    return _trials("network", NETWORKS, draw_network, seed, stream=2)


def _trials(
    family: str, first: Sequence[Any], draw: Callable[[np.random.Generator], Any], seed: int, stream: int
) -> Iterator[Trial]:
    rng = np.random.default_rng([seed, stream])
    drawn = (draw(rng) for _ in itertools.count())
    for number, settings in enumerate(itertools.chain(first, drawn), 1):
        yield Trial(f"{family} {number}", family, asdict(settings), seed * 1000 + number)
