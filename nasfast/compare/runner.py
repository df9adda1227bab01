"""Estimators set beside the full training: how well each ranks architectures, and what that costs.

A comparison is a run folder. Architectures are drawn, the full training is the reference, and every other estimator
scores the same architectures. Each estimate is a row of the log: a run that was stopped goes on after the last one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nasfast.compare.methods import REFERENCE, Method, Methods
from nasfast.compare.rank_correlation import Comparison, compare
from nasfast.config.compare import CompareConfig
from nasfast.data import DataSet
from nasfast.data.fingerprint import data_fingerprint
from nasfast.errors import DataError, RunError
from nasfast.estimators.base import Estimate
from nasfast.estimators.table import TableEstimator
from nasfast.predictors import Encoder, make_predictor
from nasfast.runs.environment import describe_environment
from nasfast.runs.folder import RunFolder
from nasfast.search.inputs import absolute_path, check_space_size, load_run_data, pin_settings
from nasfast.search.result import RunResult
from nasfast.spaces.base import Rows, Space
from nasfast.utils.device import check_device, check_threads, use_threads
from nasfast.utils.files import atomic_write
from nasfast.utils.progress import Progress
from nasfast.utils.sealed import sealed

_SEED_ROWS = 31
_TRIES = 1000
Found = dict[str, dict[int, dict[str, Any]]]
"""Logged estimates by method and by architecture."""


@dataclass(kw_only=True)
class CompareResult(RunResult):
    """What a comparison has found.

    Attributes:
        comparisons: By estimator, in the order in which they ran.
        omitted: Estimators that do not go with the space or the images, and why.
    """

    comparisons: list[Comparison]
    omitted: dict[str, str]

    def lines(self) -> list[str]:
        found = [f"{'estimator':<48} {'tau':>6} {'95 %':>14} {'FLOPs':>9} {'seconds':>8}"]
        for row in self.comparisons:
            tau, low, high = ("-" if value is None else f"{value:.2f}" for value in (row.tau, row.low, row.high))
            interval = f"{low} ... {high}"
            found.append(f"{row.name:<48} {tau:>6} {interval:>14} {row.flops:>9.2g} {row.seconds:>8.2f}")
        return found + [f"{name}: left out, {reason}" for name, reason in self.omitted.items()]


def run_compare(config: CompareConfig, out: str | os.PathLike[str], progress: Progress | None = None) -> CompareResult:
    """Compare estimators in a new run folder.

    Raises:
        NasfastError: Bad settings, data or folders. Nothing is written then.
        KeyboardInterrupt: Ctrl-C; :func:`resume_compare` goes on.
    """
    RunFolder.check_free(out)
    check_threads(config.threads)
    use_threads(config.threads)
    config = replace(pin_settings(config), table=absolute_path(config.table, ("",)))
    progress = progress or Progress(quiet=True)
    task = _open(config, progress)
    images = data_fingerprint(task.dataset)
    content = {"compare": config.to_dict(), "images": images, "environment": describe_environment()}
    with RunFolder.create(out, content) as run:
        return _finish(run, task, progress)


def resume_compare(out: str | os.PathLike[str], progress: Progress | None = None) -> CompareResult:
    """Go on with a comparison.

    Raises:
        RunError: No comparison is there, or it is in use.
        DataError: The images are no longer those that it began with, or its table cannot be read.
    """
    with RunFolder.open(out) as run:
        stored = run.read_config()
        if not isinstance(stored.get("compare"), dict):
            raise RunError(f"{run.config_path} holds no settings of a comparison")
        config = CompareConfig.of(stored["compare"])
        use_threads(config.threads)
        progress = progress or Progress(quiet=True)
        task = _open(config, progress)
        if data_fingerprint(task.dataset) != stored.get("images"):
            raise DataError(f"the images of {config.data} are no longer those that {run.path} began with")
        return _finish(run, task, progress)


@dataclass(frozen=True)
class _Task:
    """What is compared.

    Attributes:
        rows: Architectures, int64 [K, D].
        parent: One more, int64 [D]; the morphisms start from it.
        table: Has a score of each; None without one.
    """

    config: CompareConfig
    space: Space
    dataset: DataSet
    rows: Rows
    parent: Rows
    table: TableEstimator | None


def _open(config: CompareConfig, progress: Progress) -> _Task:
    check_device(config.device)
    space = config.make_space()
    drawn = draw_rows(space, config.architectures + 1, config.seed)
    table = _open_table(config, space, drawn[:-1]) if config.table else None
    dataset = load_run_data(config, progress)
    check_space_size(space, dataset)
    return _Task(config, space, dataset, drawn[:-1], drawn[-1], table)


def _open_table(config: CompareConfig, space: Space, rows: Rows) -> TableEstimator:
    """The table, which is looked up last but must not fail after hours of training."""
    table = TableEstimator(config.table, space, config.table_data)
    try:
        table.estimate(rows)
    except DataError as error:
        raise DataError(f"--table must have every architecture that is compared: {error}") from None
    return table


def draw_rows(space: Space, count: int, seed: int) -> Rows:
    """Architectures that are different functions: int64 [count, D].

    Raises:
        DataError: The space has not so many.
    """
    generator = np.random.default_rng(seed + _SEED_ROWS)
    found: dict[str, Rows] = {}
    for _ in range(_TRIES * count):
        row = space.sample(generator, 1)[0]
        found.setdefault(space.canonical(row), row)
        if len(found) == count:
            return np.stack(list(found.values()))
    raise DataError(f"{space.name}: found {len(found)} different architectures, expected {count}")


def _finish(run: RunFolder, task: _Task, progress: Progress) -> CompareResult:
    """Whatever is left to do."""
    config, space, rows = task.config, task.space, task.rows
    methods = Methods(config, space, task.dataset, run.candidates_path, rows, task.parent, progress, task.table)
    found = read_estimates(run)
    for method in methods.all():
        _run(run, method, rows, found, progress)
    predicted = _predict(space, rows, found[REFERENCE])
    comparisons = [
        compare(name, next(iter(rows_of.values()))["family"], rows_of, found[REFERENCE], config.seed)
        for name, rows_of in (found | predicted).items()
    ]
    content = {
        "space": space.name,
        "architectures": [space.decode(row) for row in rows],
        "estimators": [comparison.to_dict() for comparison in comparisons],
        "omitted": methods.omitted,
    }
    atomic_write(run.path / "comparison.json", json.dumps(sealed(content), indent=1) + "\n")
    return CompareResult(path=run.path, comparisons=comparisons, omitted=methods.omitted)


def read_estimates(run: RunFolder) -> Found:
    """The estimates in a run's log."""
    found: Found = {}
    with run.metrics.expected_rows():
        for row in run.metrics.rows():
            if row.get("kind") == "estimate":
                found.setdefault(row["method"], {})[row["number"]] = row
    return found


