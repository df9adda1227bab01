"""What a column of text is: numbers, dates, categories, free text or an identifier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nasfast.tables.date_text import NUMERIC, ORDERS, parse_dates
from nasfast.tables.facts import NumberFacts, TextFacts, number_facts
from nasfast.tables.number_kind import ENOUGH, UNIQUE, missing_text, number_kind
from nasfast.tables.number_text import NumberStyle, find_style, parse_numbers
from nasfast.tables.schema import Column
from nasfast.utils.shown import shown

READABLE = 0.95
"""Share of the rows with a value that a column of numbers or of dates has at least as such."""

_SAMPLE = 2000  # distinct values from which it is told what is worth reading
_LEADING_ZERO = r"^0\d+$"
_PADDED = 0.05  # share of the rows with a zero in front, of codes
_WORTH_READING = 0.5  # share of the sample that is numbers
_FEW_LOST = 3  # texts that a reason shows
_WORDS = 2.5  # on average, of free text
_LONG = 40.0  # characters on average, of free text whatever its words
_MANY = 20  # distinct values that free text has at least
_OWN = 0.2  # share of the rows with a text of their own, of free text


@dataclass(frozen=True)
class Hints:
    """What the rest of the table tells.

    Attributes:
        prefer_comma: Commas rather part decimals.
        prefer_order: Order of day and month where a column leaves it open.
        declared: Kind that the file declares.
    """

    prefer_comma: bool = False
    prefer_order: str = ""
    declared: str = ""


def table_hints(data: Any) -> Hints:
    """What a table tells of a column that leaves its decimal mark open: that of the others, else the delimiter."""
    marks = {(field.metadata or {}).get(b"decimal") for field in data.schema} & {b",", b"."}
    if len(marks) == 1:
        return Hints(prefer_comma=marks == {b","})
    return Hints(prefer_comma=(data.schema.metadata or {}).get(b"delimiter") == b";")


def text_kind(facts: TextFacts, hints: Hints) -> Column:
    """The column, with the reason."""
    for rule in (_plain, _declared, _truth, _numbers, _dates, _free_text, _identifier):
        found = rule(facts, hints)
        if found is not None:
            return replace(found, kept=facts.kept)
    return _category(facts, "")


def _plain(facts: TextFacts, hints: Hints) -> Column | None:
    if not facts.distinct:
        return Column(facts.name, "ignored", "all values are missing")
    if facts.distinct > 1:
        return None
    value = shown(facts.values[0].as_py())[:40]
    if facts.missing:
        return Column(facts.name, "category", f"{value} or missing ({facts.missing:,} rows)")
    return Column(facts.name, "ignored", f"constant: {value} in every row")


def _declared(facts: TextFacts, hints: Hints) -> Column | None:
    if hints.declared != "category" or _is_unique(facts):
        return None
    return _category(facts, "declared nominal, ")


def _truth(facts: TextFacts, hints: Hints) -> Column | None:
    lower = set(pc.ascii_lower(facts.values).to_pylist()) if facts.distinct <= 6 else set()
    if lower != {"true", "false"}:
        return None
    return Column(facts.name, "category", f"true or false{_missing(facts)}", truth="true/false")


def _category(facts: TextFacts, why: str) -> Column:
    return Column(facts.name, "category", f"{why}{facts.distinct:,} distinct texts{_missing(facts)}", kept=facts.kept)


def _numbers(facts: TextFacts, hints: Hints) -> Column | None:
    """Told from a sample, then read as a whole."""
    sample = _sample(facts)
    if _share(parse_numbers(sample, find_style(sample, hints.prefer_comma)), np.ones(len(sample))) < _WORTH_READING:
        return None
    found = read_numbers(facts, hints)
    if found.share < READABLE or _is_padded(facts):
        return None
    column = number_kind(found.facts, facts.markers)
    if found.lost and column.kind != "number":  # texts beside one number or two are values as those are
        return None
    return found.described(column)


@dataclass(frozen=True)
class NumbersRead:
    """Text as numbers: how they are written, what they are, texts that are none and their rows."""

    style: NumberStyle
    facts: NumberFacts
    lost: list[str]
    lost_rows: int
    share: float

    def described(self, column: Column) -> Column:
        """The column with how its numbers are written, and with what is none."""
        if column.kind != "number":
            return column
        reason = "; ".join(filter(None, (column.reason, self.style.note, self._lost_text())))
        style = self.style
        return replace(
            column,
            reason=reason,
            decimal=style.decimal,
            thousands=style.thousands,
            lost=self.lost_rows,
            alternative=self.style.alternative or column.alternative,
        )

    def _lost_text(self) -> str:
        if not self.lost:
            return ""
        examples = ", ".join(repr(shown(text)[:20]) for text in self.lost[:_FEW_LOST])
        rows = f"{self.lost_rows:,} row{'s' * (self.lost_rows > 1)}"
        return f"{rows} with no number ({examples}) counted as missing"


def read_numbers(facts: TextFacts, hints: Hints, style: NumberStyle | None = None) -> NumbersRead:
    """The values as numbers, whatever share of them is none; ``style`` is found where it is not given."""
    style = style or find_style(facts.values, hints.prefer_comma)
    parsed = parse_numbers(facts.values, style)
    unread = np.isnan(parsed)
    lost = facts.values.filter(pa.array(unread)).to_pylist()
    lost_rows = int(facts.counts[unread].sum())
    numbers = number_facts(facts.name, parsed, facts.counts, facts.rows - lost_rows)
    return NumbersRead(style, numbers, lost, lost_rows, _share(parsed, facts.counts))


def _is_padded(facts: TextFacts) -> bool:
    """Codes such as 01234, which are no quantities: all of one length, or many with a zero in front."""
    padded = pc.match_substring_regex(facts.values, _LEADING_ZERO).to_numpy(zero_copy_only=False).astype(bool)
    if not padded.any():
        return False
    return (
        bool(facts.counts[padded].sum() >= _PADDED * facts.present) or len(pc.utf8_length(facts.values).unique()) == 1
    )


def _dates(facts: TextFacts, hints: Hints) -> Column | None:
    order = find_order(facts, hints.prefer_order, hints.prefer_comma)
    if order is None:
        return None
    name, note, alternative = order
    parsed = parse_dates(facts.values, name)
    if _share(parsed, facts.counts) < READABLE:
        return None
    rows = int(facts.counts[np.isnan(parsed)].sum())
    lost = f"; {rows:,} with no date, counted as missing" if rows else ""
    words = {"ymd": "year first", "dmy": "day first", "mdy": "month first", "named": "months by name"}
    reason = f"dates, {words.get(name, 'in digits')}{note}{lost}{_missing(facts)}"
    return Column(facts.name, "date", reason, order=name, lost=rows, alternative=alternative)


def find_order(facts: TextFacts, prefer: str = "", day_first: bool = False) -> tuple[str, str, str] | None:
    """The order in which most values are dates, what was guessed, and what else it may be.

    None where most are no dates in any.

    Args:
        prefer: What is guessed, if anything, as other columns are so.
        day_first: What is guessed else, whatever parts day and month.
    """
    sample = _sample(facts)
    ones = np.ones(len(sample))
    shares = {order: _share(parse_dates(sample, order), ones) for order in ORDERS}
    best = max(ORDERS, key=lambda order: shares[order])
    if shares[best] < READABLE:
        return None
    if best not in NUMERIC:
        return best, "", ""
    if not is_either_order(facts):
        return max(NUMERIC, key=lambda order: _share(parse_dates(facts.values, order), facts.counts)), "", ""
    if prefer:
        return prefer, " as in other columns", _other_order(prefer)
    guess = "mdy" if not day_first and pc.any(pc.match_substring(sample, "/")).as_py() else "dmy"
    return guess, ", a guess, as no day is above 12", _other_order(guess)


def _other_order(order: str) -> str:
    return f"date:{'dmy' if order == 'mdy' else 'mdy'}"


def is_either_order(facts: TextFacts) -> bool:
    """Whether as many of the values are dates with the day first as with the month first."""
    day, month = (_share(parse_dates(facts.values, order), facts.counts) for order in NUMERIC)
    return day == month


def _free_text(facts: TextFacts, hints: Hints) -> Column | None:
    if facts.distinct < _MANY or facts.distinct < _OWN * facts.present:
        return None
    sample = _sample(facts)
    words = float(pc.mean(pc.count_substring_regex(sample, r"\S+")).as_py())
    length = float(pc.mean(pc.utf8_length(sample)).as_py())
    if words < _WORDS and length < _LONG:
        return None
    if length >= _LONG and words < 1.5 and _is_latin(sample):  # hashes, addresses of pages
        return None
    reason = f"free text, {words:.0f} words on average{_missing(facts)}"
    return Column(facts.name, "text", reason, alternative="category")


def _is_latin(texts: Any) -> bool:
    return bool(pc.all(pc.string_is_ascii(texts)).as_py())


def _identifier(facts: TextFacts, hints: Hints) -> Column | None:
    if not _is_unique(facts):
        return None
    return Column(facts.name, "ignored", "identifier: a text of its own in nearly every row", alternative="text")


def _is_unique(facts: TextFacts) -> bool:
    return facts.present >= ENOUGH and facts.distinct >= UNIQUE * facts.present


def _missing(facts: TextFacts) -> str:
    return missing_text(facts, facts.markers)


def _sample(facts: TextFacts) -> Any:
    if facts.distinct <= _SAMPLE:
        return facts.values
    return facts.values.take(pa.array(np.linspace(0, facts.distinct - 1, _SAMPLE).astype(np.int64)))


def _share(parsed: np.ndarray[Any, Any], counts: np.ndarray[Any, Any]) -> float:
    total = counts.sum()
    return float(counts[~np.isnan(parsed)].sum() / total) if total else 0.0
