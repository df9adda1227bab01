"""Kinds of columns that a person gives, as texts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from nasfast.errors import ConfigError
from nasfast.tables.date_text import ORDERS
from nasfast.tables.schema import KINDS
from nasfast.utils.suggest import did_you_mean, must_be_one_of

FORMS = {"date": ORDERS, "number": ("comma", "point")}
"""By kind: how its values are written, which may be given behind a colon. The decimal mark of numbers."""


def parse_types(texts: Iterable[str]) -> dict[str, str]:
    """Kinds by column of texts such as ``age=number,zip=category``.

    Raises:
        ConfigError: A text is no list of COLUMN=KIND, or names a column twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        begun = ""
        for part in text.split(","):
            begun = f"{begun},{part}" if begun else part
            if "=" not in part:  # a comma within a name
                continue
            name, _, kind = begun.rpartition("=")
            if name.strip() in found:
                raise ConfigError(f"--types names the column {name.strip()!r} twice: expected each once")
            found[name.strip()] = kind.strip()
            begun = ""
        if begun:
            raise ConfigError(f"--types must be COLUMN=KIND, parted by commas, got {begun!r}")
    return found


def check_overrides(given: Mapping[str, str], features: Collection[str]) -> None:
    """ConfigError where a kind is unknown, or a column is no feature of the table."""
    for name, kind in given.items():
        if name not in features:
            raise ConfigError(f"a kind is given for {name!r}, which is no feature{did_you_mean(name, features, True)}")
        base, _, order = kind.partition(":")
        if base not in KINDS:
            raise ConfigError(f"the kind of {name!r} {must_be_one_of(base, KINDS)}")
        if ":" in kind and order not in FORMS.get(base, ()):
            forms = ", ".join(f"{kind}:{form}" for kind, names in FORMS.items() for form in names)
            raise ConfigError(f"the kind of {name!r} must be one of {', '.join(KINDS)}, {forms}, got {kind!r}")
