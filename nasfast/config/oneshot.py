"""The settings of a one-shot search: training of a weight-shared network by sampled paths, then a search among its
children.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nasfast.config.base import SHARED_PANEL, SPACE_PANEL, option
from nasfast.config.weights import ChildOptions, RetrainOptions, SgdOptions
from nasfast.config.workers import WorkerOptions
from nasfast.errors import ConfigError
from nasfast.strategies.registry import ONE_SHOT, SAMPLERS, make_strategy, plain_strategies
from nasfast.training.config import RetrainConfig
from nasfast.utils.suggest import did_you_mean, must_be_one_of

if TYPE_CHECKING:
    from nasfast.strategies.base import Strategy
    from nasfast.strategies.blackbox.policy_gradient import Reinforce
    from nasfast.strategies.oneshot.path_samplers import PathSampler

_ENAS: dict[str, Any] = {"policy": "lstm", "batch": 10, "lr": 0.01, "entropy": 0.05, "baseline_decay": 0.95}
_DEFAULT_SEARCH = {"spos": "regularized-evolution", "fairnas": "nsga2", "enas": "controller"}


@dataclass(frozen=True)
class OneShotConfig(RetrainOptions, ChildOptions, SgdOptions, WorkerOptions, panel=SHARED_PANEL):
    """Settings of a one-shot search; :meth:`of` has defaults that suit a data set."""

    owner = "--estimator oneshot"

    strategy: str = option("spos", "How to train the shared network, or how to search it once it is trained.")
    estimator: Literal["oneshot"] = option("oneshot", "What says how good an architecture is.")
    ask: int = 10

    epochs: int = option(100, "Passes over the train images that are not held out.")
    lr: float = 0.05
    sampler: str = option(
        "", "Paths of a step: uniform, fair, or sandwich for elastic spaces. Default: as the strategy."
    )
    paths: int = option(
        0, "Paths per step, whose gradients are added; each sees the whole batch. 0: as the sampler.", 0
    )
    accumulate: int = option(
        1,
        "Equal parts that the images of a step go through in, their gradients added: memory is that of one. BatchNorm "
        "sees a part at a time.",
        1,
    )
    distill: bool = option(False, "With the sandwich rule: all but the largest child learn the largest one's outputs.")
    bf16: bool = option(False, "Compute in bfloat16 where autocast does; weights stay float32.")
    rank_paths: Literal["same", "different"] = option(
        "same", "Under torchrun: whether all ranks take the same paths in a step, or each its own."
    )
    rank_timeout: float = option(600.0, "Seconds after which a rank that does not answer is lost.", 1)
    memory: int = option(1024, "MiB that the values of children may take while they are compared.", 1)
    rewards: int = option(500, "Architectures that the controller of enas is told of after each epoch.", 0)
    reward_images: int = option(128, "Held-out images that a reward is measured on.", 2)

    search: str = option(
        "",
        "Strategy that searches the trained network. Default: regularized-evolution; fairnas nsga2.",
        panel=SPACE_PANEL,
    )

    retrain: bool = option(False, "Train the best architecture from scratch, and a random one beside it.")
    retrain_epochs: int = 200

    def check(self) -> None:
        known, plain = (*ONE_SHOT, *plain_strategies()), plain_strategies()
        if self.strategy not in known:
            raise ConfigError(f"--strategy {must_be_one_of(self.strategy, known)}")
        if self.sampler and self.sampler not in SAMPLERS:
            raise ConfigError(f"--sampler {must_be_one_of(self.sampler, SAMPLERS)}")
        if self.calibration == 1:
            raise ConfigError("--calibration must be 0 or at least 2 images, got 1")
        if self.search and (self.strategy not in ("spos", "fairnas") or self.search not in plain):
            raise ConfigError(
                f"--search must be one of {', '.join(plain)} and goes with --strategy spos or fairnas, "
                f"got {self.search!r} with {self.strategy}{did_you_mean(self.search, plain)}"
            )
        super().check()

    def run_name(self) -> str:
        """What its run folder is called, where nobody says."""
        return f"{self.data_name}-{self.space}-{self.strategy}"

    @classmethod
    def fitted(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """See :meth:`nasfast.config.space.SpaceChoice.fitted`; few epochs too."""
        if given.get("data", cls.data) != "digits":
            return dict(given)
        fair = _DIGITS_FAIR if given.get("strategy") == "fairnas" else {}
        return DIGITS | fair | super().fitted(given)

    def retrain_config(self) -> RetrainConfig:
        """How a run with these settings trains what it has found."""
        names = ("lr", "momentum", "weight_decay", "grad_clip", "cutout", "seed", "device")
        return self.retrain_like(names).plain()

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
        """What searches the trained network."""
        return self.controller() if self.strategy == "enas" else super().search_strategy()


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
