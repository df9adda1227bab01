"""Numbers as people write them: decimal commas, thousands in groups, signs of currency and percent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PLAIN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"

_SIGNS = r"[$€£¥₹]|USD|EUR|GBP|CHF|US\$"
_BEFORE = rf"^([+-]?)\s*(?:{_SIGNS})\s*"
_AFTER = rf"\s*(?:%|{_SIGNS})$"
_SIGNED = rf"^[+-]?\s*(?:{_SIGNS})|(?:%|{_SIGNS})$"
_PERCENT = r"%$"
_APART = "[ '’\\x{a0}\\x{202f}\\x{2009}]"  # what parts thousands and is nothing else
_IN_APART_GROUPS = rf"^[+-]?\d{{1,3}}({_APART}\d{{3}})+([.,]\d+)?$"
_DECIMAL_COMMA = r"^[+-]?\d*,\d+([eE][+-]?\d+)?$"


def _groups(mark: str, decimal: str, several: bool = False, lead: str = r"\d{1,3}") -> str:
    """Digits in groups of three; ``several``: of a kind that is nothing else."""
    inside = f"{lead}({mark}\\d{{3}})"
    if several:
        return rf"^[+-]?({inside}{{2,}}({decimal}\d+)?|{inside}+{decimal}\d+)$"
    return rf"^[+-]?{inside}+({decimal}\d+)?$"


_BY_COMMA, _BY_POINT = _groups(",", r"\."), _groups(r"\.", ",")
_SURELY_BY_COMMA, _SURELY_BY_POINT = _groups(",", r"\.", True), _groups(r"\.", ",", True)
_LEAD = r"[1-9]\d{0,2}"
_ONE_COMMA, _ONE_POINT = rf"^[+-]?{_LEAD},\d{{3}}$", rf"^[+-]?{_LEAD}\.\d{{3}}$"
"""With three digits behind: thousands, or decimals."""


@dataclass(frozen=True)
class NumberStyle:
    """How the numbers of a column are written.

    Attributes:
        decimal: "." or ",".
        thousands: What parts groups of three digits; "" where nothing does. Blanks and apostrophes need not be told.
        sure: Whether its values leave no doubt.
        note: What was guessed or found, for people.
        alternative: Kind to give where the guess is wrong.
    """

    decimal: str = "."
    thousands: str = ""
    sure: bool = False
    note: str = ""
    alternative: str = ""

    @classmethod
    def given(cls, mark: str) -> NumberStyle:
        """The style with a decimal comma or a decimal point, and the other between thousands."""
        return cls(",", ".", True) if mark == "comma" else cls(".", ",", True)


def find_style(texts: Any, prefer_comma: bool = False) -> NumberStyle:
    """The style of a column of numbers, by its distinct texts.

    Args:
        prefer_comma: A comma or a point before three digits, which may be either, is read as where decimals follow a
            comma.
    """
    note = _sign_note(texts)
    bare = _without_signs(texts) if note else texts
    commas = _any(bare, ",", plain=True)
    if not commas and not _any(bare, _SURELY_BY_POINT):
        if prefer_comma and may_part_thousands(bare):
            said = "points may be decimal or between thousands; read as between thousands"
            return NumberStyle(",", ".", False, _joined(note, said), "number:point")
        return NumberStyle(sure=_has_decimal_point(bare), note=note)
    return _style_of(bare, prefer_comma, note)


def _style_of(bare: Any, prefer_comma: bool, note: str) -> NumberStyle:
    one_comma, by_comma = _count(bare, _ONE_COMMA), _any(bare, _SURELY_BY_COMMA)
    by_point = _any(bare, _SURELY_BY_POINT)
    decimal_comma = _count(bare, _DECIMAL_COMMA) > one_comma + _count(bare, r"^[+-]?\d{1,3}(,\d{3}){2,}$")
    one_point = _count(bare, _ONE_POINT)
    decimal_point = _has_decimal_point(bare)
    if by_comma and not by_point and not decimal_comma:
        return NumberStyle(".", ",", True, _joined(note, "commas between thousands"))
    if decimal_comma or by_point:
        thousands = "." if by_point or (one_point and not decimal_point) else ""
        said = "decimal comma, points between thousands" if thousands else "decimal comma"
        return NumberStyle(",", thousands, not (by_comma or decimal_point), _joined(note, said))
    if not one_comma:
        return NumberStyle(note=note)
    if decimal_point:
        return NumberStyle(".", ",", True, _joined(note, "commas between thousands"))
    if prefer_comma or _any(bare, r"^[+-]?\d{4,}$"):
        return NumberStyle(
            ",", "", False, _joined(note, "commas may be decimal or between thousands; read as decimal"), "number:point"
        )
    said = "commas may be decimal or between thousands; read as between thousands"
    return NumberStyle(".", ",", False, _joined(note, said), "number:comma")


def may_part_thousands(bare: Any) -> bool:
    """Whether all points of numbers stand before three digits, and no number that long is without one."""
    return _any(bare, _ONE_POINT) and not _has_decimal_point(bare) and not _any(bare, r"^[+-]?\d{4,}$")


def _has_decimal_point(bare: Any) -> bool:
    """Whether a point stands where none between thousands may."""
    return _any(bare, ".", plain=True) and _count(bare, r"^[+-]?\d*\.\d+$") > _count(bare, _ONE_POINT)


def parse_numbers(texts: Any, style: NumberStyle = NumberStyle()) -> np.ndarray[Any, Any]:
    """Trimmed texts as float64 [N]; NaN for null, for what is no number and for what is not finite."""
    found = None
    if style.thousands != ".":  # else 1.234 is more than a thousand
        found = _cast(texts)
    if found is None:
        encoded = texts.dictionary_encode()
        levels = _parse_levels(encoded.dictionary, style)
        codes = encoded.indices.fill_null(len(levels)).to_numpy(zero_copy_only=False)
        found = np.append(levels, np.nan)[codes]
    found[~np.isfinite(found)] = np.nan
    return found


def _cast(texts: Any) -> np.ndarray[Any, Any] | None:
    try:
        numbers = pc.cast(texts, pa.float64())
    except pa.ArrowInvalid:
        return None
    return np.array(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)


def _parse_levels(texts: Any, style: NumberStyle) -> np.ndarray[Any, Any]:
    bare = _without_signs(pc.replace_substring(texts, "\N{MINUS SIGN}", "-"))
    bare = _strip_where(bare, _IN_APART_GROUPS, _APART)
    if style.thousands == ".":
        bare = _strip_where(bare, _BY_POINT, r"\.", comma=True)
    if style.thousands == ",":
        bare = _strip_where(bare, _BY_COMMA, ",")
    bare = _strip_where(bare, _SURELY_BY_POINT, r"\.", comma=True)
    bare = _strip_where(bare, _SURELY_BY_COMMA, ",")
    if style.decimal == ".":
        bare = _strip_where(bare, _ONE_COMMA, ",")
    if style.thousands != ",":
        comma = pc.match_substring_regex(bare, _DECIMAL_COMMA)
        bare = pc.if_else(comma, pc.replace_substring(bare, ",", "."), bare)
    plain = pc.if_else(pc.match_substring_regex(bare, PLAIN), bare, pa.scalar(None, pa.string()))
    return np.array(pc.cast(plain, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _strip_where(texts: Any, pattern: str, marks: str, comma: bool = False) -> Any:
    """Texts of a pattern without marks; ``comma``: and with a decimal point for a decimal comma."""
    bare = pc.replace_substring_regex(texts, marks, "")
    if comma:
        bare = pc.replace_substring(bare, ",", ".")
    return pc.if_else(pc.match_substring_regex(texts, pattern), bare, texts)


def _without_signs(texts: Any) -> Any:
    return pc.replace_substring_regex(pc.replace_substring_regex(texts, _BEFORE, r"\1"), _AFTER, "")


def _sign_note(texts: Any) -> str:
    if not _any(texts, _SIGNED):
        return ""
    return "percent signs left out: 5% is 5" if _any(texts, _PERCENT) else "signs of currency left out"


def _any(texts: Any, pattern: str, plain: bool = False) -> bool:
    match = pc.match_substring if plain else pc.match_substring_regex
    return bool(pc.any(match(texts, pattern), min_count=1).as_py())


def _count(texts: Any, pattern: str) -> int:
    return int(pc.sum(pc.match_substring_regex(texts, pattern)).as_py() or 0)


def _joined(*notes: str) -> str:
    return ", ".join(filter(None, notes))
