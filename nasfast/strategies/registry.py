"""The black-box strategies by name, and their settings from text."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any, Literal, get_args, get_origin, get_type_hints

from nasfast.errors import ConfigError
from nasfast.strategies.base import Strategy
from nasfast.strategies.blackbox.bayesian import Bayesian
from nasfast.strategies.blackbox.evolution import RegularizedEvolution
from nasfast.strategies.blackbox.local_search import LocalSearch
from nasfast.strategies.blackbox.morphism import LamarckianNSGA2, MorphismEvolution, MorphismHillClimbing
from nasfast.strategies.blackbox.multi_fidelity import ASHA, BOHB, Hyperband, SuccessiveHalving
from nasfast.strategies.blackbox.nsga2 import NSGA2
from nasfast.strategies.blackbox.policy_gradient import PPO, Reinforce
from nasfast.strategies.blackbox.random_search import RandomSearch

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "random": RandomSearch,
    "local-search": LocalSearch,
    "regularized-evolution": RegularizedEvolution,
    "nsga2": NSGA2,
    "reinforce": Reinforce,
    "reinforce-lstm": partial(Reinforce, policy="lstm", batch=4, lr=0.01, entropy=0.1),
    "ppo": PPO,
    "bayesian": Bayesian,
    "successive-halving": SuccessiveHalving,
    "asha": ASHA,
    "hyperband": Hyperband,
    "bohb": BOHB,
    "morphism-hill-climbing": MorphismHillClimbing,
    "morphism-evolution": MorphismEvolution,
    "lamarckian": LamarckianNSGA2,
}

MULTI_FIDELITY = ("successive-halving", "asha", "hyperband", "bohb")
"""Strategies that ask for estimates at several budgets."""

MORPHISM = ("morphism-hill-climbing", "morphism-evolution", "lamarckian")
"""Strategies that say what an architecture was made from, for an estimator that hands its weights down."""

PLAIN = tuple(name for name in STRATEGIES if name not in (*MULTI_FIDELITY, *MORPHISM))
"""Strategies that ask for one estimate of an architecture, whoever makes it."""


def make_strategy(name: str, settings: Mapping[str, Any] | None = None) -> Strategy:
    """The strategy of this name; ``settings`` over its defaults, as values or as their text.

    Raises:
        ConfigError: An unknown name or setting, or a value of another type or out of range.
    """
    if name not in STRATEGIES:
        close = difflib.get_close_matches(name, STRATEGIES, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"unknown strategy {name!r}: expected one of {', '.join(STRATEGIES)}{hint}")
    maker = STRATEGIES[name]
    kind: Any = maker.func if isinstance(maker, partial) else maker
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind)]
    given = {}
    for key, value in (settings or {}).items():
        if key not in known:
            raise ConfigError(f"{name} has no setting {key!r}; expected one of {', '.join(known) or 'none'}")
        given[key] = _convert(f"{name}: {key}", hints[key], value)
    return maker(**given)


def _convert(where: str, kind: Any, value: Any) -> Any:
    """A value, or its text, in the type of its setting."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ConfigError(f"{where} must be one of {', '.join(get_args(kind))}, got {value!r}")
        return value
    if kind is str and isinstance(value, str):  # an architecture may be all digits
        return value
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        found = value
    if kind is float and isinstance(found, int) and not isinstance(found, bool):
        found = float(found)
    if not isinstance(found, kind) or (kind is not bool and isinstance(found, bool)):
        raise ConfigError(f"{where} must be of type {kind.__name__}, got {value!r}")
    return found
