"""The black-box strategies by name, and their settings from text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from nasfast.errors import ConfigError
from nasfast.utils.convert import Converter
from nasfast.utils.registry import Registry
from nasfast.utils.suggest import did_you_mean

if TYPE_CHECKING:
    from nasfast.strategies.base import Strategy

Maker = TypeVar("Maker", bound=Callable[..., Any])

_convert = Converter(texts=True)

DIFFERENTIABLE = ("darts", "pcdarts", "gdas", "snas", "drnas")
"""Strategies that search by gradients, with a network that mixes all candidates."""

ONE_SHOT = ("spos", "fairnas", "enas")
"""Strategies that are ways to train a weight-shared network by sampled paths."""

SAMPLERS = ("uniform", "fair", "sandwich")
"""How the paths of a step can be drawn."""

_BLACK_BOX = "nasfast.strategies.blackbox."
STRATEGIES: Registry[Callable[..., Strategy]] = Registry(
    "strategy",
    {
        "random": _BLACK_BOX + "random_search:RandomSearch",
        "local-search": _BLACK_BOX + "local_search:LocalSearch",
        "regularized-evolution": _BLACK_BOX + "evolution:RegularizedEvolution",
        "nsga2": _BLACK_BOX + "nsga2:NSGA2",
        "reinforce": _BLACK_BOX + "policy_gradient:Reinforce",
        "reinforce-lstm": _BLACK_BOX + "policy_gradient:REINFORCE_LSTM",
        "ppo": _BLACK_BOX + "policy_gradient:PPO",
        "bayesian": _BLACK_BOX + "bayesian:Bayesian",
        "successive-halving": _BLACK_BOX + "multi_fidelity:SuccessiveHalving",
        "asha": _BLACK_BOX + "multi_fidelity:ASHA",
        "hyperband": _BLACK_BOX + "multi_fidelity:Hyperband",
        "bohb": _BLACK_BOX + "multi_fidelity:BOHB",
        "morphism-hill-climbing": _BLACK_BOX + "morphism:MorphismHillClimbing",
        "morphism-evolution": _BLACK_BOX + "morphism:MorphismEvolution",
        "lamarckian": _BLACK_BOX + "morphism:LamarckianNSGA2",
    },
)
"""The black-box strategies: dataclasses whose fields are the strategy's settings."""


def register_strategy(name: str) -> Callable[[Maker], Maker]:
    """A decorator that gives a black-box strategy of your own a name: for :func:`make_strategy` and ``--strategy``.

    It decorates a subclass of :class:`nasfast.strategies.base.Strategy` that is a dataclass of its settings. On the
    command line, ``--plugin FILE`` loads the file in which this stands.

    Raises:
        ConfigError: The name is taken, or is not made of letters, digits and dashes.
    """
    return STRATEGIES.register(name)


MULTI_FIDELITY = ("successive-halving", "asha", "hyperband", "bohb")
"""Strategies that ask for estimates at several fidelities."""

MORPHISM = ("morphism-hill-climbing", "morphism-evolution", "lamarckian")
"""Strategies that say what an architecture was made from, for an estimator that hands its weights down."""


def plain_strategies() -> tuple[str, ...]:
    """Strategies that ask for one estimate of an architecture, whoever makes it."""
    return tuple(name for name in STRATEGIES if name not in (*MULTI_FIDELITY, *MORPHISM))


def make_strategy(name: str, settings: Mapping[str, Any] | None = None) -> Strategy:
    """The strategy of this name; ``settings`` over its defaults, as values or as their text.

    Raises:
        ConfigError: An unknown name or setting, or a value of another type or out of range.
    """
    if name not in STRATEGIES:
        hint = did_you_mean(name, STRATEGIES)
        raise ConfigError(f"unknown strategy {name!r}: expected one of {', '.join(STRATEGIES)}{hint}")
    maker = STRATEGIES[name]
    kind: Any = maker.func if isinstance(maker, partial) else maker
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind)]
    given = {}
    for key, value in (settings or {}).items():
        if key not in known:
            hint = did_you_mean(key, known)
            raise ConfigError(f"{name} has no setting {key!r}; expected one of {', '.join(known) or 'none'}{hint}")
        given[key] = _convert(f"{name}: {key}", hints[key], value)
    return maker(**given)
