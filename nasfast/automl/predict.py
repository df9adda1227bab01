"""Predictions of a fitted model for every row of a file, however long it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv

from nasfast.automl.model import FittedModel
from nasfast.utils.files import atomic_write

PREDICTION = "prediction"


def prediction_table(model: FittedModel, batch: pa.Table | pa.RecordBatch) -> pa.Table:
    """A row for each row, in their order: ``prediction``, and ``p_CLASS`` for each class."""
    found = model.predict(batch)
    classes = model.task.classes
    if not classes:
        return pa.table({PREDICTION: found[:, 0]})
    names = pa.array(classes, pa.string())
    columns = {PREDICTION: names.take(pa.array(found.argmax(axis=1) if len(found) else np.empty(0, np.int64)))}
    return pa.table(columns | {f"p_{name}": found[:, i] for i, name in enumerate(classes)})


def write_predictions(model: FittedModel, batches: Iterable[pa.RecordBatch], out: Path) -> int:
    """Write the predictions of a stream of rows as CSV, whole or not at all; how many rows there were.

    Raises:
        RunError: The file could not be written.
        DataError: The rows cannot be read.
    """
    rows = 0

    def write(file: BinaryIO) -> None:
        nonlocal rows
        rows = write_stream(model, batches, file)

    atomic_write(out, write)
    return rows


def write_stream(model: FittedModel, batches: Iterable[pa.RecordBatch], file: BinaryIO) -> int:
    """Write the predictions of a stream of rows to an open file."""
    rows = 0
    schema = prediction_table(model, _no_rows(model)).schema
    with pa.csv.CSVWriter(file, schema) as writer:
        for table in _predicted(model, batches):
            writer.write_table(table)
            rows += table.num_rows
    return rows


def _predicted(model: FittedModel, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    for batch in batches:
        if batch.num_rows:
            yield prediction_table(model, batch)


def _no_rows(model: FittedModel) -> pa.Table:
    return pa.table({column.name: pa.array([], pa.string()) for column in model.schema.columns})
