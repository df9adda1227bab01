"""Predictions of a fitted model for every row of a file, however long it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv

from nasfast.automl.model import FittedModel
from nasfast.automl.why import reasons
from nasfast.utils.files import atomic_write

PREDICTION, WHY = "prediction", "why"


def prediction_table(model: FittedModel, batch: pa.Table | pa.RecordBatch, explain: bool = False) -> pa.Table:
    """A row for each row, in their order: ``prediction``, and ``p_CLASS`` for each class.

    Args:
        explain: Add ``why``: the columns that add most to the prediction, or take most from it.
    """
    prepared = model.prepare(batch)
    found = model.predict_prepared(prepared)
    chosen = found.argmax(axis=1) if len(found) else np.empty(0, np.int64)
    classes = model.task.classes
    if classes:
        columns: dict[str, Any] = {PREDICTION: pa.array(classes, pa.string()).take(pa.array(chosen))}
        columns |= {f"p_{name}": found[:, i] for i, name in enumerate(classes)}
    else:
        columns = {PREDICTION: found[:, 0]}
    if explain:
        columns[WHY] = pa.array(reasons(model, prepared, chosen), pa.string())
    return pa.table(columns)


def write_predictions(model: FittedModel, batches: Iterable[pa.RecordBatch], out: Path, explain: bool = False) -> int:
    """Write the predictions of a stream of rows as CSV, whole or not at all; how many rows there were.

    Args:
        explain: See :func:`prediction_table`.

    Raises:
        RunError: The file could not be written.
        DataError: The rows cannot be read.
    """
    rows = 0

    def write(file: BinaryIO) -> None:
        nonlocal rows
        rows = write_stream(model, batches, file, explain)

    atomic_write(out, write)
    return rows


def write_stream(model: FittedModel, batches: Iterable[pa.RecordBatch], file: BinaryIO, explain: bool = False) -> int:
    """Write the predictions of a stream of rows to an open file."""
    rows = 0
    schema = prediction_table(model, _no_rows(model), explain).schema
    with pa.csv.CSVWriter(file, schema) as writer:
        for table in _predicted(model, batches, explain):
            writer.write_table(table)
            rows += table.num_rows
    return rows


def _predicted(model: FittedModel, batches: Iterable[pa.RecordBatch], explain: bool) -> Iterator[pa.Table]:
    for batch in batches:
        if batch.num_rows:
            yield prediction_table(model, batch, explain)


def _no_rows(model: FittedModel) -> pa.Table:
    return pa.table({column.name: pa.array([], pa.string()) for column in model.schema.columns})
