"""A table in, a model out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from nasfast.automl.card import write_card
from nasfast.automl.clock import Deadline
from nasfast.automl.describe import describe
from nasfast.automl.diagnosis.diagnose import diagnose
from nasfast.automl.estimate import Estimate, choice_optimism, standard_error
from nasfast.automl.explain import background_of
from nasfast.automl.export import export_onnx
from nasfast.automl.folder import save_model
from nasfast.automl.members.base import Candidate
from nasfast.automl.metrics import Metric, metric_for
from nasfast.automl.model import FittedModel
from nasfast.automl.names import ONNX_FILE
from nasfast.automl.prepare import Preparation, Prepared
from nasfast.automl.problem import Problem
from nasfast.automl.provenance import provenance, table_digest
from nasfast.automl.search import Found, Search
from nasfast.automl.splits import make_folds
from nasfast.automl.summary import summary
from nasfast.automl.task import task_of
from nasfast.automl.trials import Trial
from nasfast.automl.work import Work
from nasfast.config.budget import Budget
from nasfast.errors import ConfigError, DataError, RunError
from nasfast.tables import Column, Schema, TableData, Target, TargetSpec, convert, infer_schema, read_target
from nasfast.tables.convert import convert_column
from nasfast.tables.infer import require_column
from nasfast.utils.progress import Progress

_CHECKED_ROWS = 1000
_DIAGNOSIS = 0.05  # of the time, for what is told of the model
_WRITING = 1.5  # seconds, for the files


@dataclass(frozen=True)
class FitSettings:
    """What a fit is asked for.

    Attributes:
        target: The column to predict.
        budget: Of time from the start of the process, or of trials.
        task: "auto", "binary", "multiclass" or "regression".
        metric: By name; None: the usual one of the task.
        types: Kinds of columns, where they are not to be guessed.
        group: Column whose equal values stay in one fold.
        time: Column by which folds are judged by what is later.
        weight: Column of weights of rows.
        threads: Of the CPU; None: those that torch takes.
    """

    target: str
    budget: Budget
    task: str = "auto"
    metric: str | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    time: str | None = None
    weight: str | None = None
    seed: int = 0
    threads: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As an object of JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> FitSettings:
        """The ones that :meth:`to_json` gave.

        Raises:
            RunError: They are not of that form.
        """
        try:
            return cls(**{**content, "budget": Budget(**content["budget"])})
        except (KeyError, TypeError) as error:
            raise RunError(f"settings of a fit are not of this nasfast: {error}") from error

    def roles(self) -> dict[str, str | None]:
        """Columns that are neither features nor the target, by what they are."""
        return {"group": self.group, "time": self.time, "weight": self.weight}


@dataclass(frozen=True)
class FitResult:
    """What a fit made.

    Attributes:
        model: As it was written.
        found: Every candidate.
        estimate: Of the ensemble, out of fold.
        folder: Where it lies.
        table: The rows that have a target.
    """

    model: FittedModel
    found: Found
    metric: Metric
    estimate: Estimate
    problem: Problem
    folder: Path | None
    table: pa.Table

    def __str__(self) -> str:
        return summary(self.model.about, self.model.task.kind, self.model.target.name, str(self.folder))


def fit_table(
    source: TableData,
    settings: FitSettings,
    folder: Path | None,
    start: float,
    progress: Progress,
    replay: Sequence[Trial] = (),
    resume: bool = False,
    expected: str | None = None,
) -> FitResult:
    """Fit a table and write the model into a folder, early and again whenever it got better.

    Args:
        source: As `nasfast.tables.read_table` gives it.
        folder: For the model; it is made. None: it stays in memory.
        start: When the time of the budget began, on the clock of `time.monotonic`.
        replay: Trials of an earlier fit, to make the same model again.
        resume: Go on after the trials that lie in the folder, with what is left of the budget.
        expected: Checksum of the table that it has to be.

    Raises:
        DataError: The table or its target cannot be used.
        ConfigError: The settings do not go with it.
        RunError: The model cannot be written.
    """
    limits = settings.budget
    if (limits.seconds is None) == (limits.trials is None) or limits.cpu_hours or limits.gpu_hours:
        raise ConfigError("--budget of a fit must be a time or a number of trials")
    if settings.group is not None and settings.time is not None:
        raise ConfigError("--group and --time say both how rows are split: give one of them")
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    digest = table_digest(source.data)
    if expected is not None and digest != expected:
        raise DataError("the table is not the one of the earlier fit: its checksum is another")
    target, table = _rows_that_count(source.data, settings)
    schema = infer_schema(table, settings.target, settings.roles(), settings.types)
    problem, preparation = make_problem(table, target, schema, settings)
    metric = metric_for(problem.task, settings.metric)
    progress.say(
        f"task       {problem.task.kind}: {target.reason}; {len(problem.y)} rows, {len(preparation.names())} features"
    )

    work = Work(folder) if folder is not None else None
    if work is not None and not resume:
        files = [os.path.abspath(part.name) for part in source.parts if part.name]
        work.begin(files, settings.to_json(), digest, replay)
    before, spent = work.load(problem) if work is not None and resume else ([], 0.0)
    deadline = Deadline(start - spent, limits.seconds)

    def done(trial: Trial, candidate: Candidate | None) -> None:
        if work is not None:
            work.add(len(search.found.trials), trial, candidate, deadline.spent())

    background = background_of(problem.prepared, settings.seed)

    def write(found: Found) -> None:
        if folder is not None:
            save_model(make_model(found, schema, preparation, target.spec, background), folder)

    with progress.stage("fit", 1000, unit="permille") as stage:
        shown = 0

        def tell(trial: Trial, found: Found) -> None:
            nonlocal shown
            part = (
                deadline.spent() / deadline.seconds
                if deadline.seconds
                else len(found.trials) / (settings.budget.trials or 1)
            )
            stage.advance(max(min(int(1000 * part), 1000) - shown, 0), f"{trial.name}, {_best_so_far(found, metric)}")
            shown = max(shown, min(int(1000 * part), 1000))

        search = Search(problem, metric, preparation, deadline, limits.trials, tell, done, write, before=spent)
        search.restore(before)
        found = search.run(replay)
    estimate = _estimate(search, problem, metric, settings.seed)
    model = make_model(found, schema, preparation, target.spec, background)
    onnx = _export(model, folder, table, progress) if folder is not None else None
    diagnosis = diagnose(found, problem, model, metric, search.out_of_fold(), _diagnosis_seconds(deadline))
    about = describe(found, metric, estimate, problem, target.reason, deadline) | {"onnx_difference": onnx}
    about |= provenance(source, digest, problem, settings.roles())
    about |= {"diagnosis": diagnosis, "settings": settings.to_json()}
    model = replace(model, about=about)
    if folder is not None:
        save_model(model, folder, made=() if onnx is None else (ONNX_FILE,))
        write_card(model, folder)
    if work is not None:
        work.remove()
    return FitResult(model, found, metric, estimate, problem, folder, table)


def _export(model: FittedModel, folder: Path, table: pa.Table, progress: Progress) -> float | None:
    """Write ``model.onnx``; the largest difference of its predictions, None where it cannot be made here."""
    try:
        return export_onnx(model, folder / ONNX_FILE, table.slice(0, _CHECKED_ROWS))
    except RunError:
        raise
    except Exception as error:  # whatever goes wrong in there, the model itself is whole
        progress.say(f"no {ONNX_FILE}: {' '.join(str(error).split())}")
        return None


def make_problem(table: pa.Table, target: Target, schema: Schema, settings: FitSettings) -> tuple[Problem, Preparation]:
    """What members train on: rows of a table that have a target."""
    columns = convert(table, schema)
    preparation = Preparation.of(columns, schema)
    if not preparation.names():
        raise DataError(f"no column but {settings.target!r} can be used: `nasfast check` says why; see --types")
    task = task_of(target.spec)
    groups = _numbered(table, settings.group)
    time = _values(table, settings.time, "time") if settings.time is not None else None
    y = target.y.astype(np.float64)
    folds = make_folds(y, task, settings.seed, groups=groups, time=time)
    weight = _weights(table, settings.weight)
    prepared = preparation.apply(columns, table.num_rows)
    return Problem(task, prepared, y, weight, tuple(folds), settings.seed), preparation


def make_model(
    found: Found, schema: Schema, preparation: Preparation, target: TargetSpec, background: Prepared
) -> FittedModel:
    """The members that have a weight."""
    members = tuple((c.name, float(w), c.model) for c, w in zip(found.candidates, found.weights, strict=True) if w > 0)
    return FittedModel(schema, preparation, target, members, found.temperature, background=background)


def _diagnosis_seconds(deadline: Deadline) -> float | None:
    """What the diagnosis may take: a part of the time, of what is left of it."""
    if deadline.seconds is None:
        return None
    return max(min(_DIAGNOSIS * deadline.seconds, deadline.left() - _WRITING), 0.0)


def _estimate(search: Search, problem: Problem, metric: Metric, seed: int) -> Estimate:
    judged = problem.judged()
    y, p = problem.y[judged], search.out_of_fold()
    candidates = search.found.candidates
    weighed = [c for c in candidates if c.family != "constant"] or candidates
    predictions = [c.oof[judged] for c in weighed]
    return Estimate(
        metric.loss(y, p), standard_error(y, p, metric, seed), choice_optimism(predictions, y, metric, seed)
    )


def _best_so_far(found: Found, metric: Metric) -> str:
    return f"{metric.name} {metric.shown(found.loss):.4f}" if found.candidates else ""


def _rows_that_count(table: pa.Table, settings: FitSettings) -> tuple[Target, pa.Table]:
    """The target, and the rows that have one and weigh something."""
    target = read_target(table, settings.target, settings.task)
    table = table.take(pa.array(target.rows)) if target.dropped else table
    if settings.weight is None:
        return target, table
    counts = _weights(table, settings.weight) > 0
    rows = np.flatnonzero(counts)
    dropped = target.dropped + int((~counts).sum())
    return replace(target, y=target.y[rows], rows=target.rows[rows], dropped=dropped), table.take(pa.array(rows))


def _values(table: pa.Table, name: str, role: str) -> Any:
    """A column of numbers or dates, float64 [N]."""
    (column,) = infer_schema(table.select([name])).columns
    dates = role == "time" and column.kind == "date"
    values = convert_column(table, column if dates else Column(name, "number", ""))
    if not np.isfinite(values).all():
        raise DataError(f"--{role} {name!r} must hold numbers{' or dates' * (role == 'time')} in every row")
    return values


def _numbered(table: pa.Table, name: str | None) -> Any:
    if name is None:
        return None
    encoded = table.column(name).combine_chunks().dictionary_encode(null_encoding="encode")
    return np.asarray(encoded.indices).astype(np.int64)


def _weights(table: pa.Table, name: str | None) -> Any:
    if name is None:
        return np.ones(table.num_rows)
    require_column(table, name, "weight")
    values = _values(table, name, "weight")
    if (values < 0).any() or not values.sum() > 0:
        raise DataError(f"--weight {name!r} must hold numbers of at least 0, not all of them zero")
    return values / values.mean()
