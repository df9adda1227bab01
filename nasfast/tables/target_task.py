"""Which task the values of a target pose, told from them or given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nasfast.errors import DataError
from nasfast.tables.canonical import flat, is_nested, is_number, is_text
from nasfast.tables.facts import NONE, TextFacts, number_facts, text_facts
from nasfast.tables.number_kind import find_sentinels, is_row_number
from nasfast.tables.number_text import NumberStyle
from nasfast.tables.schema import Column
from nasfast.tables.text_kind import READABLE, Hints, NumbersRead, find_order, read_numbers, table_hints
from nasfast.tables.typed_values import is_clock, is_date, to_floats, to_seconds
from nasfast.utils.shown import shown

_FEW_CLASSES = 10
"""Whole numbers of at most so many values are taken as classes."""
_SOME_CLASSES = 30
"""Whole numbers of at most so many values may be classes."""
_MOST_OWN = 0.5
"""Share of the rows with a class of their own, above which classes tell nothing."""
_ENOUGH = 20
_LABELS = 0.02  # share of the values with a bar, of a column of several labels


@dataclass(frozen=True)
class Guess:
    """A task, why it is that one, others that the values allow, and how the values are read."""

    task: str
    reason: str
    alternatives: tuple[str, ...]
    column: Column


def guess_task(data: Any, name: str, task: str) -> Guess:
    """The task of a target; ``task`` is one, or "auto".

    Raises:
        DataError: The values do not fit the task, or no task.
    """
    values = flat(data.column(name))
    where = f"the target {shown(name)!r}"
    if is_nested(values.type) or is_date(values.type):
        raise DataError(f"{where} is of the type {values.type}: expected classes or numbers")
    facts = text_facts(name, values)
    found = _numbers(name, values, facts, table_hints(data))
    if found is None and facts.has_none:  # a class rather than no answer
        facts = text_facts(name, values, (NONE,))
    _check_values(facts, where)
    declared = (data.schema.field(name).metadata or {}).get(b"declared") == b"category"
    declared = declared or pa.types.is_dictionary(data.schema.field(name).type)
    if task == "auto":
        return _told(name, facts, found, declared, where)
    return _checked(name, facts, found, task, where)


def _check_values(facts: TextFacts, where: str) -> None:
    if not facts.distinct:
        raise DataError(f"{where} is missing in all rows: expected at least two values")
    if facts.distinct == 1:
        value = shown(facts.values[0].as_py())[:40]
        raise DataError(f"{where} has one value, {value!r}, in all rows that have one: expected at least two")


def _numbers(name: str, values: Any, facts: TextFacts, hints: Hints) -> NumbersRead | None:
    """The values as numbers, where nearly all are."""
    if is_text(values.type):
        found = read_numbers(facts, hints)
        return found if found.share >= READABLE else None
    if not is_number(values.type) and not is_clock(values.type):
        return None
    numbers = to_seconds(values) if is_clock(values.type) else to_floats(values)
    return NumbersRead(NumberStyle(), number_facts(name, numbers, None, len(values)), [], 0, 1.0)


def _told(name: str, facts: TextFacts, found: NumbersRead | None, declared: bool, where: str) -> Guess:
    if found is not None and not found.lost and not declared:
        return _of_numbers(name, found, facts, where)
    if _has_labels(facts):
        labels = _several(name, facts)
        return replace(labels, reason=f"{labels.reason}; --task multiclass takes each text as a class")
    if found is not None and not declared and found.facts.distinct > _FEW_CLASSES:
        return _regression(name, found, "numbers", (), where)
    return _of_texts(name, facts, where)


def _of_numbers(name: str, found: NumbersRead, facts: TextFacts, where: str) -> Guess:
    numbers = found.facts
    distinct = numbers.distinct
    if not numbers.whole:
        return _regression(name, found, f"numbers with decimals, {distinct:,} distinct", (), where)
    if distinct == 2:
        low, high = (f"{value:.0f}" for value in numbers.values)
        return Guess("binary", f"two values, {low} and {high}", (), _as_classes(name, facts))
    if is_row_number(numbers):
        raise DataError(f"{where} has a whole number of its own in every row, as identifiers have: expected values")
    if distinct <= _FEW_CLASSES:
        reason = f"whole numbers, {distinct} distinct, taken as classes; --task regression takes them as a scale"
        return Guess("multiclass", reason, ("regression",), _as_classes(name, facts))
    if distinct <= _SOME_CLASSES:
        reason = f"whole numbers, {distinct} distinct, taken as a scale; --task multiclass takes them as classes"
        return _regression(name, found, reason, ("multiclass",), where)
    return _regression(name, found, f"whole numbers, {distinct:,} distinct", (), where)


def _of_texts(name: str, facts: TextFacts, where: str) -> Guess:
    if find_order(facts) is not None:
        raise DataError(f"{where} holds dates, such as {facts.values[0].as_py()!r}: expected classes or numbers")
    _check_classes(facts, where)
    task = "binary" if facts.distinct == 2 else "multiclass"
    return Guess(task, f"{facts.distinct:,} distinct texts", (), _as_classes(name, facts))


def _check_classes(facts: TextFacts, where: str) -> None:
    if facts.present >= _ENOUGH and facts.distinct > _MOST_OWN * facts.present:
        value = shown(facts.values[0].as_py())[:40]
        raise DataError(
            f"{where} has {facts.distinct:,} distinct values such as {value!r} in {facts.present:,} rows, as "
            "identifiers and free text have: expected classes of many rows each, or numbers"
        )


def _checked(name: str, facts: TextFacts, found: NumbersRead | None, task: str, where: str) -> Guess:
    if task == "regression":
        if found is None:
            parsed = read_numbers(facts, Hints())
            value = shown((parsed.lost or [facts.values[0].as_py()])[0])[:40]
            raise DataError(f"{where} holds {value!r}: expected numbers for --task regression")
        return _regression(name, found, "as given", (), where)
    if task == "multilabel":
        return _several(name, facts)
    if task == "binary" and facts.distinct != 2:
        raise DataError(f"{where} has {facts.distinct:,} distinct values: expected two for --task binary")
    _check_classes(facts, where)
    return Guess(task, f"as given, {facts.distinct:,} distinct", (), _as_classes(name, facts))


def _regression(name: str, found: NumbersRead, reason: str, others: tuple[str, ...], where: str) -> Guess:
    sentinels = find_sentinels(found.facts)
    column = Column(name, "number", reason, sentinels=sentinels)
    if sentinels:
        values = ", ".join(f"{value:.0f}" for value in sentinels)
        column = replace(column, reason=f"{reason}; {values}, far from the rest, counted as missing")
    column = found.described(column)
    return Guess("regression", column.reason, others, column)


def _as_classes(name: str, facts: TextFacts) -> Column:
    return Column(name, "category", "classes", kept=facts.kept)


def _has_labels(facts: TextFacts) -> bool:
    """Whether bars part the labels of a row: labels that occur again, alone or beside others."""
    bars = pc.match_substring(facts.values, "|")
    if not pc.any(bars).as_py():
        return False
    rows = int(facts.counts[bars.to_numpy(zero_copy_only=False)].sum())
    labels = len(pc.split_pattern_regex(facts.values, r"\s*\|\s*").flatten().unique())
    return rows >= _LABELS * facts.present and labels <= max(2.0, np.sqrt(facts.present) * 2)


def _several(name: str, facts: TextFacts) -> Guess:
    labels = pc.split_pattern_regex(facts.values, r"\s*\|\s*").flatten()
    count = len(labels.filter(pc.not_equal(labels, "")).unique())
    reason = f"texts of several labels parted by '|', {count:,} labels"
    return Guess("multilabel", reason, ("multiclass",), Column(name, "text", "labels", kept=facts.kept))
