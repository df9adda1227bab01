"""The search among the children of a trained shared network: in this process, or in slices on workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np

from nasfast.config.budget import Meter
from nasfast.config.oneshot import OneShotConfig
from nasfast.data import DataSet
from nasfast.errors import ConfigError
from nasfast.estimators.latency import LatencyTable
from nasfast.estimators.oneshot import OneShotEstimator
from nasfast.runs.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from nasfast.runs.folder import RunFolder, search_path
from nasfast.search.blackbox.found import logged_trials, write_found
from nasfast.search.blackbox.parallel import TrialSearch
from nasfast.search.blackbox.problem import Problem
from nasfast.search.blackbox.search import BlackBoxSearch
from nasfast.search.blackbox.session import Session, take_steps
from nasfast.search.inputs import load_run_data
from nasfast.search.oneshot.training import SupernetTraining
from nasfast.search.pretrained import TRAINING_KIND
from nasfast.search.workers.open import on_worker, open_runner, trial_meter
from nasfast.spaces.base import Space
from nasfast.strategies.base import Strategy
from nasfast.strategies.oneshot.enas import ControllerSamples
from nasfast.strategies.oneshot.path_samplers import ControllerPaths
from nasfast.training.distributed import Ranks
from nasfast.utils.progress import Progress

SEARCH_KIND = "oneshot-search"
"""Of the checkpoints of the search."""
_SEED_SEARCH = 11


def load_images(config: OneShotConfig, space: Space, progress: Progress) -> DataSet:
    """The data set of a run with these settings, whose images the space must take."""
    dataset = load_run_data(config, progress)
    height, width = dataset.size
    if height != width:
        raise ConfigError(f"images of {width}x{height} pixels are not square, as the spaces' costs need them")
    # Raises where an operation does not take images of this size.
    space.cost(np.zeros(len(space.sizes), np.int64), dataset.num_classes, dataset.channels, height)
    return dataset


def make_estimator(training: SupernetTraining) -> OneShotEstimator:
    """Scores children on the held-out images, BatchNorms calibrated on train images without augmentation."""
    config = training.config
    images, labels = training.images(training.held_out)
    calibration = None
    if config.calibration:
        calibration, _ = training.images(training.train_indices[: config.calibration])
    return OneShotEstimator(training.network, images, labels, calibration, memory_bound=config.memory << 20)


def worker_children(out: str, space: Space | None, progress: Progress, index: int) -> OneShotEstimator:
    """What a worker scores children with: the network as the run's last checkpoint has it.

    Args:
        out: The run folder.
        space: Of your own, in place of the one that the run's settings name.
        progress, index: As of :class:`nasfast.search.workers.WorkerSpec`.
    """
    config = on_worker(OneShotConfig.of(RunFolder.open(out, lock=False).read_config()["oneshot"]), index)
    space = space or config.make_space()
    training = SupernetTraining(config, space, load_images(config, space, Progress(quiet=True)), Ranks())
    training.load_state(load_checkpoint(RunFolder(out).checkpoint_path, TRAINING_KIND))
    return make_estimator(training)


def _make_problem(training: SupernetTraining, estimator: OneShotEstimator) -> tuple[Problem, Strategy]:
    config, dataset = training.config, training.dataset
    problem = Problem(
        training.space,
        estimator,
        config.objectives(),
        config.constraints(),
        latency=LatencyTable(config.latency) if config.latency else None,
        num_classes=dataset.num_classes,
        image_size=dataset.size[0],
    )
    strategy: Strategy
    if isinstance(training.sampler, ControllerPaths):
        strategy = ControllerSamples(training.sampler.controller)
    else:
        strategy = config.search_strategy()
    return problem, strategy.init(training.space, config.seed + _SEED_SEARCH)


@contextmanager
def open_children(
    run: RunFolder, training: SupernetTraining, own: Space | None, meter: Meter
) -> Iterator[tuple[Session, OneShotEstimator]]:
    """The search among the children, at its start; workers it has end with the block.

    A worker gets a slice of the population, whose children share what they have in common.
    """
    config, estimator = training.config, make_estimator(training)
    problem, strategy = _make_problem(training, estimator)
    if not config.workers:
        search = BlackBoxSearch(problem, strategy, config.most_evaluations, config.ask)
        yield Session(search, config.limits(), meter), estimator
        return
    make = partial(worker_children, str(run.path.resolve()), own)
    with open_runner(run, config, make, training.space.decode) as runner:
        size = runner.pool.size
        out = max(config.ask, size)
        shared = TrialSearch(problem, strategy, config.most_evaluations, out, runner, -(-out // size))
        busy = trial_meter(config, runner, meter.spent(0))
        yield Session(shared, config.limits(), busy, runner.running), estimator


def search_children(
    run: RunFolder, training: SupernetTraining, session: Session, estimator: OneShotEstimator, progress: Progress
) -> bool:
    """Take the steps of the search that are left, and write what was found; returns whether nothing was left."""
    path = search_path(run)

    def save() -> None:
        state = {
            "search": json.dumps(session.search.state()),
            "metrics_position": run.metrics.position,
            "spent": session.to_state(),
        }
        save_checkpoint(path, SEARCH_KIND, state)

    if path.exists():
        _load_search(run, session)
    else:
        run.metrics.append({"kind": "estimator", "name": estimator.name, "way": estimator.way})
        save()
    was_finished = session.over() and run.architectures_path.is_file()
    if not session.over():
        progress.say(f"children are computed {estimator.way}")
        take_steps(run, session, progress, training.config.checkpoint_seconds, save)
    if not run.architectures_path.is_file():
        write_found(run, session.search)
    return was_finished


def _load_search(run: RunFolder, session: Session) -> None:
    """Go on from the search's checkpoint; trials that were logged after it go."""
    path = search_path(run)
    content = load_checkpoint(path, SEARCH_KIND)
    try:
        state = json.loads(content["search"])
        if not run.architectures_path.is_file():  # later, a retraining may have logged more
            run.metrics.truncate(content["metrics_position"])
        session.search.load_state(state, logged_trials(run))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit the run's config.json and log") from error
