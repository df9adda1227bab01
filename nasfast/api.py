"""The public functions of nasfast: whatever the command line does, in one call each.

Settings are the command's options with underscores in place of dashes, and have the same defaults; errors name them so.
All functions raise subclasses of :class:`nasfast.errors.NasfastError`, whose message is one sentence.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from nasfast.compare.kind import COMPARISON
from nasfast.config.base import option_name
from nasfast.errors import ConfigError, NasfastError, RunError
from nasfast.search.kinds import SEARCHES, Kind, kind_of, load
from nasfast.search.routing import kind_for_own, route_settings
from nasfast.utils.progress import Progress
from nasfast.utils.suggest import must_be_one_of

if TYPE_CHECKING:
    from nasfast.automl.fit import FitResult
    from nasfast.compare.runner import CompareResult
    from nasfast.estimators.base import Estimator
    from nasfast.search.result import RunResult
    from nasfast.spaces.base import Space
    from nasfast.training.config import RetrainResult
    from nasfast.training.predict import Predictions

KINDS = (*SEARCHES, COMPARISON)
"""Every kind of run."""

PathLike = str | os.PathLike[str]
P = ParamSpec("P")
R = TypeVar("R")


def python_names(function: Callable[P, R]) -> Callable[P, R]:
    """Make the errors of a function name settings as arguments: ``--batch-size`` is ``batch_size`` to its caller.

    ``inspect.unwrap`` gives the function whose errors name the command's options.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except NasfastError as error:
            if error.args and isinstance(error.args[0], str):
                text = re.sub(r"--([a-z][a-z0-9-]*)", lambda option: option[1].replace("-", "_"), error.args[0])
                error.args = (text, *error.args[1:])
            raise

    return run


