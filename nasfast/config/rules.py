"""Which settings do not go together: one table, over the kinds of search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nasfast.config.base import option_name
from nasfast.config.budget import Budget
from nasfast.errors import ConfigError
from nasfast.estimators.curves import FEWEST
from nasfast.strategies.registry import MORPHISM, MULTI_FIDELITY

Rule = tuple[Callable[[Any], Any], str]
"""Whether settings break it, and what to say then, with values as ``{s.epochs}``."""


def check_rules(settings: Any) -> None:
    """Raise ConfigError where settings do not go together; the first rule that is broken says how."""
    for owner, rules in RULES.items():
        for broken, text in rules if hasattr(type(settings), owner) else ():
            if broken(settings):
                raise ConfigError(text.format(s=settings))


def needs_space(name: str) -> str:
    """What to say of a setting of spaces where none is searched."""
    return f"{option_name(name)} belongs to the search of a space; add --space, such as nasbench201"


def _too_many_goals(s: Any) -> bool:
    return len(s.objectives()) > 1 and not s.search_strategy().many_objectives


def _limit_beyond_all_accuracies(s: Any) -> bool:
    return any(limit.metric == "score" and not 0 <= limit.limit <= 1 for limit in s.constraints())


_ACCURACY = "--constraint: the score is an accuracy here, a fraction from 0 to 1; got {s.constraint}"
_TUNED = f"goes with --strategy {', '.join(MULTI_FIDELITY)}, got --strategy {{s.strategy}}"
_ONE_GOAL = "follows one objective, got {s.goals}; use {s.front}, or limit the others by --constraint"
_BY_ACCURACY = ("train", "inherit", "extrapolate")
_NO_CELLS = "does not go with --space {s.space}; see --channels, --layers"

RULES: dict[str, tuple[Rule, ...]] = {
    "lr_min": (
        (lambda s: s.lr_min > s.lr, "--lr-min {s.lr_min} is above --lr {s.lr}; expected at most that"),
    ),
    # By gradients.
    "warmup_epochs": (
        (lambda s: Budget.parse(s.budget).trials is not None,
         "--budget {s.budget!r} counts trials, which a search by gradients has not; see --epochs"),
        (lambda s: s.warmup_epochs >= s.epochs,
         "--warmup-epochs {s.warmup_epochs} leaves none of {s.epochs} epochs to search in; expected fewer"),
        (lambda s: s.strategy == "pcdarts" and s.channels % 4 and not s.of_space,
         "--channels must be a multiple of 4 with --strategy pcdarts, got {s.channels}"),
        (lambda s: s.order == "second" and s.strategy not in ("darts", "pcdarts"),
         "--order second needs weights that are not drawn, which {s.strategy} has"),
        (lambda s: s.temperatures() != (None, None) and s.strategy not in ("gdas", "snas"),
         "--temperature belongs to gdas and snas, got --strategy {s.strategy}"),
        (lambda s: s.table and not s.space, needs_space("table")),
        (lambda s: s.table and not s.of_space, "--table " + _NO_CELLS),
        (lambda s: s.space_set and not s.space, needs_space("space_set")),
        (lambda s: s.space_set and not s.of_space, "--space-set " + _NO_CELLS),
    ),
    # On workers.
    "workers": (
        (lambda s: s.address and not s.on_ray,
         "--address {s.address} is that of a Ray cluster; it needs --workers ray"),
        (lambda s: s.worker_gpus and not s.on_ray,
         "--worker-gpus goes with --workers ray; other workers share what --device names"),
    ),
    # By evaluations.
    "min_epochs": (
        (lambda s: s.estimator == "table" and not s.table,
         "--estimator table needs --table FILE, the scores to look up"),
        (lambda s: s.min_epochs > 1 and s.strategy not in MULTI_FIDELITY, "--min-epochs " + _TUNED),
        (lambda s: s.continue_rungs and s.strategy not in MULTI_FIDELITY, "--continue-rungs " + _TUNED),
        (lambda s: s.strategy in MORPHISM and s.estimator != "inherit",
         "--strategy {s.strategy} goes with --estimator inherit, got --estimator {s.estimator}"),
        (lambda s: s.strategy not in MORPHISM and s.estimator == "inherit",
         f"--estimator inherit goes with --strategy {', '.join(MORPHISM)}, got --strategy {{s.strategy}}"),
        (_too_many_goals, "--strategy {s.strategy} " + _ONE_GOAL),
        (lambda s: s.estimator in _BY_ACCURACY and _limit_beyond_all_accuracies(s), _ACCURACY),
        (lambda s: s.estimator == "extrapolate" and s.observe >= s.epochs,
         "--observe must be below --epochs {s.epochs}, got {s.observe}"),
        (lambda s: s.stops_early and not 0 < s.stop_early < 1,
         "--stop-early must be a probability above 0 and below 1, got {s.stop_early}"),
        (lambda s: s.stops_early and s.epochs <= FEWEST,
         f"--stop-early needs --epochs {FEWEST + 1} or more, got {{s.epochs}}"),
        (lambda s: s.stops_early and s.workers,
         "--stop-early compares each training with the best one so far, which --workers do not share; leave out one of "
         "the two"),
        (lambda s: s.stops_early and s.strategy in MULTI_FIDELITY,
         "--stop-early needs trainings of one length, and --strategy {s.strategy} has several; it stops early by "
         "itself"),
        (lambda s: s.stops_early and s.goals != "score",
         "--stop-early stops what will not beat the best score, which other objectives may want: got {s.goals}"),
    ),
    # With a shared network.
    "sampler": (
        (lambda s: s.sampler and s.strategy == "enas",
         "--sampler {s.sampler} does not go with enas, whose controller draws the paths"),
        (lambda s: s.distill and s.sampler != "sandwich",
         "--distill learns from the largest child; it needs --sampler sandwich"),
        (lambda s: s.sampler == "sandwich" and s.rank_paths == "different",
         "--rank-paths different does not go with the sandwich rule, whose ends every rank takes"),
        (_too_many_goals, "{s.search_name} " + _ONE_GOAL),
        (_limit_beyond_all_accuracies, _ACCURACY),
    ),
}  # fmt: skip
"""By a setting of the kinds of search that the rules are for."""
