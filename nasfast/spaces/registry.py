"""The search spaces by name, and their settings from text."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from nasfast.errors import SpaceError
from nasfast.utils.convert import Converter
from nasfast.utils.registry import Registry
from nasfast.utils.suggest import did_you_mean

if TYPE_CHECKING:
    from nasfast.spaces.base import Space

Maker = TypeVar("Maker", bound=Callable[..., Any])

_convert = Converter(texts=True, words={int: "a whole number", float: "a number"}, error=SpaceError)

SPACES: Registry[Callable[..., Space]] = Registry(
    "space",
    {
        "nasbench201": "nasfast.spaces.nasbench201:NASBench201",
        "nasbench-macro": "nasfast.spaces.nasbench_macro:NASBenchMacro",
        "mobilenet": "nasfast.spaces.mobilenet:MobileNetSpace",
        "enas-macro": "nasfast.spaces.enas_macro:enas_macro",
        "enas-micro": "nasfast.spaces.cells:enas_micro",
        "nasnet": "nasfast.spaces.cells:nasnet",
        "nasnet-macro": "nasfast.spaces.enas_macro:nasnet_macro",
        "darts": "nasfast.spaces.cells:darts",
    },
)
"""What makes each space; its arguments are the space's settings, and their defaults the size of its paper."""


def register_space(name: str) -> Callable[[Maker], Maker]:
    """A decorator that gives a space of your own a name: for :func:`make_space`, and as ``--space NAME``.

    The class or function that it decorates is called with the space's settings as keywords; each must have a type and
    a default. On the command line, ``--plugin FILE`` loads the file in which this stands.

    Raises:
        ConfigError: The name is taken, or is not made of letters, digits and dashes.
    """
    return SPACES.register(name)


DIGITS: Mapping[str, Mapping[str, str]] = {
    "nasbench201": {"channels": "8", "cells": "1"},
    "nasbench-macro": {"width": "0.25"},
    "mobilenet": {
        "stages": "8:1,16:2,24:2",
        "depths": "1,2",
        "widths": "1,1.5",
        "kernels": "3,5",
        "expansions": "2,4",
        "features": "64",
        "image_size": "8",
    },
    "enas-macro": {"layers": "4", "channels": "8"},
    "enas-micro": {"layers": "3", "channels": "8"},
    "nasnet": {"layers": "3", "channels": "8", "steps": "3"},
    "nasnet-macro": {"layers": "3", "channels": "8", "steps": "2"},
    "darts": {"layers": "3", "channels": "8"},
}
"""Settings with which a space suits the digits, which have 8x8 pixels: small networks for small images."""


def make_space(name: str, settings: Mapping[str, Any] | None = None) -> Space:
    """The space of this name, at the size of its paper where ``settings`` do not say otherwise.

    Args:
        settings: By name, as values or as their text: a list as ``3,5,7``, a list of pairs as ``24:1,40:2``.

    Raises:
        SpaceError: There is none of this name, or a setting is unknown, of another type or out of range.
    """
    found = resolve_settings(name, settings)
    space = SPACES[name](**found)
    space.name = name  # a space that was registered is known by the name it was given
    return space


def resolve_settings(name: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Values of all settings of a space, the defaults of those that are not given; see :func:`make_space`."""
    known = space_settings(name)
    found = {key: parameter.default for key, parameter in inspect.signature(SPACES[name]).parameters.items()}
    for key, value in (settings or {}).items():
        if key not in known:
            hint = did_you_mean(key, known)
            raise SpaceError(f"{name} has no setting {key!r}; expected one of {', '.join(known)}{hint}")
        found[key] = _convert(f"{name}: {key}", known[key], value)
    return found


def space_settings(name: str) -> dict[str, Any]:
    """Types of a space's settings, by their names.

    Raises:
        SpaceError: There is no space of this name.
    """
    if name not in SPACES:
        raise SpaceError(f"unknown space {name!r}: expected one of {', '.join(SPACES)}{did_you_mean(name, SPACES)}")
    maker: Any = SPACES[name]
    hints = get_type_hints(maker.__init__ if inspect.isclass(maker) else maker)
    return {key: hints[key] for key in inspect.signature(maker).parameters}
