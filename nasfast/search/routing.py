"""Which runner a search goes to: one table over space, strategy and estimator.

What makes no sense has a reason instead, in one line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from nasfast.config.base import named_texts, option_name, read_content
from nasfast.config.blackbox import ESTIMATORS as BLACK_BOX_ESTIMATORS
from nasfast.config.gradient import SearchConfig, read_settings
from nasfast.config.oneshot import ONE_SHOT
from nasfast.errors import ConfigError
from nasfast.spaces.base import MOST_ROWS
from nasfast.spaces.registry import SPACES, make_space
from nasfast.strategies.gradient.relaxations import DIFFERENTIABLE
from nasfast.strategies.registry import MORPHISM, MULTI_FIDELITY, STRATEGIES

_SCORES = tuple(BLACK_BOX_ESTIMATORS)
_UNTAUGHT = tuple(name for name in _SCORES if name != "table")
ESTIMATORS = ("table", "oneshot", *_UNTAUGHT)

_USUAL = {"oneshot": "spos", "inherit": "morphism-evolution"}  # strategies, where none is given

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


_SPACES = tuple(SPACES)
_BLACK_BOX = tuple(STRATEGIES)
_WIRED = tuple(name for name in SPACES if name != "darts" and not make_space(name).mixable)
_WIRES = "and this space also chooses what reads what, or how many channels; use --strategy spos, fairnas or enas"
_CHANGES = "and the layers of this space change their number; use darts, gdas, snas or drnas"
_SKIPS = "so that no skip of this space could be left out; use darts, gdas, snas or drnas"
_BUDGETS = "trains for several numbers of epochs, which this estimator does not know; use --estimator train or table"
_LENGTHS = "trains for several numbers of epochs, and a curve is extrapolated to one; use --estimator train or table"
_HEIRS = "makes children that start with their parents' weights, which this estimator does not; use --estimator inherit"
_STRANGERS = f"does not say what to inherit weights from; use {', '.join(MORPHISM)}, or --estimator train"
_NAMED = "searches a space by name; add --space, such as nasbench201"

RULES = (
    Rule(("", *_SPACES), DIFFERENTIABLE, ("table",), Route(None, "learns from images, not from a table of scores")),
    Rule(("", *_SPACES), DIFFERENTIABLE, _UNTAUGHT, Route(None, "learns by gradients, and asks for no other estimate")),
    Rule(("", "darts"), DIFFERENTIABLE, ("oneshot",), Route("cells")),
    Rule(_WIRED, DIFFERENTIABLE, ESTIMATORS, Route(None, "mixes operations where they are, " + _WIRES)),
    Rule(("nasbench-macro",), ("pcdarts",), ("oneshot",), Route(None, "lets channels pass by, " + _CHANGES)),
    Rule(("enas-macro",), ("pcdarts",), ("oneshot",), Route(None, "lets channels pass by, " + _SKIPS)),
    Rule(_SPACES, DIFFERENTIABLE, ("oneshot",), Route("gradient")),
    Rule(("",), (*ONE_SHOT, *_BLACK_BOX), ESTIMATORS, Route(None, _NAMED)),
    Rule(_SPACES, ONE_SHOT, ("table",), Route(None, "trains a weight-shared network, which a table leaves nothing to")),
    Rule(_SPACES, ONE_SHOT, _UNTAUGHT, Route(None, "trains a weight-shared network, which is its own estimator")),
    Rule(_SPACES, MORPHISM, ("inherit",), Route("blackbox")),
    Rule(_SPACES, MORPHISM, ESTIMATORS, Route(None, _HEIRS)),
    Rule(_SPACES, _BLACK_BOX, ("inherit",), Route(None, _STRANGERS)),
    Rule(_SPACES, MULTI_FIDELITY, ("oneshot", "zero-cost"), Route(None, _BUDGETS)),
    Rule(_SPACES, MULTI_FIDELITY, ("extrapolate",), Route(None, _LENGTHS)),
    Rule(_SPACES, (*ONE_SHOT, *_BLACK_BOX), ("oneshot",), Route("oneshot")),
    Rule(_SPACES, _BLACK_BOX, _SCORES, Route("blackbox")),
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
    if estimator not in ("", *ESTIMATORS):
        raise ConfigError(f"--estimator must be one of {', '.join(ESTIMATORS)}, got {estimator!r}")
    if strategy not in (*DIFFERENTIABLE, *ONE_SHOT, *_BLACK_BOX):
        raise ConfigError(
            f"--strategy must be one of {', '.join((*DIFFERENTIABLE, *ONE_SHOT, *_BLACK_BOX))}, got {strategy!r}"
        )
    estimator = estimator or ("table" if strategy in _BLACK_BOX else "oneshot")
    made = make_space(space, space_settings) if space else None
    found = next(
        rule.route
        for rule in RULES
        if space in rule.spaces and strategy in rule.strategies and estimator in rule.estimators
    )
    if found.runner == "blackbox" and estimator == "table" and made is not None and made.count() > MOST_ROWS:
        return Route(
            None,
            f"{made.name} has {made.count():.3g} architectures, and no table can hold a score of each; use --estimator "
            "oneshot, zero-cost, train or extrapolate, or a smaller space (--space-set)",
        )
    return found


def runner_of(given: Mapping[str, Any], file: str | Path | None = None) -> tuple[Runner, dict[str, Any]]:
    """What runs a search with these settings, and all of them: those of a file, and those given over them.

    Args:
        file: JSON or TOML, or the config.json of a run.

    Raises:
        ConfigError: They make no sense together; the message says why.
    """
    settings = {**(_read(file) if file else {}), **given}
    space, strategy = str(settings.get("space", "")), settings.get("strategy")
    estimator = str(settings.get("estimator", ""))
    own = sorted(set(settings) - {f.name for f in fields(SearchConfig)} - {"estimator"})
    if strategy is None:
        strategy = _USUAL.get(estimator, "regularized-evolution") if space else "darts"
    if not space and own:
        raise ConfigError(f"{option_name(own[0])} belongs to the search of a space; add --space, such as nasbench201")
    texts = settings.get("space_set", ())
    found = route(space, str(strategy), estimator, named_texts("--space-set", texts) if space else None)
    if found.runner is None:
        raise ConfigError(f"--strategy {strategy} {found.reason}")
    if found.runner not in ("cells", "gradient"):
        return found.runner, settings | {"strategy": strategy}
    if own:
        raise ConfigError(f"{option_name(own[0])} does not go with --strategy {strategy}, which learns by gradients")
    settings.pop("estimator", None)
    return found.runner, settings


def _read(path: str | Path) -> dict[str, Any]:
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
        for strategy in (*DIFFERENTIABLE, *ONE_SHOT, *_BLACK_BOX):
            for estimator in ESTIMATORS:
                yield (space, strategy, estimator), route(space, strategy, estimator)
