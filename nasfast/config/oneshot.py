"""The settings of a one-shot search: training of a weight-shared network by sampled paths, then a search among its
children. The command line is made from these fields, as from those of SearchConfig.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from nasfast.config.base import check_value, convert_known, option, space_set_for
from nasfast.config.budget import check_budget
from nasfast.config.space import SPACE_PANEL, check_one_limit
from nasfast.config.workers import WorkerOptions
from nasfast.errors import ConfigError
from nasfast.strategies.registry import ONE_SHOT, SAMPLERS, make_strategy, plain_strategies
from nasfast.training.config import RetrainConfig
from nasfast.utils.suggest import must_be_one_of

if TYPE_CHECKING:
    from nasfast.strategies.base import Strategy
    from nasfast.strategies.blackbox.policy_gradient import Reinforce
    from nasfast.strategies.oneshot.path_samplers import PathSampler

_TRAIN, _SHARED, _RETRAIN = "Weights", "Shared network", "Retraining"
_ENAS: dict[str, Any] = {"policy": "lstm", "batch": 10, "lr": 0.01, "entropy": 0.05, "baseline_decay": 0.95}
_DEFAULT_SEARCH = {"spos": "regularized-evolution", "fairnas": "nsga2", "enas": "controller"}


@dataclass(frozen=True)
class OneShotConfig(WorkerOptions):
    """Settings of a one-shot search; :meth:`of` has defaults that suit a data set.

    Raises:
        ConfigError: A value is out of range, or two do not go together; the message names the option.
    """

    strategy: str = option(
        "spos", "How to train the shared network, or how to search it once it is trained.", SPACE_PANEL
    )
    estimator: Literal["oneshot"] = option("oneshot", "What says how good an architecture is.", SPACE_PANEL)

    epochs: int = option(100, "Passes over the train images that are not held out.", _TRAIN, 1)
    batch_size: int = option(64, "Images per step.", _TRAIN, 2)
    lr: float = option(0.05, "Learning rate of the weights in the first epoch.", _TRAIN, 0)
    lr_min: float = option(0.0, "Learning rate that the cosine schedule falls to.", _TRAIN, 0)
    momentum: float = option(0.9, "Momentum of SGD.", _TRAIN, 0, 1)
    weight_decay: float = option(3e-4, "Weight decay of the weights.", _TRAIN, 0)
    grad_clip: float = option(5.0, "Largest norm of the weights' gradient.", _TRAIN, 1e-9)
    sampler: str = option(
        "", "Paths of a step: uniform, fair, or sandwich for elastic spaces. Default: as the strategy.", _SHARED
    )
    paths: int = option(
        0, "Paths per step, whose gradients are added; each sees the whole batch. 0: as the sampler.", _SHARED, 0
    )
    accumulate: int = option(
        1,
        "Equal parts that the images of a step go through in, their gradients added: memory is that of one. BatchNorm "
        "sees a part at a time.",
        _SHARED,
        1,
    )
    distill: bool = option(
        False, "With the sandwich rule: all but the largest child learn the largest one's outputs.", _SHARED
    )
    bf16: bool = option(False, "Compute in bfloat16 where autocast does; weights stay float32.", _SHARED)
    rank_paths: Literal["same", "different"] = option(
        "same", "Under torchrun: whether all ranks take the same paths in a step, or each its own.", _SHARED
    )
    rank_timeout: float = option(600.0, "Seconds after which a rank that does not answer is lost.", _SHARED, 1)
    held_out: float = option(
        0.2, "Share of the train images that no weight learns from; children are compared on them.", _SHARED, 0.01, 0.9
    )
    calibration: int = option(
        256, "Train images that give each child its own BatchNorm statistics; 0: the shared ones.", _SHARED, 0
    )
    memory: int = option(1024, "MiB that the values of children may take while they are compared.", _SHARED, 1)
    rewards: int = option(500, "Architectures that the controller of enas is told of after each epoch.", _SHARED, 0)
    reward_images: int = option(128, "Held-out images that a reward is measured on.", _SHARED, 2)

    search: str = option(
        "", "Strategy that searches the trained network. Default: regularized-evolution; fairnas nsga2.", SPACE_PANEL
    )
    ask: int = option(10, "Architectures that the strategy proposes at a time.", SPACE_PANEL, 1)

    retrain: bool = option(False, "Train the best architecture from scratch, and a random one beside it.", _RETRAIN)
    retrain_epochs: int = option(200, "Epochs of each retraining.", _RETRAIN, 1)
    retrain_batch_size: int = option(96, "Images per step of a retraining.", _RETRAIN, 2)

    def __post_init__(self) -> None:
        for f in fields(self):
            kind = _TYPES[f.name]
            check_value(f, kind, getattr(self, f.name))
        if self.strategy not in (*ONE_SHOT, *plain_strategies()):
            raise ConfigError(f"--strategy {must_be_one_of(self.strategy, (*ONE_SHOT, *plain_strategies()))}")
        if self.lr_min > self.lr:
            raise ConfigError(f"--lr-min {self.lr_min} is above --lr {self.lr}; expected at most that")
        check_budget(self.budget, self.device)
        self.check_workers()
        self._check_sampler()
        self._check_search()

    def _check_sampler(self) -> None:
        if self.sampler and self.strategy == "enas":
            raise ConfigError(f"--sampler {self.sampler} does not go with enas, whose controller draws the paths")
        if self.sampler and self.sampler not in SAMPLERS:
            raise ConfigError(f"--sampler must be one of {', '.join(SAMPLERS)}, got {self.sampler!r}")
        if self.distill and self.sampler != "sandwich":
            raise ConfigError("--distill learns from the largest child; it needs --sampler sandwich")
        if self.sampler == "sandwich" and self.rank_paths == "different":
            raise ConfigError("--rank-paths different does not go with the sandwich rule, whose ends every rank takes")
        if self.calibration == 1:
            raise ConfigError("--calibration must be 0 or at least 2 images, got 1")

    def _check_search(self) -> None:
        if self.search and (self.strategy not in ("spos", "fairnas") or self.search not in plain_strategies()):
            raise ConfigError(
                f"--search must be one of {', '.join(plain_strategies())} and goes with --strategy spos or fairnas, "
                f"got {self.search!r} with {self.strategy}"
            )
        goals, _ = self.objectives(), self.constraints()
        many = self.search_name != "controller" and self.search_strategy().many_objectives
        if len(goals) > 1 and not many:
            raise ConfigError(
                f"{self.search_name} follows one objective, got {', '.join(map(str, goals))}; use nsga2, or limit "
                "the others by --constraint"
            )
        if self.strategy == "enas":
            self.controller()

    def run_name(self) -> str:
        """What its run folder is called, where nobody says."""
        return f"{Path(self.data).resolve().name}-{self.space}-{self.strategy}"

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> OneShotConfig:
        """From values by name, over defaults that suit the data: the digits get small networks and few epochs.

        Raises:
            ConfigError: An unknown name, a value of another type or out of range.
        """
        given = convert_known(settings, _TYPES, "--estimator oneshot")
        check_one_limit(given)
        if given.get("data", "digits") == "digits":
            chosen = space_set_for("digits", given.get("space", "nasbench201"), given.get("space_set", ()))
            fair = _DIGITS_FAIR if given.get("strategy") == "fairnas" else {}
            given = DIGITS | fair | given | {"space_set": chosen}
        return cls(**given)

    def retrain_config(self) -> RetrainConfig:
        """How a run with these settings trains what it has found."""
        return RetrainConfig(
            epochs=self.retrain_epochs,
            batch_size=self.retrain_batch_size,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            grad_clip=self.grad_clip,
            drop_path=0.0,
            auxiliary=False,
            cutout=self.cutout,
            seed=self.seed,
            device=self.device,
        )

    @property
    def search_name(self) -> str:
        """What searches the trained network: a black-box strategy, or "controller"."""
        return self.search or _DEFAULT_SEARCH.get(self.strategy, self.strategy)

    def make_sampler(self) -> PathSampler:
        """What draws the paths of the training, before its ``init``."""
        from nasfast.strategies.oneshot.path_samplers import MAKERS, ControllerPaths

        if self.strategy == "enas":
            return ControllerPaths(self.controller())
        return MAKERS[self.sampler or ("fair" if self.strategy == "fairnas" else "uniform")]()

    def controller(self) -> Reinforce:
        """The controller of enas: REINFORCE with an LSTM."""
        from nasfast.strategies.blackbox.policy_gradient import Reinforce

        found = make_strategy("reinforce", _ENAS | self.strategy_settings())
        assert isinstance(found, Reinforce)
        return found

    def search_strategy(self) -> Strategy:
        """The strategy that searches the trained network, where that is not the controller."""
        return make_strategy(self.search_name, self.strategy_settings())


_TYPES: dict[str, Any] = get_type_hints(OneShotConfig)

DIGITS: dict[str, Any] = {
    "epochs": 30,
    "batch_size": 32,
    "calibration": 128,
    "rewards": 30,
    "reward_images": 64,
    "evaluations": 100,
    "retrain_epochs": 15,
    "retrain_batch_size": 64,
}
"""Settings for the digits: a small network learns them in few epochs."""

_DIGITS_FAIR = {"epochs": 10}  # each has several paths per step
