"""Training settings that are searched along with an architecture: which there are, and their values from text."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nasfast.errors import ConfigError
from nasfast.utils.suggest import did_you_mean

GRID = 8
"""Values that a range is cut into."""

_DECADES = 3  # below its end that a logarithmic range from 0 has values in
_LARGEST = sys.float_info.max
_MARK, _BETWEEN = " @ ", ", "


@dataclass(frozen=True)
class Tunable:
    """A training setting: the type of its values, between what they lie, and how a range is spaced.

    Attributes:
        above: ``low`` itself is no value.
        below: ``high`` itself is no value.
    """

    kind: type
    low: float = 0
    high: float = math.inf
    above: bool = False
    below: bool = False
    scale: Literal["log", "linear"] = "linear"

    def check(self, name: str, value: Any) -> None:
        """Raise ConfigError where this is no value of the setting."""
        kinds = (int, float) if self.kind is float else (self.kind,)
        if type(value) not in kinds or not self._holds(value):
            raise ConfigError(f"--tune {name}: expected {self.expected}, got {value!r}")

    def _holds(self, value: float) -> bool:
        over = value > self.low if self.above else value >= self.low
        under = value < self.high if self.below else value <= self.high
        return over and under and abs(value) <= _LARGEST

    @property
    def expected(self) -> str:
        """Its values in words."""
        if self.kind is bool:
            return "true or false"
        what = "a whole number" if self.kind is int else "a number"
        low = f"{what} {'above' if self.above else 'from'} {self.low:g}"
        return low if self.high == math.inf else f"{low} {'to below' if self.below else 'to'} {self.high:g}"

    def read(self, name: str, text: str) -> Any:
        """A value from its text.

        Raises:
            ConfigError: It is none.
        """
        text = text.strip()
        try:
            value = {"true": True, "false": False}[text.lower()] if self.kind is bool else self.kind(text)
        except (KeyError, ValueError):
            raise ConfigError(f"--tune {name}: expected {self.expected}, got {text!r}") from None
        self.check(name, value)
        return value

    def grid(self, low: Any, high: Any) -> list[Any]:
        """At most ``GRID`` values from one to the other, both among them, rounded where they lie between."""
        shares = [step / (GRID - 1) for step in range(GRID)]
        if self.scale == "linear":
            between = [low + (high - low) * share for share in shares]
        elif low == 0:
            shares = [step / (GRID - 2) for step in range(GRID - 1)]
            between = [0.0, *(high * 10 ** (_DECADES * (share - 1)) for share in shares)]
        else:
            between = [low * (high / low) ** share for share in shares]
        rounded = [round(value) if self.kind is int else float(f"{value:.3g}") for value in between[1:-1]]
        return list(dict.fromkeys((low, *(value for value in rounded if low < value < high), high)))


TUNABLE: Mapping[str, Tunable] = {
    "lr": Tunable(float, above=True, scale="log"),
    "momentum": Tunable(float, high=1, below=True),
    "weight_decay": Tunable(float, scale="log"),
    "grad_clip": Tunable(float, above=True, scale="log"),
    "cutout": Tunable(int),
    "batch_size": Tunable(int, 2, scale="log"),
    "flip": Tunable(bool),
    "crop_pad": Tunable(int),
}
"""What can be tuned, by name."""


def tunable(name: str) -> Tunable:
    """The setting of this name.

    Raises:
        ConfigError: There is none.
    """
    if name not in TUNABLE:
        known, hint = ", ".join(TUNABLE), did_you_mean(name, TUNABLE)
        raise ConfigError(f"--tune: there is no training setting {name!r}; there are {known}{hint}")
    return TUNABLE[name]


def parse_tuned(texts: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Values to choose from by setting, from texts like ``lr=0.01..0.2`` and ``cutout=0,2,4``.

    A range has 8 values, fewer where there are not as many whole numbers: of lr, weight_decay, grad_clip and batch_size
    in equal ratios, of the others in equal steps. Of ``weight_decay=0..HIGH``: 0, and 7 values over three decades.

    Raises:
        ConfigError: An unknown setting, one that is given twice, or values that it does not take.
    """
    return {name: _values(name, text) for name, text in _pairs(texts).items()}


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, mark, value = text.partition("=")
        if not (mark and value.strip()):
            raise ConfigError(f"--tune must be NAME=LOW..HIGH or NAME=VALUE,VALUE, got {text!r}")
        if name.strip() in found:
            raise ConfigError(f"--tune: {name.strip()} is given twice")
        found[name.strip()] = value
    return found


def _values(name: str, text: str) -> tuple[Any, ...]:
    setting = tunable(name)
    if ".." not in text:
        return check_values(name, [setting.read(name, part) for part in text.split(",")])
    if setting.kind is bool:
        raise ConfigError(f"--tune {name}: a range needs numbers; write {name}=true,false, got {text!r}")
    ends = [setting.read(name, part) for part in text.split("..", 1)]
    if ends[0] >= ends[1]:
        raise ConfigError(f"--tune {name}: expected LOW..HIGH with LOW below HIGH, got {text!r}")
    return check_values(name, setting.grid(*ends))


def check_values(name: str, values: Iterable[Any]) -> tuple[Any, ...]:
    """The values as a tuple, whole numbers of a float setting as floats.

    Raises:
        ConfigError: There is no such setting, it does not take one of them, or one is there twice.
    """
    setting, found = tunable(name), tuple(values)
    for value in found:
        setting.check(name, value)
    found = tuple(setting.kind(value) for value in found)
    if not found or len(set(found)) < len(found):
        raise ConfigError(f"--tune {name}: expected different values, got {', '.join(map(value_text, found))}")
    return found


def value_text(value: Any) -> str:
    """A value as text that :meth:`Tunable.read` reads."""
    return str(value).lower()


def join_text(arch: str, settings: Mapping[str, Any]) -> str:
    """An architecture's text with settings behind it: ``ARCH @ lr=0.02, cutout=2``."""
    return arch + _MARK + _BETWEEN.join(f"{name}={value_text(value)}" for name, value in settings.items())


def shorten(text: str, most: int) -> str:
    """The text with its architecture cut to ``most`` characters, and all of its settings."""
    arch, mark, settings = text.rpartition(_MARK)
    arch, mark, settings = (arch, mark, settings) if mark else (text, "", "")
    return (arch if len(arch) <= most else arch[: most - 1] + "…") + mark + settings


def split_text(text: str) -> tuple[str, dict[str, Any]]:
    """What :func:`join_text` joined; a text without settings has none.

    Raises:
        ConfigError: They are no training settings.
    """
    arch, mark, rest = text.rpartition(_MARK)
    if not mark:
        return text, {}
    pairs = _pairs(rest.split(_BETWEEN.strip()))
    return arch, {name: tunable(name).read(name, value) for name, value in pairs.items()}
