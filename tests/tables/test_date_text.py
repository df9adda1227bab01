"""Dates as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from nasfast.tables.date_text import ORDERS, parse_dates

DAY = datetime(2024, 2, 29, tzinfo=UTC).timestamp()


def seconds(text: str, order: str) -> float:
    return float(parse_dates(pa.array([text]), order)[0])


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("2024-02-29", "ymd"),
        ("2024/2/29", "ymd"),
        ("2024-02-29T00:00:00Z", "ymd"),
        ("2024-02-29 00:00", "ymd"),
        ("2024-02-29T02:00:00+02:00", "ymd"),
        ("2024-02-28 19:30:00.000-0430", "ymd"),
        ("29.02.2024", "dmy"),
        ("29/2/24", "dmy"),
        ("02/29/2024", "mdy"),
        ("2/29/2024 12:00 AM", "mdy"),
        ("29 Feb 2024", "named"),
        ("29-Feb-24", "named"),
        ("Thu, 29 February 2024", "named"),
        ("February 29th, 2024", "named"),
        ("20240229", "compact"),
    ],
)
def test_a_day_in_many_ways(text: str, order: str) -> None:
    assert seconds(text, order) == DAY


def test_times() -> None:
    assert seconds("2024-02-29 13:45:30.5", "ymd") == DAY + 13 * 3600 + 45 * 60 + 30.5
    assert seconds("2/29/2024 1:45 PM", "mdy") == DAY + 13 * 3600 + 45 * 60
    assert seconds("2/29/2024 12:15 p.m.", "mdy") == DAY + 12 * 3600 + 15 * 60


def test_years_of_two_digits() -> None:
    assert seconds("1/1/69", "dmy") < 0 < seconds("1/1/68", "dmy")


def test_months_alone() -> None:
    assert seconds("2024-02", "ymd") == datetime(2024, 2, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        *("2023-02-29", "2024-13-01", "2024-00-10", "0000-00-00", "31.04.2024", "1.2.3", "10.0.0.1", "12 Foo 2024"),
        *("2024-02-29 25:00", "2024-02-29 10:61", "2/29/2024 13:00 PM", "20241301", "12:30", "x", "", "2024"),
    ],
)
def test_what_is_no_date(text: str) -> None:
    for order in ORDERS:
        assert np.isnan(seconds(text, order))


def test_what_can_be_read_in_one_way_only_needs_no_order() -> None:
    for order in ORDERS:
        assert seconds("2024-02-29", order) == seconds("29 Feb 2024", order) == DAY


def test_all_days_of_four_centuries() -> None:
    days = np.arange("1800-01-01", "2200-01-01", 17, dtype="datetime64[D]")
    found = parse_dates(pa.array([str(day) for day in days]), "ymd")
    np.testing.assert_array_equal(found, days.astype(np.int64) * 86400.0)