@python_names
def run_search(
    *,
    out: PathLike | None = None,
    config: PathLike | None = None,
    progress: Progress | None = None,
    space: str | Space = "",
    strategy: str | None = None,
    estimator: str | Estimator = "",
    **settings: Any,
) -> RunResult | None:
    """Search an architecture, of whichever kind the space, the strategy and the estimator ask for.

    Args:
        out: The run folder to make. Default: ``runs/DATA-STRATEGY``, with a number where that exists.
        config: A JSON or TOML file of settings, or the config.json of a run; arguments win over it.
        progress: Where to show progress; ``Progress()`` shows a bar. Default: nowhere, but the ``logging`` logger
            "nasfast" hears what is worth knowing.
        space: By name, or an object. Default: the cells of DARTS, searched by gradients.
        strategy: By name. Default: what is usual with the space and the estimator.
        estimator: By name, or an object.
        settings: ``data="digits"``, ``epochs=5``, ``budget="30m"`` and so on.

    Returns:
        What was found: a :class:`~nasfast.search.result.RunResult` of the kind of search, whose text is what the
        command prints. None under torchrun on ranks other than the first.

    Raises:
        ConfigError: A setting is unknown, of another type, out of range, or does not go with the others.
        DataError: The images or the table cannot be read.
        RunError: The folder exists already.
        KeyboardInterrupt: Ctrl-C; the state was saved, and :func:`resume_run` goes on.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if strategy is not None:
        given["strategy"] = strategy
    own: dict[str, Any] = {}
    if isinstance(estimator, str):
        given |= {"estimator": estimator} if estimator else {}
    else:
        own["estimator"] = estimator
        given |= {"estimator": "table", "table": getattr(estimator, "name", type(estimator).__name__)}
    if not isinstance(space, str):
        own["space"] = space
    elif space:
        given["space"] = space
    return start_run(*plan_run(given, config, own, progress), out, progress)


def plan_run(
    given: Mapping[str, Any], config: PathLike | None, own: Mapping[str, Any], progress: Progress | None = None
) -> tuple[Kind, Any, dict[str, Any]]:
    """The kind of a search, its settings, and the objects of the caller's that it takes.

    Args:
        progress: Where to say what is chosen that nobody has named.

    Raises:
        ConfigError: They make no sense together.
    """
    if "space" not in own:
        kind, values = route_settings(given, config, progress)
        return kind, kind.make_settings(values), _fitting(kind, own)
    space = own["space"]
    kind, values = kind_for_own(space, given, config, progress)
    settings = kind.make_settings(values)
    return kind, replace(settings, space=space.name, space_set=()), _fitting(kind, own)


def _fitting(kind: Kind, own: Mapping[str, Any]) -> dict[str, Any]:
    for name in own:
        if name not in kind.own:
            raise ConfigError(f"{name}: a search of the kind {kind.name} takes none of your own, got {own[name]!r}")
    return dict(own)


def start_run(
    kind: Kind, settings: Any, own: Mapping[str, Any], out: PathLike | None, progress: Progress | None
) -> Any:
    """Begin a run of any kind, and write its report when it is over."""
    target = Path(out) if out is not None else free_folder(settings.run_name())
    return _reported(load(kind.start)(settings, target, progress, **own))


def free_folder(name: str) -> Path:
    """``runs/NAME``, with a number where that exists."""
    return _free(Path("runs") / name)


def _free(base: Path) -> Path:
    number = 1
    folder = base
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder


def _reported(result: Any) -> Any:
    if result is not None and not (result.was_finished and result.report.is_file()):
        build_report(result.path)
    return result


@python_names
def resume_run(
    run: PathLike,
    *,
    progress: Progress | None = None,
    space: Space | None = None,
    estimator: Estimator | None = None,
    **changed: Any,
) -> RunResult | None:
    """Go on with a run that was stopped, of any kind; it ends with the bits of one that was never stopped.

    Args:
        run: The run folder.
        progress: As for :func:`run_search`.
        space, estimator: Of your own, where the run began with some: they have to be given again.
        changed: Settings in place of those it began with. Of a search by gradients, those of the retraining
            (``retrain_epochs`` ...) until it begins; of a black-box search its ``budget``, where what was spent counts.

    Returns:
        As :func:`run_search`; ``was_finished`` is True where nothing was left to do.

    Raises:
        RunError: No run is there, it is in use, or its checkpoint cannot be read.
        DataError: The images are no longer those that it began with.
    """
    from nasfast.runs.folder import RunFolder

    folder = RunFolder.open(run, lock=False)
    kind = kind_of(folder.read_config(), folder.config_path, KINDS)
    changed = {name: value for name, value in changed.items() if value is not None}
    extra = [option_name(name) for name in changed if name not in kind.later]
    if extra:
        can = f"; it can change {', '.join(map(option_name, kind.later))}" if kind.later else ""
        raise ConfigError(f"--resume takes its settings from {run}; leave out {', '.join(extra)}{can}")
    own = {name: value for name, value in (("space", space), ("estimator", estimator)) if value is not None}
    given = _fitting(kind, own) | ({"changed": changed} if changed else {})
    return _reported(load(kind.resume)(run, progress, **given))


@python_names
def retrain_run(
    run: PathLike,
    *,
    label: str | None = None,
    overwrite: bool = False,
    inherit: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> RetrainResult:
    """Train the network that a search has found; goes on where an earlier training of this label was stopped.

    Args:
        run: The run folder.
        label: Name of this training within the run. Default: "derived", or "best".
        overwrite: Start again where this label was trained already.
        inherit: Start from what the search has trained.
        progress: As for :func:`run_search`.
        settings: ``epochs``, ``batch_size``, ``lr``, ``cutout``, ``seed``, ``device``; of cells ``genotype`` (a file),
            ``channels``, ``layers``, ``drop_path``, ``auxiliary``; of a space ``arch`` (its text), ``space_set``.

    Returns:
        Accuracy on the test images (``test_acc``, 0 to 1), loss, parameters, seconds.

    Raises:
        ConfigError: A setting does not go with the run.
        RunError: The run has found nothing yet, or is in use.
    """
    from nasfast.retrain.from_run import retrain_stored

    result = retrain_stored(run, label, settings, progress or Progress(quiet=True), overwrite, inherit)
    build_report(run)
    return result


@python_names
def evaluate_model(
    run: PathLike,
    *,
    label: str | None = None,
    data: str = "",
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[float, float]:
    """Test a retrained network on the test images of its run.

    Args:
        label: Which retrained network of the run. Default: what it found.
        data: Test on the test images of these data instead: a folder, an archive or a table of labels, whose images are
            scaled to the size that the network was trained on, digits or cifar10.
        device: Where to compute, as torch names it.

    Returns:
        Accuracy (0 to 1) and mean cross-entropy.

    Raises:
        RunError: The run has no such network, or its images are no longer those that it has learned from.
        DataError: The images have other classes, channels or sizes than those that the network was trained on.
    """
    from nasfast.retrain.from_run import read_stored_search
    from nasfast.training.evaluate import evaluate
    from nasfast.training.model_file import load_model
    from nasfast.utils.device import check_device

    check_device(device)
    stored = read_stored_search(run)
    label = stored.label if label is None else label
    size = load_model(stored.folder, label).info.size if data else None
    images = stored.load_data(progress or Progress(quiet=True), data, size)
    return evaluate(stored.folder, images, label, device)


@python_names
def predict_images(
    run: PathLike,
    images: PathLike | Sequence[PathLike],
    *,
    label: str | None = None,
    device: str = "cpu",
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Predictions:
    """What a retrained network sees in images, which are scaled to the size that it was trained on.

    Args:
        images: An image file, a folder or an archive of them, a CSV file that names them, or several of these.
        label: Which retrained network of the run. Default: what it found.
        device: Where to compute, as torch names it.
        skip_bad: Leave out images that cannot be read; ``Predictions.skipped`` names them.
        progress: As for :func:`run_search`.

    Returns:
        ``files``, ``classes`` and ``probabilities`` float32 [N, classes]; ``to_csv(path)`` writes them.

    Raises:
        RunError: The run has no such network.
        DataError: An image cannot be read, or there is none.
    """
    from nasfast.data.image_file import left_out
    from nasfast.retrain.from_run import read_stored_search
    from nasfast.training.model_file import load_model
    from nasfast.training.predict import find_files, predict_files
    from nasfast.utils.device import check_device

    check_device(device)
    stored = read_stored_search(run)
    files = find_files([images] if isinstance(images, str | os.PathLike) else images)
    model = load_model(stored.folder, stored.label if label is None else label)
    progress = progress or Progress(quiet=True)
    found = predict_files(model, files, device=device, skip_bad=skip_bad, progress=progress)
    if found.skipped:
        progress.say(left_out(found.skipped))
    return found


@python_names
def fit_model(
    data: PathLike | Sequence[PathLike] | Any,
    *,
    target: str,
    budget: str = "5m",
    out: PathLike | None = None,
    task: str = "auto",
    metric: str | None = None,
    types: str | Mapping[str, str] = "",
    group: str | None = None,
    time: str | None = None,
    weight: str | None = None,
    seed: int = 0,
    threads: int | None = None,
    replay: PathLike | None = None,
    start: float | None = None,
    progress: Progress | None = None,
) -> FitResult:
    """Fit a model to a table within a budget: networks, boosted trees and a linear model, weighed out of fold.

    Args:
        data: A file (CSV, TSV, Parquet, Feather, JSON lines, ARFF), several of one table, or a table in memory (pandas,
            polars, pyarrow, NumPy, a dict of columns).
        target: The column to predict.
        budget: Of time ("30s", "10m"), from ``start`` to the written model, or of candidates ("20 trials").
        out: Folder to make. Default: ``models/NAME``, with a number where that exists.
        task: "auto", "binary", "multiclass" or "regression".
        metric: By name, see :data:`nasfast.automl.metrics.METRICS`. Default: that of the task.
        types: Kinds of columns where the guess is wrong: ``"zip=category"`` or a mapping.
        group: Column whose equal values are never on both sides of a split.
        time: Column; judged is what is later than what was trained on.
        weight: Column of how much a row counts.
        threads: CPU threads. Default: those of torch.
        replay: Model of an earlier fit: try what it tried on the same table, and make the same model. All settings but
            ``threads`` are those of that fit.
        start: When the time began, on the clock of ``time.monotonic``. Default: now.
        progress: As for :func:`run_search`.

    Returns:
        The model, the candidates and the estimate; its text is what the command prints.

    Raises:
        DataError: The table or its target cannot be used.
        ConfigError: A setting does not go with the table.
        RunError: The folder exists already, or cannot be written.
    """
    from nasfast.automl.fit import FitSettings, fit_table
    from nasfast.automl.folder import load_model
    from nasfast.automl.trials import Trial
    from nasfast.config.budget import Budget
    from nasfast.report.model import build_model_report
    from nasfast.tables import parse_types, read_table

    begun = monotonic() if start is None else start
    limits = Budget.parse(budget)
    kinds = parse_types([types] if types else []) if isinstance(types, str) else dict(types)
    settings = FitSettings(target, limits, task, metric, kinds, group, time, weight, seed=seed, threads=threads)
    folder = Path(out) if out is not None else free_model_folder(data)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} exists; choose another --out")
    tried: list[Trial] = []
    expected = None
    if replay is not None:
        earlier = load_model(replay).about
        if "trials" not in earlier:
            raise RunError(
                f"the fit of {replay} is not over, so it does not say what was tried: --resume goes on with it"
            )
        tried, expected = [Trial.from_json(trial) for trial in earlier["trials"]], earlier["data"]["blake2b"]
        settings = replace(FitSettings.from_json(earlier["settings"]), threads=threads)
        if target != settings.target:
            raise ConfigError(f"--replay of a fit of {settings.target!r} cannot have --target {target!r}")
    quiet = progress or Progress(quiet=True)
    result = fit_table(read_table(data), settings, folder, begun, quiet, tried, expected=expected)
    build_model_report(folder)
    return result


@python_names
def resume_fit(model: PathLike, *, start: float | None = None, progress: Progress | None = None) -> FitResult:
    """Go on with a fit that was stopped, with what is left of its budget; one of trials ends with the same bits.

    Args:
        model: Folder of :func:`fit_model`.
        start, progress: As there.

    Raises:
        RunError: No fit was stopped there, or what it has tried cannot be read.
        DataError: The table is no longer there, or another one.
    """
    from nasfast.automl.fit import FitSettings, fit_table
    from nasfast.automl.work import Work
    from nasfast.report.model import build_model_report
    from nasfast.tables import read_table

    begun = monotonic() if start is None else start
    earlier = Work(Path(model)).begun()
    result = fit_table(
        read_table(list(earlier.files)),
        FitSettings.from_json(earlier.settings),
        Path(model),
        begun,
        progress or Progress(quiet=True),
        earlier.replay,
        resume=True,
        expected=earlier.digest,
    )
    build_model_report(Path(model))
    return result


def free_model_folder(data: Any) -> Path:
    """``models/NAME`` of a file's name, with a number where that exists."""
    first = data if isinstance(data, str | os.PathLike) or not isinstance(data, Sequence) else data[0]
    name = Path(first).name.split(".")[0] if isinstance(first, str | os.PathLike) else "table"
    return _free(Path("models") / (name or "table"))


