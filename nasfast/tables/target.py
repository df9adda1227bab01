"""The column that is to be predicted: which task it poses, and its values as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nasfast.errors import ConfigError, DataError
from nasfast.tables.convert import convert_column
from nasfast.tables.data import arrow_of
from nasfast.tables.infer import require_column
from nasfast.tables.schema import Column, read_fields
from nasfast.tables.target_task import Guess, guess_task
from nasfast.utils.shown import shown
from nasfast.utils.suggest import must_be_one_of

Task = Literal["binary", "multiclass", "regression", "multilabel"]
TASKS: tuple[Task, ...] = get_args(Task)
LABEL_MARK = "|"
"""What parts the labels of a row, where it may have several."""


@dataclass(frozen=True)
class TargetSpec:
    """What a target is, without its values; the columns of a later table are read by it.

    Attributes:
        name: Of the column.
        task: What is to be predicted.
        reason: Why this task, for people.
        classes: As text, in a stable order: numbers by size, others by letters; of a binary task the second is the
            positive one. Empty for regression.
        alternatives: Other tasks that the values allow as well.
        column: How values are read.
    """

    name: str
    task: Task
    reason: str
    classes: tuple[str, ...]
    alternatives: tuple[str, ...]
    column: Column

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        content = {name: getattr(self, name) for name in ("name", "task", "reason")}
        lists = {name: list(getattr(self, name)) for name in ("classes", "alternatives")}
        return {**content, **lists, "column": self.column.to_json()}

    @classmethod
    def from_json(cls, content: Any) -> TargetSpec:
        """The target of its JSON.

        Raises:
            DataError: It is malformed.
        """
        if not isinstance(content, dict):
            raise DataError(f"the target is {type(content).__name__}: expected what TargetSpec.to_json gives")
        column = Column.from_json(content.get("column"), "the column of the target")
        return cls(**read_fields(cls, {**content, "column": column}, "the target"))


@dataclass(frozen=True)
class Target:
    """The target of a table.

    Attributes:
        spec: What it is.
        y: Codes of classes, int64 [R]; for regression float64 [R]; for several labels 0 and 1, int64 [R, classes].
        rows: The rows of the table that have a target, int64 [R], ascending.
        dropped: How many have none.
    """

    spec: TargetSpec
    y: np.ndarray[Any, Any]
    rows: np.ndarray[Any, Any]
    dropped: int

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def task(self) -> Task:
        return self.spec.task

    @property
    def reason(self) -> str:
        return self.spec.reason

    @property
    def classes(self) -> tuple[str, ...]:
        return self.spec.classes

    @property
    def alternatives(self) -> tuple[str, ...]:
        return self.spec.alternatives


def read_target(table: Any, name: str, task: str = "auto") -> Target:
    """The target of a table.

    Args:
        table: A :class:`nasfast.tables.data.TableData`, or a pyarrow table.
        task: What is to be predicted; "auto" tells it from the values, and says why.

    Raises:
        DataError: There is no such column, it has fewer than two values, or they do not fit the task.
        ConfigError: There is no such task.
    """
    if task != "auto" and task not in TASKS:
        raise ConfigError(f"--task {must_be_one_of(task, ('auto', *TASKS))}")
    data = arrow_of(table)
    require_column(data, name, "target")
    guess = guess_task(data, name, task)
    classes = () if guess.task == "regression" else _classes(data, guess)
    spec = TargetSpec(name, guess.task, guess.reason, classes, guess.alternatives, guess.column)  # type: ignore[arg-type]
    y, rows = encode_target(data, spec)
    if guess.task == "regression" and not np.any(y != y[0]):
        raise DataError(f"the target {shown(name)!r} has one value in all rows: expected at least two")
    return Target(spec, y, rows, data.num_rows - len(rows))


def encode_target(table: Any, spec: TargetSpec) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The target of another table, such as a test set, as :class:`Target` has it: ``y`` and ``rows``.

    Raises:
        DataError: It has no such column, or a class that is none of the target's.
    """
    data = arrow_of(table)
    require_column(data, spec.name, "target")
    values = convert_column(data, spec.column)
    if spec.task == "regression":
        rows = np.flatnonzero(~np.isnan(values))
        return values[rows], rows
    rows = np.flatnonzero(values.is_valid().to_numpy(zero_copy_only=False))
    present = values.drop_null()
    if spec.task == "multilabel":
        return _label_matrix(present, spec), rows
    return _codes(present, spec), rows


def _codes(texts: Any, spec: TargetSpec) -> np.ndarray[Any, Any]:
    codes = pc.index_in(texts, pa.array(spec.classes, pa.string()))
    if codes.null_count:
        unknown = texts.filter(codes.is_null())[0].as_py()
        few = ", ".join(map(shown, spec.classes[:8])) + (" ..." if len(spec.classes) > 8 else "")
        raise DataError(f"the target {shown(spec.name)!r} has the class {shown(unknown)!r}: expected one of {few}")
    return np.asarray(codes.to_numpy(zero_copy_only=False), dtype=np.int64)


def _label_matrix(texts: Any, spec: TargetSpec) -> np.ndarray[Any, Any]:
    lists = _labels(texts)
    counts = np.asarray(pc.list_value_length(lists).to_numpy(zero_copy_only=False), dtype=np.int64)
    labels = lists.flatten()
    keep = pc.not_equal(labels, "")
    rows = np.repeat(np.arange(len(lists)), counts)[keep.to_numpy(zero_copy_only=False)]
    matrix = np.zeros((len(lists), len(spec.classes)), dtype=np.int64)
    matrix[rows, _codes(labels.filter(keep), spec)] = 1
    return matrix


def _labels(texts: Any) -> Any:
    return pc.split_pattern_regex(texts, r"\s*\|\s*")


def _classes(data: Any, guess: Guess) -> tuple[str, ...]:
    texts = convert_column(data, guess.column).drop_null()
    if guess.task == "multilabel":
        texts = _labels(texts).flatten()
        texts = texts.filter(pc.not_equal(texts, ""))
    return tuple(in_order(texts.unique().to_pylist()))


def in_order(classes: list[str]) -> list[str]:
    """Classes by size where all are numbers, else by letters."""
    try:
        return sorted(classes, key=lambda text: (float(text), text))
    except ValueError:
        return sorted(classes)


def class_counts(target: Target) -> np.ndarray[Any, Any]:
    """Rows of each class."""
    if target.task == "multilabel":
        return np.asarray(target.y.sum(0))
    return np.bincount(target.y, minlength=len(target.classes))
