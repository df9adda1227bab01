"""What can be chosen of a table network and its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Activation = Literal["relu", "silu", "gelu"]
Block = Literal["mlp", "resnet"]


@dataclass(frozen=True)
class NetworkSettings:
    """One candidate: a chain of blocks over shared weights, and how it is trained.

    Attributes:
        bins: Intervals of a number, at most.
        block: "mlp" (linear, activation) or "resnet" (the same, added to its input).
        depth: Blocks after the embedding.
        width: Units of every layer.
        members: Members that share all weights but the scales of their inputs and their heads.
        dropout: Before every block and the heads.
        rate: Learning rate of AdamW at its highest.
        decay: Weight decay.
        scale_rate: Factor on the rate for the scales of features.
        batch: Rows of a step, at most.
    """

    bins: int = 32
    block: Block = "mlp"
    activation: Activation = "relu"
    depth: int = 2
    width: int = 128
    members: int = 8
    dropout: float = 0.1
    rate: float = 2e-3
    decay: float = 1e-3
    scale_rate: float = 1.0
    batch: int = 256
