"""The kinds of search, in one table: their settings, what starts them and what goes on with them.

The command line, the Python interface, retraining and reports all read this table; a kind of its own needs one entry
here, and a page in ``nasfast.report``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasfast.errors import RunError


@dataclass(frozen=True)
class Kind:
    """One kind of run.

    Attributes:
        name: What it is called.
        key: Where its settings stand in a run's config.json.
        settings: ``module:class`` of its settings, which have ``of(mapping)``, ``to_dict()`` and ``run_name()``.
        start: ``module:function`` that begins a run: ``(settings, out, progress, **own)``.
        resume: ``module:function`` that goes on with one: ``(out, progress, **own)``.
        own: Objects of the caller's that both take: a space, an estimator.
        later: Settings of which ``resume`` takes others, as ``changed``: no step of the search has read them yet.
    """

    name: str
    key: str
    settings: str
    start: str
    resume: str
    own: tuple[str, ...] = ()
    later: tuple[str, ...] = ()

    def make_settings(self, values: Mapping[str, Any]) -> Any:
        """Settings from values by name.

        Raises:
            ConfigError: An unknown name, a value of another type or out of range.
        """
        return load(self.settings).of(values)


SEARCHES = (
    Kind(
        "gradient",
        "search",
        "nasfast.config.gradient:SearchConfig",
        "nasfast.search.gradient.runner:run_gradient",
        "nasfast.search.gradient.runner:resume_gradient",
        own=("space",),
        later=("retrain", "retrain_epochs", "retrain_batch_size", "retrain_channels", "retrain_layers"),
    ),
    Kind(
        "blackbox",
        "blackbox",
        "nasfast.config.blackbox:BlackBoxConfig",
        "nasfast.search.blackbox.runner:run_blackbox",
        "nasfast.search.blackbox.runner:resume_blackbox",
        own=("space", "estimator"),
        later=("budget",),
    ),
    Kind(
        "oneshot",
        "oneshot",
        "nasfast.config.oneshot:OneShotConfig",
        "nasfast.search.oneshot.runner:run_oneshot",
        "nasfast.search.oneshot.runner:resume_oneshot",
        own=("space",),
    ),
)


def load(place: str) -> Any:
    """What stands at ``module:attribute``."""
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


def kind_of(content: Mapping[str, Any], path: Any, kinds: Sequence[Kind] = SEARCHES) -> Kind:
    """The kind of run that a config.json is of.

    Args:
        content: Of config.json.
        path: Of the run, for the error.

    Raises:
        RunError: None of these.
    """
    for kind in kinds:
        if isinstance(content.get(kind.key), Mapping):
            return kind
    raise RunError(f"{path} holds no settings of a run; expected one of {', '.join(kind.key for kind in kinds)}")
