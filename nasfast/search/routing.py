"""Which runner a search goes to: one table over space, strategy and estimator.

What makes no sense has a reason instead, in one line.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from nasfast.config.base import named_texts, option_name, read_content
from nasfast.config.blackbox import ESTIMATORS as BLACK_BOX_ESTIMATORS
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.config.gradient import SearchConfig, read_settings
from nasfast.config.oneshot import OneShotConfig
from nasfast.config.rules import needs_space
from nasfast.config.settings import check_ranges
from nasfast.errors import ConfigError
from nasfast.search.fork_server import start_loading
from nasfast.search.kinds import SEARCHES, Kind
from nasfast.spaces.registry import SPACES, make_space
from nasfast.strategies.registry import DIFFERENTIABLE, MORPHISM, MULTI_FIDELITY, ONE_SHOT, STRATEGIES
from nasfast.utils.suggest import did_you_mean, must_be_one_of

if TYPE_CHECKING:
    from nasfast.spaces.base import Space
    from nasfast.utils.progress import Progress

_SCORES = tuple(BLACK_BOX_ESTIMATORS)
_UNTAUGHT = tuple(name for name in _SCORES if name != "table")
ESTIMATORS = ("table", "oneshot", *_UNTAUGHT)

_USUAL = {"oneshot": "spos", "inherit": "morphism-evolution"}  # strategies, where none is given

_CHOSEN = {
    "zero-cost": "what untrained networks say of one batch of them",
    "oneshot": "one network that all architectures share learns from them",
    "train": "each architecture learns from them",
    "extrapolate": "each architecture begins to learn from them",
    "inherit": "each architecture learns from them, on from its parent's weights",
}
"""What is said of an estimator that is chosen for images."""

Runner = Literal["cells", "gradient", "blackbox", "oneshot"]


@dataclass(frozen=True)
class Route:
    """Where a search goes.

    Attributes:
        runner: What runs it: cells and gradient (nasfast.search.gradient.runner: the cells of
            DARTS, a space), blackbox (nasfast.search.blackbox.runner), oneshot (nasfast.search.oneshot.runner);
            None where it makes no sense.
        reason: Why not.
    """

    runner: Runner | None
    reason: str = ""


@dataclass(frozen=True)
class Rule:
    """A part of the table: the first rule that fits decides.

    Among the spaces, "" is the search network of cells; to the strategies by gradients, darts is that too.
    """

    spaces: tuple[str, ...]
    strategies: tuple[str, ...]
    estimators: tuple[str, ...]
    route: Route


_WIRES = "and this space also chooses what reads what, or how many channels; use --strategy spos, fairnas or enas"
_CHANGES = "and the layers of this space change their number; use darts, gdas, snas or drnas"
_SKIPS = "so that no skip of this space could be left out; use darts, gdas, snas or drnas"
_BUDGETS = "trains for several numbers of epochs, which this estimator does not know; use --estimator train or table"
_LENGTHS = "trains for several numbers of epochs, and a curve is extrapolated to one; use --estimator train or table"
_HEIRS = "makes children that start with their parents' weights, which this estimator does not; use --estimator inherit"
_STRANGERS = f"does not say what to inherit weights from; use {', '.join(MORPHISM)}, or --estimator train"
_NAMED = "searches a space by name; add --space, such as nasbench201"
_IMAGES = "learns from images, not from a table of scores"
_GRADIENTS = "learns by gradients, and asks for no other estimate"
_WEIGHTS = "trains a weight-shared network, which a table leaves nothing to"
_SHARED = "trains a weight-shared network, which is its own estimator"


def rules() -> tuple[Rule, ...]:
    """The table, over the spaces and strategies that have a name now."""
    return _rules(tuple(SPACES), tuple(STRATEGIES))


@functools.cache
def _rules(spaces: tuple[str, ...], black_box: tuple[str, ...]) -> tuple[Rule, ...]:
    wired = tuple(name for name in spaces if name != "darts" and not make_space(name).mixable)
    return (
        Rule(("", *spaces), DIFFERENTIABLE, ("table",), Route(None, _IMAGES)),
        Rule(("", *spaces), DIFFERENTIABLE, _UNTAUGHT, Route(None, _GRADIENTS)),
        Rule(("", "darts"), DIFFERENTIABLE, ("oneshot",), Route("cells")),
        Rule(wired, DIFFERENTIABLE, ESTIMATORS, Route(None, "mixes operations where they are, " + _WIRES)),
        Rule(("nasbench-macro",), ("pcdarts",), ("oneshot",), Route(None, "lets channels pass by, " + _CHANGES)),
        Rule(("enas-macro",), ("pcdarts",), ("oneshot",), Route(None, "lets channels pass by, " + _SKIPS)),
        Rule(spaces, DIFFERENTIABLE, ("oneshot",), Route("gradient")),
        Rule(("",), (*ONE_SHOT, *black_box), ESTIMATORS, Route(None, _NAMED)),
        Rule(spaces, ONE_SHOT, ("table",), Route(None, _WEIGHTS)),
        Rule(spaces, ONE_SHOT, _UNTAUGHT, Route(None, _SHARED)),
        Rule(spaces, MORPHISM, ("inherit",), Route("blackbox")),
        Rule(spaces, MORPHISM, ESTIMATORS, Route(None, _HEIRS)),
        Rule(spaces, black_box, ("inherit",), Route(None, _STRANGERS)),
        Rule(spaces, MULTI_FIDELITY, ("oneshot", "zero-cost"), Route(None, _BUDGETS)),
        Rule(spaces, MULTI_FIDELITY, ("extrapolate",), Route(None, _LENGTHS)),
        Rule(spaces, (*ONE_SHOT, *black_box), ("oneshot",), Route("oneshot")),
        Rule(spaces, black_box, _SCORES, Route("blackbox")),
    )


def route(space: str, strategy: str, estimator: str = "", space_settings: Mapping[str, Any] | None = None) -> Route:
    """Where a search goes.

    Args:
        space: By name; "" for the search network of cells, which has no space by name.
        strategy: By name.
        estimator: By name; "" for the one that is usual with the strategy.
        space_settings: Of the space.

    Raises:
        ConfigError: There is no such strategy or estimator.
        SpaceError: There is no such space or setting.
    """
    strategies = (*DIFFERENTIABLE, *ONE_SHOT, *STRATEGIES)
    if estimator not in ("", *ESTIMATORS):
        raise ConfigError(f"--estimator {must_be_one_of(estimator, ESTIMATORS)}")
    if strategy not in strategies:
        raise ConfigError(f"--strategy {must_be_one_of(strategy, strategies)}")
    estimator = estimator or ("table" if strategy in STRATEGIES else "oneshot")
    made = make_space(space, space_settings) if space else None
    found = next(
        rule.route
        for rule in (rules() if space else _rules((), tuple(STRATEGIES)))  # to look at the spaces loads torch
        if space in rule.spaces and strategy in rule.strategies and estimator in rule.estimators
    )
    if found.runner == "blackbox" and estimator == "table" and made is not None and not made.listable:
        return Route(
            None,
            f"{made.name} has {made.count():.3g} architectures, and no table can hold a score of each; use --estimator "
            "oneshot, zero-cost, train or extrapolate, or a smaller space (--space-set)",
        )
    return found


def estimator_for_images(space: Space, strategy: str | None, given: Mapping[str, Any]) -> str:
    """The cheapest estimator by images that says something of a space, of those that have the settings that are given.

    Zero-cost proxies, but where the sizes of layers are searched: they mostly like what is larger there.

    Args:
        strategy: By name; None where none is given.
    """
    if strategy in MORPHISM:
        return "inherit"
    if strategy in MULTI_FIDELITY:
        return "train"
    usual = ("oneshot", "zero-cost", "train") if space.elastic else ("zero-cost", "oneshot", "train")
    order = (*usual, "extrapolate", *([] if strategy else ["inherit"]))
    return next((estimator for estimator in order if set(given) <= _settings_with(estimator)), usual[0])


def _settings_with(estimator: str) -> set[str]:
    if estimator == "oneshot":
        return {f.name for f in fields(OneShotConfig)}
    return set(BlackBoxConfig.known({"estimator": estimator}))


def _choose_estimator(space: Space, settings: dict[str, Any], progress: Progress | None) -> None:
    """Choose an estimator, and say so, where images are named and neither it nor a table is."""
    strategy = settings.get("strategy")
    named = settings.get("estimator") or settings.get("table") or "data" not in settings
    if named or strategy not in (None, *STRATEGIES):
        return
    chosen = settings["estimator"] = estimator_for_images(space, strategy, settings)
    if progress is not None:
        progress.say(f"no estimator is named; for these images and {space.name} it is {chosen}: {_CHOSEN[chosen]}")


def runner_of(
    given: Mapping[str, Any], file: str | os.PathLike[str] | None = None, progress: Progress | None = None
) -> tuple[Runner, dict[str, Any]]:
    """What runs a search with these settings, and all of them: those of a file, and those given over them.

    Args:
        file: JSON or TOML, or the config.json of a run.
        progress: Where to say which estimator is chosen.

    Raises:
        ConfigError: They make no sense together; the message says why.
    """
    settings = {**(_read(file) if file else {}), **given}
    space, strategy = str(settings.get("space", "")), settings.get("strategy")
    known = {f.name for config in (SearchConfig, BlackBoxConfig, OneShotConfig) for f in fields(config)}
    for name in settings:
        if name not in known:
            raise ConfigError(f"unknown setting {name!r}{did_you_mean(name, known)}")
    own = sorted(set(settings) - {f.name for f in fields(SearchConfig)} - {"estimator"})
    if not space and own:
        raise ConfigError(needs_space(own[0]))
    check_ranges(settings, (SearchConfig, BlackBoxConfig, OneShotConfig))  # before a space loads torch
    texts = settings.get("space_set", ())
    if space in SPACES and str(settings.get("workers", "")).isdecimal():
        start_loading()
    if space:
        _choose_estimator(make_space(space, named_texts("--space-set", texts)), settings, progress)
    estimator = str(settings.get("estimator", ""))
    if strategy is None:
        strategy = _USUAL.get(estimator, "regularized-evolution") if space else "darts"
    found = route(space, str(strategy), estimator, named_texts("--space-set", texts) if space else None)
    if found.runner is None:
        raise ConfigError(f"--strategy {strategy} {found.reason}")
    if found.runner not in ("cells", "gradient"):
        return found.runner, settings | {"strategy": strategy}
    if own:
        raise ConfigError(f"{option_name(own[0])} does not go with --strategy {strategy}, which learns by gradients")
    settings.pop("estimator", None)
    return found.runner, settings


def route_settings(
    given: Mapping[str, Any], file: str | os.PathLike[str] | None = None, progress: Progress | None = None
) -> tuple[Kind, dict[str, Any]]:
    """The kind of search that settings ask for, and all of them; see :func:`runner_of`."""
    runner, settings = runner_of(given, file, progress)
    return _kind("gradient" if runner == "cells" else runner), settings


def kind_for_own(
    space: Space,
    given: Mapping[str, Any],
    file: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> tuple[Kind, dict[str, Any]]:
    """The same for a space that is an object and has no name here: the strategy and the estimator decide.

    Raises:
        ConfigError: There is no such strategy or estimator.
    """
    settings = {**(_read(file) if file else {}), **given}
    if settings.pop("space", space.name) != space.name or settings.pop("space_set", ()):
        raise ConfigError(f"--space-set belongs to a space by name, got one of your own, {space.name}")
    _choose_estimator(space, settings, progress)
    estimator = str(settings.get("estimator", ""))
    strategy = str(settings.get("strategy") or _USUAL.get(estimator, "regularized-evolution"))
    known = (*DIFFERENTIABLE, *ONE_SHOT, *STRATEGIES)
    if strategy not in known:
        raise ConfigError(f"--strategy {must_be_one_of(strategy, known)}")
    if strategy in DIFFERENTIABLE:
        return _kind("gradient"), settings | {"strategy": strategy, "space": _ANY_SPACE}
    kind = "oneshot" if strategy in ONE_SHOT or estimator == "oneshot" else "blackbox"
    return _kind(kind), settings | {"strategy": strategy}


_ANY_SPACE = "nasbench201"  # stands in the settings until the space's own name does


def _kind(name: str) -> Kind:
    return next(kind for kind in SEARCHES if kind.name == name)


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Settings by name, whichever runner they are of."""
    content = read_content(path)
    for key in ("blackbox", "oneshot"):
        if isinstance(content.get(key), dict):
            return dict(content[key])
    if "search" in content or not ({"space", "estimator"} & set(content) or content.get("strategy") in ONE_SHOT):
        return read_settings(path)
    return {name.replace("-", "_"): value for name, value in content.items()}


def table() -> Iterator[tuple[tuple[str, str, str], Route]]:
    """Every (space, strategy, estimator) by name, with where it goes. Spaces have the size of their papers."""
    for space in ("", *SPACES):
        for strategy in (*DIFFERENTIABLE, *ONE_SHOT, *STRATEGIES):
            for estimator in ESTIMATORS:
                yield (space, strategy, estimator), route(space, strategy, estimator)
