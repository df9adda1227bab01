"""The log of a run, cut at any byte: what is read are whole rows, those that were written first."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasfast.errors import RunError
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
        mark = Path(folder) / "metrics.jsonl.end"
        ends, marks = [0], [b""]
        for row in written:
            log.append(row)
            ends.append(log.position)
            marks.append(mark.read_bytes())
        marks[0] = b"%016d %08x\n" % (0, 0)
        expected = [finite(row) for row in written]
        assert list(log.rows()) == expected
        # As a kill leaves it, or a loss of power: the last mark on disk may be older than the last row.
        cut = data.draw(st.integers(0, log.position))
        whole = sum(end <= cut for end in ends) - 1
        if written:
            log.path.write_bytes(log.path.read_bytes()[:cut])
            mark.write_bytes(marks[data.draw(st.integers(0, whole))])
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


@given(st.lists(rows, min_size=1, max_size=6), st.data())
def test_a_log_that_is_shorter_than_it_was_is_refused(written: list[dict[str, Any]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = MetricsLog(Path(folder) / "metrics.jsonl")
        log.append(*written)
        log.path.write_bytes(log.path.read_bytes()[: data.draw(st.integers(0, log.position - 1))])
        assert_refused(log)
        log.path.unlink()
        assert_refused(log)


@given(st.lists(rows, min_size=1, max_size=6), st.data())
def test_no_bit_of_a_log_changes_what_is_read(written: list[dict[str, Any]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = MetricsLog(Path(folder) / "metrics.jsonl")
        log.append(*written)
        content = bytearray(log.path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        log.path.write_bytes(content)
        assert_refused(log)


@given(st.lists(rows, min_size=2, max_size=6, unique_by=repr), st.data())
def test_rows_that_are_missing_doubled_or_moved_are_noticed(written: list[dict[str, Any]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = MetricsLog(Path(folder) / "metrics.jsonl")
        log.append(*written)
        lines = log.path.read_bytes().splitlines(keepends=True)
        place = data.draw(st.integers(0, len(lines) - 2))
        match data.draw(st.sampled_from(("missing", "doubled", "moved"))):
            case "missing":
                del lines[place]
            case "doubled":
                place = data.draw(st.integers(0, len(lines) - 1))
                lines.insert(place, lines[place])
            case "moved":
                lines[place], lines[place + 1] = lines[place + 1], lines[place]
        log.path.write_bytes(b"".join(lines))
        assert_refused(log)


@given(st.lists(rows, max_size=6), st.sets(st.integers(0, 5)), rows)
def test_rows_are_dropped_and_the_log_goes_on(
    written: list[dict[str, Any]], gone: set[int], later: dict[str, Any]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = MetricsLog(Path(folder) / "metrics.jsonl")
        log.append(*({"number": number, "row": row} for number, row in enumerate(written)))
        log.drop(lambda row: row["number"] in gone)
        log.append(later)
        expected = [{"number": n, "row": finite(row)} for n, row in enumerate(written) if n not in gone]
        assert list(log.rows()) == [*expected, finite(later)]


def assert_refused(log: MetricsLog) -> None:
    with pytest.raises(RunError, match=r"metrics\.jsonl"):
        list(log.rows())
    with pytest.raises(RunError, match=r"metrics\.jsonl"):
        log.truncate(0)