def is_model(folder: PathLike) -> bool:
    """Whether a folder holds a model of :func:`fit_model`."""
    from nasfast.automl.names import is_model

    return is_model(Path(folder))


@python_names
def predict_table(
    model: PathLike,
    data: PathLike | Sequence[PathLike],
    *,
    out: PathLike | None = None,
    explain: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write the predictions of every row of a table, in order, as CSV: ``prediction``, and ``p_CLASS`` per class.

    Args:
        model: Folder of :func:`fit_model`.
        data: A file, or several; they are read part by part, so that they may be larger than the memory.
        out: File to write. Default: standard output.
        explain: Add a column ``why``: the three columns of the row that add most to the prediction, or take most from
            it, with how much (sampled Shapley values).

    Returns:
        How many rows there were.

    Raises:
        RunError: The model cannot be read, or the file not be written.
        DataError: The table cannot be read, or has none of the columns of the model.
    """
    from nasfast.automl.folder import load_model
    from nasfast.automl.predict import write_predictions, write_stream
    from nasfast.tables import open_batches

    fitted = load_model(model)
    files = [data] if isinstance(data, str | os.PathLike) else data
    batches = itertools.chain.from_iterable(open_batches(file) for file in files)
    if out is None:
        return write_stream(fitted, batches, sys.stdout.buffer, explain)
    return write_predictions(fitted, batches, Path(out), explain)


@python_names
def export_model(
    run: PathLike, *, format: str = "onnx", out: PathLike | None = None, label: str | None = None, force: bool = False
) -> Path:
    """Export a retrained network, checked to give the same outputs before it is written.

    Args:
        format: "onnx", or "pt2" for ``torch.export.load``.
        out: File to write. Default: ``RUN/model-LABEL.FORMAT``.
        label: Which retrained network of the run. Default: what it found.
        force: Overwrite the file.

    Returns:
        The file.

    Raises:
        ExportError: A package is missing, the file exists, or the outputs differ by more than 1e-4.
        RunError: The run has no such network.
    """
    return export_checked(run, format=format, out=out, label=label, force=force)[0]


def export_checked(
    run: PathLike, *, format: str, out: PathLike | None, label: str | None, force: bool
) -> tuple[Path, float]:
    """As :func:`export_model`; also the largest relative difference of its outputs from PyTorch's."""
    from nasfast.export.formats import FORMATS
    from nasfast.retrain.from_run import read_stored_search

    if format not in FORMATS:
        raise ConfigError(f"--format {must_be_one_of(format, FORMATS)}")
    stored = read_stored_search(run)
    name = stored.label if label is None else label
    target = Path(out) if out is not None else Path(run) / f"model-{name}.{format}"
    return target, FORMATS[format](stored.folder, target, name, force=force)


@python_names
def run_compare(*, out: PathLike | None = None, progress: Progress | None = None, **settings: Any) -> CompareResult:
    """Compare estimators: how well each ranks architectures as the full training does, and what that costs.

    Args:
        out: Run folder to make. Default: ``runs/DATA-SPACE-compare``.
        progress: As for :func:`run_search`.
        settings: Those of ``nasfast compare``.

    Returns:
        Kendall's tau of each estimator with its interval, multiply-adds and seconds.

    Raises:
        NasfastError: Bad settings, data or folders. Nothing is written then.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    found: CompareResult = start_run(COMPARISON, COMPARISON.make_settings(given), {}, out, progress)
    return found


def build_report(run: PathLike) -> Path:
    """Write ``report.html`` into a run folder, as far as the run has come, or the folder of :func:`fit_model`.

    Returns:
        The file.

    Raises:
        RunError: There is no run folder, its config.json cannot be read, or the report cannot be written.
    """
    from nasfast.report.build import build_report

    return build_report(run)


@python_names
def make_estimator(name: str, space: Space, **settings: Any) -> Estimator:
    """The estimator of this name for a space, as a black-box search would make it.

    Args:
        name: table, zero-cost, train, extrapolate or inherit.
        space: Of the architectures.
        settings: Those of ``nasfast search --estimator NAME``; ``table=FILE``, ``data="digits"``, ``epochs=5`` ...
            ``out=FOLDER`` is where those that train keep their checkpoints.

    Raises:
        ConfigError: An unknown name or setting.
        DataError: The table or the images cannot be read.
    """
    from nasfast.search.blackbox.estimator import make_task

    out = settings.pop("out", None)
    if name in ("train", "extrapolate", "inherit") and out is None:
        raise ConfigError(f"out: {name} trains networks and needs a folder for their checkpoints, got none")
    kind = next(kind for kind in SEARCHES if kind.name == "blackbox")
    strategy = {"strategy": "morphism-evolution"} if name == "inherit" else {}
    config = kind.make_settings({"estimator": name, **strategy, **settings})
    config = replace(config, space=space.name, space_set=())
    return make_task(config, space, Path(out or "."), Progress(quiet=True)).estimator


__all__ = [
    "KINDS",
    "build_report",
    "evaluate_model",
    "export_model",
    "fit_model",
    "make_estimator",
    "predict_images",
    "predict_table",
    "resume_fit",
    "resume_run",
    "retrain_run",
    "run_compare",
    "run_search",
]
