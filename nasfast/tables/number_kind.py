"""What a column of numbers is: measured, a category of two values, dates written as digits, or an identifier."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa

from nasfast.tables.date_text import parse_dates
from nasfast.tables.facts import NumberFacts
from nasfast.tables.schema import Column
from nasfast.utils.numbers import number_text

ENOUGH = 20
"""Rows from which on a value of its own in each says something."""
UNIQUE = 0.95
"""Share of the rows with a value of their own, of an identifier."""

_ID_WORDS = frozenset(
    {"id", "ids", "uid", "uuid", "guid", "pid", "key", "index", "idx", "nr", "no", "number", "num", "row", "rowid"}
)
_UNNAMED = ("column_1", "Unnamed: 0")  # labels of rows, as DataFrames write them
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_FEW = 20  # distinct whole numbers that may be codes
_ROWS_OF_EACH = 5  # on average, of codes
_LARGEST_CODE = 2  # of two values, such as 0 and 1, 1 and 2, -1 and 1
_APART = 3.0  # times the range of the rest: how far a sentinel is from it
_NINES = re.compile(r"-?9{3,}|-9{2,}|-2147483648|2147483647")
_FIRST_DAY, _LAST_DAY = 1900_01_01, 2100_12_31


def number_kind(facts: NumberFacts, markers: tuple[str, ...] = (), given: bool = False) -> Column:
    """The column, with the reason.

    Args:
        markers: Texts that stand for a missing value in it.
        given: Every number is taken as one.
    """
    name = facts.name
    missing = missing_text(facts, markers)
    if given:
        return Column(name, "number", f"given as number, {_distinct(facts)}{missing}")
    if not facts.distinct:
        return Column(name, "ignored", "all values are missing")
    if facts.distinct == 1:
        value = number_text(float(facts.values[0]))
        if not facts.missing:
            return Column(name, "ignored", f"constant: {value} in every row")
        return Column(name, "category", f"{value} or missing ({facts.missing:,} rows)")
    sentinels = find_sentinels(facts)
    if sentinels:
        return _with_sentinels(facts, sentinels, missing)
    if facts.distinct == 2 and facts.whole and np.abs(facts.values).max() <= _LARGEST_CODE:
        return _two_valued(facts, missing)
    if _is_compact_date(facts):
        return Column(name, "date", f"dates as year, month and day in digits{missing}", order="compact")
    if is_row_number(facts) or _is_named_id(facts):
        reason = "identifier: a whole number of its own in nearly every row"
        return Column(name, "ignored", reason, alternative="number")
    alternative = "category" if _is_short_scale(facts) else ""
    return Column(name, "number", f"{_numbers(facts)}{_infinite(facts)}{missing}", alternative=alternative)


def _numbers(facts: NumberFacts) -> str:
    if _is_short_scale(facts):
        return f"whole numbers, {facts.distinct} distinct, taken as a scale"
    return f"{'whole ' if facts.whole else ''}numbers, {_distinct(facts)}"


def _is_short_scale(facts: NumberFacts) -> bool:
    return facts.whole and facts.distinct <= _FEW and facts.present >= _ROWS_OF_EACH * facts.distinct


def _with_sentinels(facts: NumberFacts, sentinels: tuple[float, ...], missing: str) -> Column:
    taken = np.isin(facts.values, sentinels)
    counts = ", ".join(
        f"{value:.0f} ({count:,} row{'s' * (count > 1)})"
        for value, count in zip(facts.values[taken].tolist(), facts.counts[taken].tolist(), strict=True)
    )
    rest = NumberFacts(facts.name, facts.rows, facts.values[~taken], facts.counts[~taken], facts.infinite)
    reason = f"{_numbers(rest)}; {counts} far from the rest, counted as missing"
    reason += _infinite(facts) + missing
    return Column(facts.name, "number", reason, sentinels=sentinels, alternative="number")


def _two_valued(facts: NumberFacts, missing: str) -> Column:
    low, high = (f"{value:.0f}" for value in facts.values)
    truth: Any = "0/1" if (low, high) == ("0", "1") else ""
    reason = f"two values, {low} and {high}{missing}"
    return Column(facts.name, "category", reason, truth=truth, alternative="number")


def find_sentinels(facts: NumberFacts) -> tuple[float, ...]:
    """Numbers such as -999 and 99999999 that are clearly apart from all others."""
    values = facts.values
    named = [value for value in values[np.r_[0:3, -3:0] % len(values)] if _is_nines(float(value))]
    candidates = np.unique(np.array(named, dtype=np.float64))
    rest = values[~np.isin(values, candidates)]
    if len(candidates) == 0 or len(rest) < 2:
        return ()
    low, high = float(rest[0]), float(rest[-1])
    spread = high - low
    found = []
    for value in candidates.tolist():
        count = int(facts.counts[np.searchsorted(values, value)])
        gap = value - high if value > high else low - value
        alone_below_zero = value <= -99 and low >= 0
        if count > 1 and gap > 0 and (gap > _APART * spread or alone_below_zero):
            found.append(value)
    return tuple(found)


def _is_nines(value: float) -> bool:
    return value == np.trunc(value) and abs(value) < 1e15 and _NINES.fullmatch(f"{value:.0f}") is not None


def _is_compact_date(facts: NumberFacts) -> bool:
    values = facts.values
    if not facts.whole or facts.distinct < 3 or values[0] < _FIRST_DAY or values[-1] > _LAST_DAY:
        return False
    texts = pa.array(values.astype(np.int64)).cast(pa.string())
    return not np.isnan(parse_dates(texts, "compact")).any()


def is_row_number(facts: NumberFacts) -> bool:
    """Whether the values are consecutive whole numbers, each once."""
    if facts.rows < ENOUGH or facts.distinct != facts.rows or not facts.whole:
        return False
    return float(facts.values[-1] - facts.values[0]) == facts.distinct - 1


def _is_named_id(facts: NumberFacts) -> bool:
    return (
        (has_id_name(facts.name) or facts.name in _UNNAMED)
        and facts.whole
        and facts.present >= ENOUGH
        and facts.distinct >= UNIQUE * facts.present
    )


def has_id_name(name: str) -> bool:
    """Whether a column is called as identifiers are: id, customer_id, PassengerId ..."""
    words = [word.lower() for word in _WORDS.findall(name)]
    return bool(words) and (words[-1] in _ID_WORDS or words[0] in ("id", "uuid", "guid"))


def missing_text(facts: Any, markers: tuple[str, ...] = ()) -> str:
    """``; 37 missing (NA, ?)``; nothing where none is."""
    if not facts.missing:
        return ""
    written = [marker or "empty" for marker in markers]
    shown = f" ({', '.join(written[:3])})" if written and written != ["empty"] else ""
    return f"; {facts.missing:,} missing{shown}"


def _distinct(facts: NumberFacts) -> str:
    return f"{facts.distinct:,} distinct"


def _infinite(facts: NumberFacts) -> str:
    return f"; {facts.infinite:,} infinite, counted as missing" if facts.infinite else ""
