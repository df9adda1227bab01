"""Values whose type is not text, as float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_PER_SECOND = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}


def is_date(kind: Any) -> bool:
    """Whether a type is of dates, with a time or without."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def is_clock(kind: Any) -> bool:
    """Whether a type is of times of day or of lengths of time."""
    return bool(pa.types.is_time(kind) or pa.types.is_duration(kind))


def to_floats(values: Any) -> np.ndarray[Any, Any]:
    """Numbers and truth values as float64 [N], NaN for null."""
    if pa.types.is_boolean(values.type):
        values = pc.cast(values, pa.int8())
    if pa.types.is_float16(values.type):
        values = pc.cast(values, pa.float32())
    return np.array(pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)


def to_seconds(values: Any) -> np.ndarray[Any, Any]:
    """Dates as float64 [N] of seconds since 1970 in UTC, times as seconds; NaN for null."""
    kind = values.type
    if pa.types.is_date(kind):
        values = pc.cast(pc.cast(values, pa.date32()), pa.int32())
        return to_floats(values) * 86400.0
    size = pa.int32() if pa.types.is_time32(kind) else pa.int64()
    return to_floats(pc.cast(values, size)) / _PER_SECOND[kind.unit]
