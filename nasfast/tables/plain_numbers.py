"""Columns of text in which every value is a number as programs write it: read at once, without counting texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nasfast.tables.facts import NumberFacts, number_facts
from nasfast.tables.missing import has_padding, is_marker, trim
from nasfast.tables.number_text import may_part_thousands

_GLANCE = 200  # values that mostly show that a column is another

_PADDED = r"^0\d"


def plain_numbers(name: str, texts: Any, prefer_comma: bool = False) -> tuple[NumberFacts, tuple[str, ...]] | None:
    """The facts of an array of texts, and its markers of missing values; None where a value is anything else.

    Codes with zeros in front are something else, and so are, where ``prefer_comma`` says that decimals follow a comma,
    points that may stand between thousands.
    """
    trimmed = trim(texts)
    marker = is_marker(trimmed)
    present = trimmed.filter(pa.array(~marker)).drop_null()
    numbers = _cast(present) if len(present) and _cast(present.slice(0, _GLANCE)) is not None else None
    if numbers is None or (has_padding(present) and pc.any(pc.match_substring_regex(present, _PADDED)).as_py()):
        return None
    if prefer_comma and may_part_thousands(present):
        return None
    written = pc.value_counts(trimmed.filter(pa.array(marker))).to_pylist()
    written.sort(key=lambda count: (-count["counts"], count["values"]))
    return number_facts(name, numbers, None, len(texts)), tuple(count["values"] for count in written)


def _cast(texts: Any) -> np.ndarray[Any, Any] | None:
    try:
        return np.asarray(pc.cast(texts, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    except pa.ArrowInvalid:
        return None
