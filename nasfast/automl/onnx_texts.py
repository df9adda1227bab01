"""Texts that stand for a missing value or for a level of a category, as `nasfast.tables` reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nasfast.tables import Column
from nasfast.tables.missing import MISSING

_WHOLE = re.compile(r"-?\d+")
_SAME = (("0", "0.0", "false", "False", "FALSE"), ("1", "1.0", "true", "True", "TRUE"))


def missing_texts(column: Column) -> set[str]:
    """Texts that stand for a missing value, in the usual mixtures of small and large letters."""
    found = {"", "NaN", "NaT"}
    for text in MISSING - set(column.kept):
        found |= {text, text.upper(), text.capitalize(), text.title()}
    return {text for text in found if text.lower() not in column.kept}


def same_texts(levels: Sequence[str], column: Column) -> dict[str, str]:
    """What other texts stand for: one of the levels, or "" for a missing value."""
    found = dict.fromkeys(missing_texts(column), "")
    found |= {f"{level}.0": level for level in levels if _WHOLE.fullmatch(level)}
    if column.truth:
        for forms in _SAME:
            level = next((form for form in forms if form in levels), None)
            found |= dict.fromkeys(forms, level) if level is not None else {}
    return {text: level for text, level in found.items() if text not in levels}