def _run(run: RunFolder, method: Method, rows: Rows, found: Found, progress: Progress) -> None:
    """The estimates of one method that are not in the log."""
    known = found.setdefault(method.name, {})
    left = [number for number in range(len(rows)) if number not in known]
    if not left:
        return
    estimator = method.make()
    flops, seconds = method.shared()
    with progress.stage(method.name, len(rows), done=len(known), unit="architecture") as stage:
        for number in left:
            started = time.perf_counter()
            estimate = estimator.estimate(rows[number][None])[0]
            own = time.perf_counter() - started
            row = _row(method, number, estimate, flops / len(rows), own + seconds / len(rows))
            run.metrics.append(row)
            known[number] = row
            stage.advance()


def _row(method: Method, number: int, estimate: Estimate, shared_flops: float, seconds: float) -> dict[str, Any]:
    return {
        "kind": "estimate", "method": method.name, "family": method.family, "number": number,
        "score": float(estimate.score), "uncertainty": estimate.uncertainty,
        "cost": (estimate.cost or 0.0) + shared_flops, "seconds": seconds,
    }  # fmt: skip


def _predict(space: Space, rows: Rows, reference: Mapping[int, dict[str, Any]]) -> Found:
    """Predictors that learn the reference of the first half of the architectures, and predict the second.

    They cost the trainings that they learn from.
    """
    half = len(rows) // 2
    scores = np.array([reference[number]["score"] for number in range(half)])
    encoder = Encoder(space)
    known, others = encoder.learn(rows[:half]), encoder.encode(rows[half:])
    share = 1 / (len(rows) - half)
    flops, trained = (share * sum(reference[n][key] for n in range(half)) for key in ("cost", "seconds"))
    found: Found = {}
    for name, title in (("ensemble", "ensemble of networks"), ("gp", "Gaussian process")):
        started = time.perf_counter()
        predictor = make_predictor(name, 0)  # type: ignore[arg-type]
        predictor.fit(known, scores)
        means, deviations = predictor.predict(others)
        seconds = trained + share * (time.perf_counter() - started)
        method = f"predictor, {title}, of {half} trainings"
        found[method] = {
            half + i: {"family": "predictor", "score": float(mean), "uncertainty": float(deviation), "cost": flops,
                       "seconds": seconds}
            for i, (mean, deviation) in enumerate(zip(means, deviations, strict=True))
        }  # fmt: skip
    return found
