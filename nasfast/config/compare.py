"""The settings of a comparison of estimators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from nasfast.config.base import SHARED_PANEL, SPACE_PANEL, TRAIN_PANEL, WEIGHTS_PANEL, option
from nasfast.config.space import SpaceChoice, TableOptions
from nasfast.config.weights import CandidateOptions, ChildOptions

_WHAT, _TRAIN = "Comparison", "Trainings"


@dataclass(frozen=True)
class CompareConfig(ChildOptions, CandidateOptions, TableOptions, SpaceChoice, panel=_WHAT):
    """What is compared, and what the reference is."""

    owner = "a comparison"
    panels: ClassVar[Mapping[str, str]] = {
        SPACE_PANEL: _WHAT,
        **dict.fromkeys((WEIGHTS_PANEL, TRAIN_PANEL, SHARED_PANEL), _TRAIN),
    }

    architectures: int = option(30, "Architectures to draw.", 8)
    table: str = option(help="File with a score per architecture, as one more estimator.")

    epochs: int = option(20, "Epochs of the full training, the reference.", low=5)
    lr: float = option(0.1, low=1e-9)
    held_out: float = 0.3
    oneshot_epochs: int = option(30, "Epochs of the shared network.", 1, panel=_TRAIN)
    calibration: int = option(help="Train images that recalibrate a child of the shared network.", low=2)

    def run_name(self) -> str:
        """What its run folder is called, where nobody says."""
        return f"{self.data_name}-{self.space}-compare"
