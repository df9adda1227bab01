"""Scores looked up in a file: a published benchmark, or a table of your own.

Read are

- NAS-Bench-201 as ``.npz``: arrays ``arch_str`` [N] and ``{val,test}_acc_DATASET_eEPOCHS`` [N];
- NAS-Bench-Macro as ``.json``: {"archs": {"22212220": [accuracies of each run ..., mean, params, flops]}};
- ``.json``: {architecture: score}, or {architecture: {"score": ..., any further numbers}}, or with scores after several
  numbers of epochs {architecture: {"9": ..., "81": ...}}, the same for all;
- ``.csv``: the same in columns: ``arch``, ``score`` and any further numbers, or ``arch`` and one column per number of
  epochs;

where an architecture is the text that the space's ``decode`` writes. Reading never executes code.

The two benchmarks have accuracies in percent, which become fractions here, as accuracies are everywhere. What stands in
a table of your own is taken as it is, in whatever unit; but a number named test_accuracy or valid_accuracy has to be a
fraction.
"""

from __future__ import annotations

import csv
import io
import math
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from nasfast.errors import DataError, NasfastError
from nasfast.estimators.base import Estimate
from nasfast.spaces.base import Rows, Space
from nasfast.utils.numbers import ACCURACIES
from nasfast.utils.suggest import did_you_mean
from nasfast.utils.texts import read_json, read_text

_Table = dict[str, Estimate]
_EXPECTED = "a table of scores, by architecture"


class TableEstimator:
    """Looks architectures up, by their row, or else by their canonical form.

    Args:
        path: The file.
        space: Whose architectures it holds.
        dataset: Of NAS-Bench-201: cifar10, cifar100 or imagenet16.

    Raises:
        DataError: The file cannot be read, or holds no table of this space.
    """

    name = "table"

    def __init__(self, path: str | Path, space: Space, dataset: str = "cifar10") -> None:
        self.path, self.space = Path(path), space
        tables = _read(self.path, dataset)
        rows = self._encode(tables[None])
        self._rows = {fidelity: {rows[text]: e for text, e in table.items()} for fidelity, table in tables.items()}
        self._forms: dict[int | None, dict[str, Estimate]] = {}

    def __len__(self) -> int:
        return len(self._rows[None])

    @property
    def fidelities(self) -> list[int]:
        """Epochs that there are scores for, where the table tells them apart."""
        return sorted(fidelity for fidelity in self._rows if fidelity is not None)

    def estimate(self, rows: Rows, fidelity: int | None = None) -> list[Estimate]:
        """See :class:`nasfast.estimators.Estimator`. The default fidelity is the highest of the table.

        Raises:
            DataError: It has no score for a row, or none for the fidelity.
        """
        if fidelity not in self._rows:
            known = ", ".join(map(str, self.fidelities)) or "none: it does not tell epochs apart"
            raise DataError(f"{self.path}: no scores for a fidelity of {fidelity} epochs; there are {known}")
        rows = self.space.check(rows)
        found = [self._look_up(tuple(row), fidelity) for row in rows.tolist()]
        missing = [row for row, estimate in zip(rows, found, strict=True) if estimate is None]
        if missing:
            some = f"{len(missing)} of {len(rows)} architectures, such as " if len(rows) > 1 else ""
            raise DataError(
                f"{self.path} has no score for {some}{self.space.decode(missing[0])}; it holds {len(self)} "
                f"of {self.space.count():,} architectures of {self.space.name}"
            )
        return [estimate for estimate in found if estimate is not None]

    def _look_up(self, row: tuple[int, ...], fidelity: int | None) -> Estimate | None:
        found = self._rows[fidelity].get(row)
        if found is not None:
            return found
        if fidelity not in self._forms:
            self._forms[fidelity] = {self.space.canonical(known): e for known, e in self._rows[fidelity].items()}
        return self._forms[fidelity].get(self.space.canonical(row))

    def _encode(self, texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
        rows = {}
        for text in texts:
            try:
                rows[text] = tuple(self.space.encode(text).tolist())
            except NasfastError as error:
                where = _line_of(self.path, text)
                raise DataError(f"{self.path} is no table of {self.space.name}: {where}{error}") from None
        return rows


def _read(path: Path, dataset: str) -> dict[int | None, _Table]:
    """Tables by fidelity; None is the one of the highest fidelity."""
    readers = {".npz": _read_npz, ".json": _read_json, ".csv": _read_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: a table must be a file of type {', '.join(readers)}")
    if not path.is_file():
        raise DataError(f"no table at {path}")
    try:
        tables = reader(path, dataset)
    except _DAMAGED as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read as a table: {error}") from error
    if not tables.get(None):
        raise DataError(f"{path} holds no architecture")
    return tables


# zipfile and NumPy raise all of these, on archives that are cut or garbled.
_DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, OverflowError, SyntaxError, MemoryError),
    *(csv.Error, zipfile.BadZipFile, zlib.error, struct.error),
)


