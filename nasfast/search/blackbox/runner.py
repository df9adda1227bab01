"""A black-box search in a run folder: its log, its checkpoints, its results; stopped and resumed at any step.

``run_blackbox`` starts it, ``resume_blackbox`` goes on with it; the trials, and the strategy with its random numbers,
are then those of a run that was never stopped, bit for bit.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nasfast.config.blackbox import BlackBoxConfig
from nasfast.config.budget import Meter
from nasfast.errors import ConfigError, DataError, RunError, SpaceError
from nasfast.estimators.base import Estimator, StatefulEstimator
from nasfast.estimators.latency import LatencyTable
from nasfast.runs.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from nasfast.runs.environment import describe_environment
from nasfast.runs.folder import RunFolder
from nasfast.search.blackbox.estimator import make_task, table_task, worker_estimator
from nasfast.search.blackbox.found import logged_trials, write_found
from nasfast.search.blackbox.parallel import TrialSearch
from nasfast.search.blackbox.problem import Problem
from nasfast.search.blackbox.search import BlackBoxSearch
from nasfast.search.blackbox.session import Session, take_steps
from nasfast.search.inputs import absolute_path, keep_data_record, pin_settings
from nasfast.search.result import FoundInSpace
from nasfast.search.workers.open import check_picklable, open_runner, trial_meter, with_workers
from nasfast.spaces.base import Space
from nasfast.spaces.joint import JointSpace
from nasfast.strategies.base import Strategy
from nasfast.strategies.blackbox.multi_fidelity import ASHA, MultiFidelity, SuccessiveHalving
from nasfast.strategies.registry import make_strategy
from nasfast.utils.device import check_device, check_threads, use_threads
from nasfast.utils.progress import Progress

_KIND = "blackbox"
_OUT = 2  # architectures out per worker: one that takes long holds up the next ones, not the other workers


@dataclass(kw_only=True)
class BlackBoxResult(FoundInSpace):
    """What a black-box search has found."""


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
        if isinstance(space, JointSpace) and estimator is None and not config.tune:
            config = replace(config, tune=space.options())
    config = with_workers(config)
    if not config.on_ray:  # on a cluster they are those of its machines
        check_threads(config.threads)
    use_threads(config.threads)
    config = replace(
        pin_settings(config),
        latency=absolute_path(config.latency, ("",)),
        supernet=absolute_path(config.supernet, ("",)),
    )
    if estimator is None:  # the table of a search with an estimator of its own is not looked at
        config = replace(config, table=absolute_path(config.table, ("",)))
    progress = progress or Progress(quiet=True)
    plan = _plan(config, space, estimator, RunFolder(out).candidates_path, progress)
    content = {"blackbox": plan.config.to_dict(), "environment": describe_environment()}
    with _new_folder(out, content) as run, open_search(run, plan) as session:
        _save(run, session, plan)
        keep_data_record(run, plan.images)
        return _finish(run, plan, session, progress)


@contextmanager
def _new_folder(out: str | os.PathLike[str], content: dict[str, Any]) -> Iterator[RunFolder]:
    """A run folder, which goes again where settings turn out to be bad before anything was found."""
    run = RunFolder.create(out, content)
    try:
        with run:
            yield run
    except (ConfigError, DataError, SpaceError):
        if not run.metrics.position and not run.candidates_path.exists():
            shutil.rmtree(run.path)
        raise


def resume_blackbox(
    out: str | os.PathLike[str],
    progress: Progress | None = None,
    space: Space | None = None,
    estimator: Estimator | None = None,
    changed: Mapping[str, Any] | None = None,
) -> BlackBoxResult:
    """Go on with a run. A space or an estimator of your own has to be given again.

    Args:
        changed: Another ``budget`` in place of that which the run began with; what was spent counts.

    Raises:
        RunError: No run is there, it is in use, or its checkpoint cannot be read.
        DataError: The images are no longer those the run began with.
    """
    with RunFolder.open(out) as run:
        stored = run.read_config().get("blackbox")
        if not isinstance(stored, dict):
            raise RunError(f"{run.config_path} holds no settings of a search of a space")
        config = replace(BlackBoxConfig.of(stored), **(changed or {}))
        if space is not None and space.name != config.space:
            raise SpaceError(f"run {run.path} searches {config.space}, got the space {space.name}")
        use_threads(config.threads)
        progress = progress or Progress(quiet=True)
        plan = _plan(config, space, estimator, run.candidates_path, progress)
        if changed:
            run.write_config(run.read_config() | {"blackbox": config.to_dict()})
        with open_search(run, plan) as session:
            if run.checkpoint_path.exists() or run.metrics.position > 0:
                _load(run, session, plan)
                session.mirror()
            else:  # killed before the first checkpoint, which is written before the first step
                _save(run, session, plan)
            keep_data_record(run, plan.images)
            finished = session.over() and run.architectures_path.is_file()
            if finished:
                return _result(run, session.search, True)
            return _finish(run, plan, session, progress)


@dataclass(frozen=True)
class Plan:
    """A search before it has a run folder.

    Attributes:
        config: Its settings, with what is decided once for a run.
        own: A space and an estimator that are not made from the settings.
        images: Fingerprint of the images that it looks at.
        supernet: Checksum of the shared network that architectures start from; None without.
    """

    config: BlackBoxConfig
    problem: Problem
    strategy: Strategy
    own: tuple[Space | None, Estimator | None]
    images: list[int]
    supernet: int | None = None


def _plan(
    config: BlackBoxConfig, space: Space | None, estimator: Estimator | None, candidates: Path, progress: Progress
) -> Plan:
    own = (space, estimator)
    if config.workers:
        check_picklable(*own)
    space = config.make_space() if space is None else config.tuned(space)
    if estimator is None and config.sees_images:
        check_device(config.device)
    strategy = make_strategy(config.strategy, config.strategy_settings())
    task = make_task(config, space, candidates, progress) if estimator is None else table_task(config, estimator)
    if config.workers and isinstance(task.estimator, StatefulEstimator) and task.estimator.remember:
        raise ConfigError(f"{task.estimator.name} answers from what it has estimated, which --workers do not share")
    problem = Problem(
        space,
        task.estimator,
        config.objectives(),
        config.constraints(),
        config.epochs_seen,
        latency=LatencyTable(config.latency) if config.latency else None,
        num_classes=task.num_classes,
        image_size=task.image_size,
    )
    if isinstance(strategy, MultiFidelity):
        strategy.rungs = _rungs(config, task.estimator)
    strategy.init(space, config.seed)
    return Plan(config, problem, strategy, own, list(task.fingerprint), task.supernet)


@contextmanager
def open_search(run: RunFolder, plan: Plan) -> Iterator[Session]:
    """The search of a plan, at its start; workers it has end with the block."""
    config, own = plan.config, plan.own
    if not config.workers:
        search = BlackBoxSearch(plan.problem, plan.strategy, config.most_evaluations, config.ask)
        gpus = float(config.device.startswith("cuda"))
        meter = Meter(config.threads, gpus)
        yield Session(search, config.limits(), meter, charted=config.sees_images, mirror=_mirror(run, plan.strategy))
        return
    make = partial(worker_estimator, config.to_dict(), *own, str(run.candidates_path.resolve()), plan.supernet)
    with open_runner(run, config, make, plan.problem.space.decode) as runner:
        out = max(config.ask, _OUT * runner.pool.size)
        search = TrialSearch(plan.problem, plan.strategy, config.most_evaluations, out, runner)
        mirror = _mirror(run, plan.strategy)
        yield Session(search, config.limits(), trial_meter(config, runner), runner.running, mirror=mirror)


def _mirror(run: RunFolder, strategy: Strategy) -> Callable[[], None]:
    """What brings the file of Optuna's study up to date, where the strategy is Optuna's."""
    if not isinstance(strategy, ASHA):
        return lambda: None
    from nasfast.search.blackbox.optuna_study import StudyFile

    return StudyFile(run.study_path, strategy).write


def _rungs(config: BlackBoxConfig, estimator: Estimator) -> tuple[int, ...]:
    """Epochs of each rung of a search at several fidelities, rising.

    Raises:
        ConfigError: There are fewer than two.
    """
    known = getattr(estimator, "fidelities", None)
    if known is not None:
        rungs = [epochs for epochs in known if config.epochs_seen is None or epochs <= config.epochs_seen]
        if len(rungs) < 2:
            raise ConfigError(
                f"--strategy {config.strategy} needs scores after several numbers of epochs; {estimator.name} has "
                f"{', '.join(map(str, rungs)) or 'none that are told apart'}"
            )
        return tuple(rungs)
    return config.rungs()


def _finish(run: RunFolder, plan: Plan, session: Session, progress: Progress) -> BlackBoxResult:
    """Take the steps that are left and write what was found."""
    take_steps(run, session, progress, plan.config.checkpoint_seconds, lambda: _save(run, session, plan))
    write_found(run, session.search)
    _say_of_rungs(session.search, progress)
    return _result(run, session.search, False)


def _say_of_rungs(search: BlackBoxSearch, progress: Progress) -> None:
    """Say where no architecture came to the longest training."""
    strategy, top = search.strategy, search.history.top
    if isinstance(strategy, MultiFidelity) and top is not None and strategy.rungs[-1] not in (None, top.fidelity):
        smaller = ", or a smaller --set first=" if isinstance(strategy, SuccessiveHalving) else ""
        progress.say(
            f"no architecture came to {strategy.rungs[-1]} epochs, the best one is of {top.name}: "
            f"the search needs more evaluations{smaller}"
        )


def _result(run: RunFolder, search: BlackBoxSearch, finished: bool) -> BlackBoxResult:
    return BlackBoxResult(
        path=run.path,
        space=search.problem.space,
        best=search.best(),
        front=search.front(),
        evaluations=len(search.trials),
        failed=len(search.failed),
        was_finished=finished,
    )


def _save(run: RunFolder, session: Session, plan: Plan) -> None:
    content = {
        "search": json.dumps(session.search.state()),
        "metrics_position": run.metrics.position,
        "data": plan.images,
        "supernet": plan.supernet,
        "spent": session.to_state(),
    }
    save_checkpoint(run.checkpoint_path, _KIND, content)
    session.mirror()


def _load(run: RunFolder, session: Session, plan: Plan) -> None:
    """Go on from the checkpoint; trials that were logged after it go."""
    content = load_checkpoint(run.checkpoint_path, _KIND)
    if content.get("data", plan.images) != plan.images:
        raise DataError(f"run {run.path}: the images are not those that it began with")
    if content.get("supernet") != plan.supernet:
        raise RunError(f"run {run.path}: the shared network of {plan.config.supernet} is not that which it began with")
    try:
        run.metrics.truncate(content["metrics_position"])
        session.search.load_state(json.loads(content["search"]), logged_trials(run))
        session.load_state(content["spent"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{run.checkpoint_path} does not fit the run's config.json and log") from error
