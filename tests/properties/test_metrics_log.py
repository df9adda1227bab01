"""The log of a run, cut at any byte: what is read are whole rows, those that were written first."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasfast.runs.metrics import MetricsLog

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)
rows = st.dictionaries(st.text(max_size=5), values, max_size=4)


def finite(value: Any) -> Any:
    """What a value is after the log: JSON has no NaN and no infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [finite(item) for item in value]
    return {key: finite(item) for key, item in value.items()} if isinstance(value, dict) else value


@given(st.lists(rows, max_size=6), rows, st.data())
def test_a_log_that_was_cut_has_whole_rows_and_goes_on(
    written: list[dict[str, Any]], later: dict[str, Any], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = MetricsLog(Path(folder) / "metrics.jsonl")
        ends = [0]
        for row in written:
            log.append(row)
            ends.append(log.position)
        expected = [finite(row) for row in written]
        assert list(log.rows()) == expected
        cut = data.draw(st.integers(0, log.position))
        if written:
            log.path.write_bytes(log.path.read_bytes()[:cut])
        whole = sum(end <= cut for end in ends) - 1
        assert list(MetricsLog(log.path).rows()) == expected[:whole]
        # As a search that resumes: back to where a checkpoint was written, and on.
        kept = data.draw(st.integers(0, whole))
        again = MetricsLog(log.path)
        again.truncate(ends[kept])
        again.append(later)
        assert list(again.rows()) == [*expected[:kept], finite(later)]


@given(st.lists(rows, min_size=1, max_size=4))
def test_rows_of_one_call_are_those_of_several(written: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        once, singly = MetricsLog(Path(folder) / "once"), MetricsLog(Path(folder) / "singly")
        once.append(*written)
        for row in written:
            singly.append(row)
        assert once.path.read_bytes() == singly.path.read_bytes()


@pytest.mark.parametrize("size", [10, 5_000])
def test_rows_after_a_write_that_was_cut_are_whole(tmp_path, size):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"kept": 1})
    with open(log.path, "ab") as file:
        file.write(b'{"cut": "' + b"x" * size)
    log.append({"kept": 2})
    assert list(log.rows()) == [{"kept": 1}, {"kept": 2}]