def _read_npz(path: Path, dataset: str) -> dict[int | None, _Table]:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is {'damaged' if path.stat().st_size else 'empty'}: expected a .npz archive of arrays")
    with np.load(path, allow_pickle=False) as file:
        found = {name: re.fullmatch(rf"val_acc_{re.escape(dataset)}_e(\d+)", name) for name in file.files}
        epochs = sorted(int(match[1]) for match in found.values() if match)
        if "arch_str" not in file.files or not epochs:
            sets = {m[1] for name in file.files if (m := re.fullmatch(r"val_acc_(.+)_e\d+", name))}
            raise DataError(
                f"{path}: expected arrays arch_str and val_acc_{dataset}_eEPOCHS; "
                f"it has data sets {', '.join(sorted(sets)) or 'none'}{did_you_mean(dataset, sets)}"
            )
        names = [str(name) for name in file["arch_str"]]
        # What was measured after the longest training says how good an architecture is, whatever it was chosen by.
        last = {
            "test_accuracy": file[f"test_acc_{dataset}_e{epochs[-1]}"],
            "valid_accuracy": file[f"val_acc_{dataset}_e{epochs[-1]}"],
        }
        tables: dict[int | None, _Table] = {}
        for epoch in epochs:
            scores = file[f"val_acc_{dataset}_e{epoch}"].tolist()
            rows = zip(*(_column(path, key, values.tolist()) for key, values in last.items()), strict=True)
            metrics = [dict(zip(last, row, strict=True)) for row in rows]
            tables[epoch] = {
                name: Estimate(_share(path, "score", score), found)
                for name, score, found in zip(names, scores, metrics, strict=True)
            }
    return tables | {None: tables[epochs[-1]]}


def _read_json(path: Path, dataset: str) -> dict[int | None, _Table]:
    content = read_json(path, _EXPECTED, DataError, partial(_object, path))
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object {{architecture: score}}, got {type(content).__name__}")
    if isinstance(content.get("archs"), dict):
        return {None: {name: _macro(path, name, row) for name, row in content["archs"].items()}}
    first = next(iter(content.values()), None)
    if isinstance(first, dict) and first and all(map(_is_count, first)):
        return _by_epochs(path, content)
    return {None: {name: _estimate(path, name, value) for name, value in content.items()}}


def _by_epochs(path: Path, content: Mapping[str, Any]) -> dict[int | None, _Table]:
    fidelities = sorted(int(key) for key in next(iter(content.values())))
    for name, scores in content.items():
        if not isinstance(scores, dict) or {str(fidelity) for fidelity in fidelities} != set(scores):
            raise DataError(f"{path}: {name} must have a score after {', '.join(map(str, fidelities))} epochs")
    tables: dict[int | None, _Table] = {
        fidelity: {name: Estimate(_number(path, name, scores[str(fidelity)])) for name, scores in content.items()}
        for fidelity in fidelities
    }
    return tables | {None: tables[fidelities[-1]]}


