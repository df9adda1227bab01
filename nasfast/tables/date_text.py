"""Dates as people write them, as seconds since 1970 in UTC."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_TIME = (
    r"(?:(?:[T ,]|, ) *(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}(?:[.,]\d+)?))?"
    r" *(?P<half>[AaPp]\.?[Mm]\.?)? *(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2})?)?$"
)
_YEAR = r"(?P<year>\d{4})"
_SHORT_YEAR = r"(?P<year>\d{4}|\d{2})"
_MONTH, _DAY = r"(?P<month>\d{1,2})", r"(?P<day>\d{1,2})"
_NAME = r"(?P<name>[A-Za-z]{3,9})\.?"
_WEEKDAY = r"^(?:[A-Za-z]{3,9},? +)?"
_TH = "(?:st|nd|rd|th)?"

PATTERNS: dict[str, tuple[str, ...]] = {
    "ymd": (rf"^{_YEAR}[-/.]{_MONTH}[-/.]{_DAY}{_TIME}", rf"^{_YEAR}-{_MONTH}$"),
    "dmy": (rf"^{_DAY}[-/]{_MONTH}[-/]{_SHORT_YEAR}{_TIME}", rf"^{_DAY}\.{_MONTH}\.{_YEAR}{_TIME}"),
    "mdy": (rf"^{_MONTH}[-/]{_DAY}[-/]{_SHORT_YEAR}{_TIME}", rf"^{_MONTH}\.{_DAY}\.{_YEAR}{_TIME}"),
    "named": (
        rf"{_WEEKDAY}{_DAY}{_TH}[-/. ]+{_NAME},?[-/. ]+{_SHORT_YEAR}{_TIME}",
        rf"{_WEEKDAY}{_NAME}[-/. ]+{_DAY}{_TH},?[-/. ]+{_YEAR}{_TIME}",
    ),
    "compact": (r"^(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})(?:\.0+)?$",),
}
"""By the order of day, month and year: what dates look like."""

ORDERS = ("ymd", "dmy", "mdy", "named", "compact")
NUMERIC = ("dmy", "mdy")
"""Orders that cannot be told apart where every day is at most 12."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_PIVOT = 69  # of two digits: 69 is 1969, 68 is 2068
_FIRST_YEAR, _LAST_YEAR = 1000, 2999


def parse_dates(texts: Any, order: str) -> np.ndarray[Any, Any]:
    """Trimmed texts as float64 [N] of seconds; NaN for null and for what is no date.

    A date that can be read in no other way is read whatever the order is.
    """
    encoded = texts.dictionary_encode()
    levels = _parse_levels(encoded.dictionary, order)
    codes = encoded.indices.fill_null(len(levels)).to_numpy(zero_copy_only=False)
    return np.append(levels, np.nan)[codes]


def _parse_levels(texts: Any, order: str) -> np.ndarray[Any, Any]:
    found = np.full(len(texts), np.nan)
    for name in (order, "ymd", "named"):
        for pattern in PATTERNS[name]:
            left = np.flatnonzero(np.isnan(found))
            if left.size:
                found[left] = _match(texts.take(pa.array(left)), pattern)
    return found


def _match(texts: Any, pattern: str) -> np.ndarray[Any, Any]:
    matched = np.flatnonzero(pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False))
    found = np.full(len(texts), np.nan)
    if matched.size:
        parts = pc.extract_regex(texts.take(pa.array(matched)), pattern)
        fields = {field.name: parts.field(index) for index, field in enumerate(parts.type)}
        found[matched] = _days(fields) * 86400.0 + _clock(fields, matched.size)
    return found


def _days(fields: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Days since 1970, NaN for a day that the calendar has not."""
    year = _whole(fields["year"])
    short = pc.less_equal(pc.utf8_length(fields["year"]), 2).to_numpy(zero_copy_only=False)
    year = np.where(short, np.where(year < _PIVOT, 2000, 1900) + year, year)
    month = _whole(fields["month"]) if "month" in fields else _month_numbers(fields["name"])
    day = _whole(fields["day"]) if "day" in fields else np.ones(len(year), np.int64)
    good = (month >= 1) & (month <= 12) & (day >= 1) & (year >= _FIRST_YEAR) & (year <= _LAST_YEAR)
    months = np.where(good, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    first = months.astype("datetime64[D]").astype(np.int64)
    length = (months + 1).astype("datetime64[D]").astype(np.int64) - first
    good &= day <= length
    return np.where(good, (first + day - 1).astype(np.float64), np.nan)


def _month_numbers(names: Any) -> np.ndarray[Any, Any]:
    places = pc.index_in(pc.ascii_lower(pc.utf8_slice_codeunits(names, 0, 3)), pa.array(_MONTHS))
    return np.asarray(places.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64) + 1


def _clock(fields: dict[str, Any], count: int) -> np.ndarray[Any, Any]:
    """Seconds since midnight in UTC, NaN where there is no such time."""
    if "hour" not in fields:
        return np.zeros(count)
    hour, minute = _whole(fields["hour"]), _whole(fields["minute"])
    second = _real(fields["second"])
    half = pc.ascii_lower(pc.utf8_slice_codeunits(fields["half"], 0, 1)).to_numpy(zero_copy_only=False)
    twelve = half != ""
    bad = np.where(twelve, (hour < 1) | (hour > 12), hour > 24) | (minute > 59) | (second >= 61)
    hour = np.where(twelve, hour % 12 + np.where(half == "p", 12, 0), hour)
    return np.where(bad, np.nan, hour * 3600.0 + minute * 60 + second - _offset(fields["zone"]))


def _offset(zones: Any) -> np.ndarray[Any, Any]:
    """Seconds that a zone is ahead of UTC."""
    digits = pc.replace_substring_regex(zones, r"[^\d]", "")
    hours, minutes = (_whole(pc.utf8_slice_codeunits(digits, start, start + 2)) for start in (0, 2))
    sign = np.where(pc.starts_with(zones, "-").to_numpy(zero_copy_only=False), -1, 1)
    return sign * (hours * 3600.0 + minutes * 60)


def _whole(texts: Any) -> np.ndarray[Any, Any]:
    filled = pc.if_else(pc.equal(texts, ""), "0", texts)
    return np.asarray(pc.cast(filled, pa.int64()).to_numpy(zero_copy_only=False))


def _real(texts: Any) -> np.ndarray[Any, Any]:
    filled = pc.replace_substring(pc.if_else(pc.equal(texts, ""), "0", texts), ",", ".")
    return np.asarray(pc.cast(filled, pa.float64()).to_numpy(zero_copy_only=False))
