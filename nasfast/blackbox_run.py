"""A black-box search in a run folder: its log, its checkpoints, its results; stopped and resumed at any step.

``run_blackbox`` starts it, ``resume_blackbox`` goes on with it; the trials, and the strategy with its random numbers,
are then those of a run that was never stopped, bit for bit.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nasfast.blackbox import BlackBoxSearch, Problem, Trial
from nasfast.blackbox_config import BlackBoxConfig
from nasfast.blackbox_estimator import make_task, table_task
from nasfast.environment import check_device, describe_environment, use_threads
from nasfast.errors import ConfigError, DataError, RunError, SpaceError
from nasfast.estimators.base import Estimator
from nasfast.interrupt import deferred_interrupt
from nasfast.latency import LatencyTable
from nasfast.progress import Progress
from nasfast.report import build_report
from nasfast.run import CheckpointError, RunFolder, atomic_write, load_checkpoint, save_checkpoint
from nasfast.search import absolute_path, pin_settings
from nasfast.spaces.base import Space
from nasfast.strategies.multifidelity import MultiFidelity
from nasfast.strategies.registry import make_strategy

_KIND = "blackbox"
FORMAT_NAME = "nasfast.architectures"
_LOG_SECONDS = 1.0
_CANDIDATES = "candidates"  # folder in the run's, for the checkpoints of what an estimator trains


@dataclass
class BlackBoxResult:
    """What a run has found.

    Attributes:
        path: The run folder.
        space: What was searched.
        best: The best trial that keeps the constraints.
        front: Trials that no other dominates, the best first objective first.
        evaluations: How many architectures were evaluated.
        was_finished: Nothing was left to do.
    """

    path: Path
    space: Space
    best: Trial
    front: list[Trial]
    evaluations: int
    report: Path
    was_finished: bool = False


def run_blackbox(
    config: BlackBoxConfig,
    out: str | os.PathLike[str],
    progress: Progress | None = None,
    space: Space | None = None,
    estimator: Estimator | None = None,
) -> BlackBoxResult:
    """Search a space in a new run folder.

    Args:
        config: What to do.
        out: The run folder, which must not exist (or be empty).
        progress: Where to show progress; nowhere by default.
        space, estimator: Of your own, in place of those that ``config`` names.

    Raises:
        NasfastError: Bad settings, tables or folders. Nothing is written then.
        KeyboardInterrupt: Ctrl-C; a checkpoint was written, :func:`resume_blackbox` goes on.
    """
    RunFolder.check_free(out)
    if space is not None:
        if config.space_set:
            raise ConfigError(f"--space-set belongs to a space by name, got one of your own, {space.name}")
        config = replace(config, space=space.name)
    use_threads(config.threads)
    config = replace(pin_settings(config), latency=absolute_path(config.latency, ("",)))
    if estimator is None:  # the table of a search with an estimator of its own is not looked at
        config = replace(config, table=absolute_path(config.table, ("",)))
    progress = progress or Progress(quiet=True)
    search, images = _make_search(config, space, estimator, Path(out) / _CANDIDATES, progress)
    content = {"blackbox": config.to_dict(), "environment": describe_environment()}
    with RunFolder.create(out, content) as run:
        _save(run, search, images)
        return _finish(run, config, search, images, progress)


def resume_blackbox(
    out: str | os.PathLike[str],
    progress: Progress | None = None,
    space: Space | None = None,
    estimator: Estimator | None = None,
) -> BlackBoxResult:
    """Go on with a run. A space or an estimator of your own has to be given again.

    Raises:
        RunError: No run is there, it is in use, or its checkpoint cannot be read.
        DataError: The images are no longer those the run began with.
    """
    with RunFolder.open(out) as run:
        stored = run.read_config().get("blackbox")
        if not isinstance(stored, dict):
            raise RunError(f"{run.config_path} holds no settings of a search of a space")
        config = BlackBoxConfig.of(stored)
        if space is not None and space.name != config.space:
            raise SpaceError(f"run {run.path} searches {config.space}, got the space {space.name}")
        use_threads(config.threads)
        progress = progress or Progress(quiet=True)
        search, images = _make_search(config, space, estimator, run.path / _CANDIDATES, progress)
        if run.checkpoint_path.exists() or run.metrics.position > 0:
            _load(run, search, images)
        else:  # killed before the first checkpoint, which is written before the first step
            _save(run, search, images)
        finished = search.done() and run.report_path.is_file() and run.architectures_path.is_file()
        if finished:
            return _result(run, search, run.report_path, True)
        return _finish(run, config, search, images, progress)


def _make_search(
    config: BlackBoxConfig, space: Space | None, estimator: Estimator | None, candidates: Path, progress: Progress
) -> tuple[BlackBoxSearch, list[int]]:
    """The search, and the fingerprint of the images that it looks at."""
    space = space or config.make_space()
    if estimator is None and config.sees_images:
        check_device(config.device)
    task = make_task(config, space, candidates, progress) if estimator is None else table_task(config, estimator)
    problem = Problem(
        space,
        task.estimator,
        config.objectives(),
        config.constraints(),
        config.budget,
        latency=LatencyTable(config.latency) if config.latency else None,
        num_classes=task.num_classes,
        image_size=task.image_size,
    )
    strategy = make_strategy(config.strategy, config.strategy_settings())
    if isinstance(strategy, MultiFidelity):
        strategy.rungs = _rungs(config, strategy, task.estimator)
    strategy.init(space, config.seed)
    return BlackBoxSearch(problem, strategy, config.evaluations, config.ask), list(task.fingerprint)


def _rungs(config: BlackBoxConfig, strategy: MultiFidelity, estimator: Estimator) -> tuple[int, ...]:
    """Budgets of a search at several fidelities, rising.

    Raises:
        ConfigError: There are fewer than two.
    """
    known = getattr(estimator, "budgets", None)
    if known is not None:
        rungs = [budget for budget in known if config.budget is None or budget <= config.budget]
        if len(rungs) < 2:
            raise ConfigError(
                f"--strategy {config.strategy} needs scores after several numbers of epochs; {estimator.name} has "
                f"{', '.join(map(str, rungs)) or 'none that are told apart'}"
            )
        return tuple(rungs)
    epochs, rungs = config.epochs, [config.epochs]
    while epochs // strategy.reduction >= config.min_epochs:
        epochs //= strategy.reduction
        rungs.append(epochs)
    if len(rungs) < 2:
        raise ConfigError(
            f"--strategy {config.strategy} needs several numbers of epochs; --epochs {config.epochs} leaves no smaller "
            f"one of --min-epochs {config.min_epochs} or more"
        )
    return tuple(reversed(rungs))


def _finish(
    run: RunFolder, config: BlackBoxConfig, search: BlackBoxSearch, images: list[int], progress: Progress
) -> BlackBoxResult:
    """Take the steps that are left and write what was found."""
    take_steps(run, search, progress, config.checkpoint_seconds, lambda: _save(run, search, images))
    write_found(run, search)
    return _result(run, search, build_report(run), False)


def take_steps(
    run: RunFolder, search: BlackBoxSearch, progress: Progress, every: float, save: Callable[[], None]
) -> None:
    """Take the steps of a search that are left, and log its trials.

    Args:
        every: Seconds between checkpoints.
        save: Writes one; the log is complete when it is called.

    Raises:
        KeyboardInterrupt: Ctrl-C; a checkpoint was written.
    """
    saved_at = written_at = time.monotonic()
    waiting: list[Trial] = []  # not in the log yet: a lookup takes less time than a safe write
    done = len(search.trials)
    with (
        progress.stage("search", search.evaluations, done=done, unit="evaluation") as stage,
        deferred_interrupt() as interrupted,
    ):
        while not search.done():
            new = search.step()
            waiting += new
            stop, now = interrupted(), time.monotonic()
            due = stop or search.done() or now - saved_at >= every
            if due or now - written_at >= _LOG_SECONDS:
                run.metrics.append(*(_row(search, trial) for trial in waiting))
                waiting, written_at = [], now
            if due:
                save()
                saved_at = now
            stage.advance(len(new), _note(search))
            if stop:
                raise KeyboardInterrupt
    if search.rejected:
        progress.say(f"{search.rejected} proposals broke a constraint and were not evaluated")


def _note(search: BlackBoxSearch) -> str | None:
    kept = [trial.score for trial in search.kept()]
    return f"best {max(kept):.2f}" if kept else None


def _row(search: BlackBoxSearch, trial: Trial) -> dict[str, Any]:
    arch = search.problem.space.decode(trial.row)
    return {"kind": "trial", "number": trial.number, "arch": arch, **_numbers(trial), "row": list(trial.row)}


def _numbers(trial: Trial) -> dict[str, Any]:
    return {"metrics": trial.metrics, "violation": trial.violation}


def write_found(run: RunFolder, search: BlackBoxSearch) -> None:
    """Write architectures.json: the best architecture and the front."""

    def entry(trial: Trial) -> dict[str, Any]:
        return {"arch": search.problem.space.decode(trial.row), "number": trial.number, **_numbers(trial)}

    content = {
        "format": FORMAT_NAME,
        "version": 1,
        "space": search.problem.space.name,
        "objectives": [str(objective) for objective in search.problem.objectives],
        "best": entry(search.best()),
        "front": [entry(trial) for trial in search.front()],
    }
    atomic_write(run.architectures_path, json.dumps(content, indent=2) + "\n")


def _result(run: RunFolder, search: BlackBoxSearch, report: Path, finished: bool) -> BlackBoxResult:
    space = search.problem.space
    return BlackBoxResult(run.path, space, search.best(), search.front(), len(search.trials), report, finished)


def _save(run: RunFolder, search: BlackBoxSearch, images: list[int]) -> None:
    state = json.dumps(search.state())
    content = {"search": state, "metrics_position": run.metrics.position, "data": images}
    save_checkpoint(run.checkpoint_path, _KIND, content)


def _load(run: RunFolder, search: BlackBoxSearch, images: list[int]) -> None:
    """Go on from the checkpoint; trials that were logged after it go."""
    content = load_checkpoint(run.checkpoint_path, _KIND)
    if content.get("data", images) != images:
        raise DataError(f"run {run.path}: the images are not those that it began with")
    try:
        run.metrics.truncate(content["metrics_position"])
        search.load_state(json.loads(content["search"]), logged_trials(run))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{run.checkpoint_path} does not fit the run's config.json and log") from error


def logged_trials(run: RunFolder) -> list[Trial]:
    """The trials in a run's log."""
    rows = [row for row in run.metrics.rows() if row.get("kind") == "trial"]
    return [Trial(row["number"], tuple(row["row"]), row["metrics"], row["violation"]) for row in rows]
