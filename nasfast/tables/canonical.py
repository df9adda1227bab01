"""Values of any type as texts in one form: "3" for 3, 3.0 and "3.0", "true" and "false"."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_MOST_WHOLE = float(2**53)  # beyond, floats have no units
_WHOLE = r"^(-?\d+)\.0+$"


def flat(values: Any) -> Any:
    """An array of one chunk, without dictionary, view or extension type."""
    if not isinstance(values, pa.ChunkedArray):
        return _plain(values)
    chunks = [_plain(chunk) for chunk in values.chunks] or [_plain(pa.nulls(0, values.type))]
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)


def _plain(values: Any) -> Any:
    if isinstance(values.type, pa.BaseExtensionType):
        values = values.storage
    if pa.types.is_dictionary(values.type):
        return _plain(values.dictionary).take(values.indices)
    if pa.types.is_run_end_encoded(values.type):
        values = pc.run_end_decode(values)
    return pc.cast(values, pa.string()) if pa.types.is_string_view(values.type) else values


def is_text(kind: Any) -> bool:
    """Whether a type is of texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_number(kind: Any) -> bool:
    """Whether a type is of numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_nested(kind: Any) -> bool:
    """Whether values of a type have parts, or are bytes: they are no features."""
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return bool(pa.types.is_nested(kind) or binary or pa.types.is_binary_view(kind))


def to_text(values: Any) -> Any:
    """The texts of an array of any type, as pa.StringArray; a chunked one of a chunked array."""
    if isinstance(values, pa.ChunkedArray):
        return pa.chunked_array([to_text(flat(values))])
    values = flat(values)
    kind = values.type
    if is_text(kind):
        return pc.cast(values, pa.string())
    if pa.types.is_boolean(kind):
        return pc.if_else(values, "true", "false")
    if pa.types.is_floating(kind):
        return _floats(values)
    if is_nested(kind):
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())
    return without_zeros(pc.cast(values, pa.string()))


def _floats(values: Any) -> Any:
    if pa.types.is_float16(values.type):
        values = pc.cast(values, pa.float32())
    texts = pc.cast(values, pa.string())
    numbers = np.asarray(pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False))
    whole = (np.abs(numbers) < _MOST_WHOLE) & (np.trunc(numbers) == numbers)
    exact = pa.array(np.where(whole, numbers, 0).astype(np.int64), mask=~whole)
    nan = pa.array(np.isnan(numbers))
    return pc.if_else(nan, pa.scalar(None, pa.string()), pc.coalesce(pc.cast(exact, pa.string()), texts))


def without_zeros(texts: Any) -> Any:
    """Texts of whole numbers without a decimal point and zeros behind it."""
    if not pc.any(pc.match_substring(texts, ".0")).as_py():
        return texts
    return pc.replace_substring_regex(texts, _WHOLE, r"\1")
