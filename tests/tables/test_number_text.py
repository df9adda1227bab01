"""Numbers as people write them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from nasfast.tables.number_text import NumberStyle, find_style, parse_numbers

NAN = float("nan")


def parsed(*texts: str | None, style: NumberStyle | None = None, semicolons: bool = False) -> list[float]:
    values = pa.array(texts, pa.string())
    found = parse_numbers(values, style or find_style(values.drop_null(), semicolons))
    return [float(value) for value in found]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("1", "-2", "+3.5", ".5", "4.", "1e3", "-2.5E-2"), (1, -2, 3.5, 0.5, 4, 1000, -0.025)),
        (("1,5", "2", "-0,25"), (1.5, 2, -0.25)),
        (("1.234,5", "2.000", "17"), (1234.5, 2000, 17)),
        (("1,234.5", "2,000", "17"), (1234.5, 2000, 17)),
        (("1,234,567", "999"), (1234567, 999)),
        (("1.234.567", "999"), (1234567, 999)),
        (("0,123", "12,345"), (0.123, 12.345)),
        (("12,345", "1.5"), (12345, 1.5)),
        (("1 234,5", "2\u00a0000", "3'000"), (1234.5, 2000, 3000)),
        (("$1,200.50", "-$3", "€ 7", "8 €"), (1200.5, -3, 7, 8)),
        (("5%", "7.5 %"), (5, 7.5)),
        (("\N{MINUS SIGN}5", "6"), (-5, 6)),
        (("1.5", "x", "1.2.3", "1-2", "0x10", "", "1e", "--1"), (1.5, *[NAN] * 7)),
        (("1", "inf", "-Infinity", "nan", None), (1, NAN, NAN, NAN, NAN)),
    ],
)
def test_numbers_are_read(texts: tuple[str, ...], expected: tuple[float, ...]) -> None:
    np.testing.assert_allclose(parsed(*texts), expected)


def test_a_comma_before_three_digits_is_guessed_and_said() -> None:
    texts = pa.array(["1,234", "2,500"])
    usual, european = find_style(texts), find_style(texts, prefer_comma=True)
    assert (usual.thousands, usual.alternative) == (",", "number:comma")
    assert (european.decimal, european.alternative) == (",", "number:point")
    assert not usual.sure
    assert "may be decimal or between thousands" in usual.note
    assert "may be decimal or between thousands" in european.note


def test_whole_numbers_without_marks_rule_out_thousands() -> None:
    assert find_style(pa.array(["1,234", "2500"])).decimal == ","


def test_other_files_may_write_numbers_otherwise() -> None:
    comma, point = NumberStyle(","), NumberStyle(".")
    assert parsed("1.5", "1,5", style=comma) == parsed("1.5", "1,5", style=point) == [1.5, 1.5]
    american = NumberStyle(".", ",")
    assert parsed("1.234,5", "1,234.5", "1,234", style=american) == [1234.5, 1234.5, 1234]
    german = NumberStyle(",", ".")
    assert parsed("1.234,5", "1,234.5", "1.234", "1.5", style=german) == [1234.5, 1234.5, 1234, 1.5]


def test_repeated_texts_and_none_at_all() -> None:
    assert parsed("1,5", "1,5", "2") == [1.5, 1.5, 2]
    assert parsed() == []
    assert all(np.isnan(parsed(None, None)))