def _macro(path: Path, name: str, row: Any) -> Estimate:
    """NAS-Bench-Macro has test accuracies only; their mean is both the score and the test accuracy."""
    if not isinstance(row, list) or len(row) < 4:
        raise DataError(f"{path}: {name} must have [accuracies ..., mean, params, flops], got {row!r}")
    mean = _share(path, name, row[-3])
    return Estimate(mean, {"test_accuracy": mean})


def _estimate(path: Path, name: str, value: Any) -> Estimate:
    if not isinstance(value, Mapping):
        return Estimate(_number(path, name, value))
    if "score" not in value:
        raise DataError(f"{path}: {name} has no score")
    numbers = {str(key): _number(path, f"{name}: {key}", number) for key, number in value.items()}
    for key in ACCURACIES & set(numbers):
        if not 0 <= numbers[key] <= 1:
            raise DataError(f"{path}: {name}: {key} must be a fraction from 0 to 1, got {numbers[key]:g}")
    return Estimate(numbers.pop("score"), numbers)


def _read_csv(path: Path, dataset: str) -> dict[int | None, _Table]:
    with _open_csv(path) as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or [])
        numbers = [name for name in columns if name != "arch"]
        by_epochs = bool(numbers) and all(map(_is_count, numbers))
        if columns.count("arch") != 1 or len(set(columns)) < len(columns) or not (by_epochs or "score" in columns):
            raise DataError(
                f"{path}, line 1: expected the columns arch, score and any further numbers, or arch and numbers of "
                f"epochs, each once; got {', '.join(columns) or 'none'}"
            )
        fidelities = sorted(map(int, numbers)) if by_epochs else []
        tables: dict[int | None, _Table] = {None: {}, **{fidelity: {} for fidelity in fidelities}}
        for row in reader:
            line = f"line {reader.line_num}"
            if None in row or None in row.values():
                raise DataError(f"{path}, {line}: another number of columns than the first line")
            name = row.pop("arch")
            if name in tables[None]:
                raise DataError(f"{path}, {line}: {name} stands in an earlier line too")
            for column in numbers if by_epochs else ():
                tables[int(column)][name] = Estimate(_number(path, f"{line}: {column}", row[column]))
            tables[None][name] = tables[fidelities[-1]][name] if by_epochs else _estimate(path, line, row)
    return tables


def _is_count(text: str) -> bool:
    """Whether it is a number of epochs, as Python writes it: 09 is not another one than 9."""
    return text.isdecimal() and text == str(int(text))


def _open_csv(path: Path) -> TextIO:
    return io.StringIO(read_text(path, _EXPECTED, DataError), newline="")


def _line_of(path: Path, text: str) -> str:
    """Where an architecture stands in a CSV file, as a message begins; "" in other files."""
    if path.suffix.lower() != ".csv":
        return ""
    with _open_csv(path) as file:
        reader = csv.DictReader(file)
        return next((f"line {reader.line_num}: " for row in reader if row["arch"] == text), "")


def _object(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names are different."""
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise DataError(f"{path}: {counts.most_common(1)[0][0]} stands there more than once")
    return found


def _column(path: Path, key: str, values: Iterable[Any]) -> list[float]:
    return [_share(path, key, value) for value in values]


def _share(path: Path, where: str, value: Any) -> float:
    """An accuracy in percent as a fraction."""
    number = _number(path, where, value)
    if not 0 <= number <= 100:
        raise DataError(f"{path}: {where} must be an accuracy in percent, from 0 to 100, got {number:g}")
    return number / 100


def _number(path: Path, where: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{path}: {where} must be a number, got {value!r}") from None
    if isinstance(value, bool) or not math.isfinite(number):
        raise DataError(f"{path}: {where} must be a finite number, got {value!r}")
    return number
