"""The workers of a search: how many, with what, and what each costs."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import torch

from nasfast.config.budget import Meter, Spent
from nasfast.config.workers import WorkerOptions
from nasfast.errors import ConfigError
from nasfast.estimators.base import Estimator
from nasfast.runs.folder import RunFolder
from nasfast.search.workers import LocalPool, Pool, TrialRunner, TrialStore, WorkerSpec
from nasfast.spaces.base import Space
from nasfast.utils.progress import Progress

_LOGS = "workers"  # folder in the run's
_Settings = TypeVar("_Settings", bound=WorkerOptions)


def with_workers(config: _Settings) -> _Settings:
    """Settings with the threads and the number of workers that a Ray cluster has room for; others are as they are.

    A run keeps both: with other numbers of architectures out at a time a search takes other ways.
    """
    if not config.on_ray:
        return config
    config = replace(config, threads=config.threads or 1)
    if config.workers != "ray":
        return config
    from nasfast.search.workers.ray_pool import room_for

    return replace(config, workers=f"ray:{room_for(config.address, threads_of(config), config.worker_gpus)}")


def threads_of(config: WorkerOptions) -> int:
    """CPU threads of each worker: on a Ray cluster the search's, elsewhere those divided among them."""
    if config.on_ray:
        return config.threads
    return max(1, (config.threads or torch.get_num_threads()) // config.worker_count())


def on_worker(config: _Settings, index: int) -> _Settings:
    """The settings as a worker takes them: those of one machine take its GPUs in turn.

    Args:
        index: Of the worker.
    """
    if config.device != "cuda" or config.on_ray:
        return config
    return replace(config, device=f"cuda:{index % torch.cuda.device_count()}")


def check_picklable(space: Space | None, estimator: Estimator | None) -> None:
    """Raise ConfigError where a space or an estimator of one's own cannot be sent to a worker."""
    for what, value in (("a space", space), ("an estimator", estimator)):
        try:
            pickle.dumps(value)
        except Exception as error:  # pickle raises many types
            raise ConfigError(
                f"--workers needs {what} that can be pickled, got {type(value).__name__}: {error}"
            ) from error


@contextmanager
def open_runner(
    run: RunFolder,
    config: WorkerOptions,
    make: Callable[[Progress, int], Estimator],
    decode: Callable[[Sequence[int]], str],
) -> Iterator[TrialRunner]:
    """What runs the trials of a search; its workers end with the block.

    Args:
        make: As of :class:`nasfast.search.workers.WorkerSpec`.
        decode: The text of an architecture.
    """
    store = TrialStore(run.trials_path)
    try:
        with run.metrics.expected_rows():
            store.check_log(run.metrics.rows())
        runner = TrialRunner(_pool(run, config, WorkerSpec(make, threads_of(config))), store, decode)
    except BaseException:
        store.close()
        raise
    try:
        yield runner
    finally:
        runner.close()


def _pool(run: RunFolder, config: WorkerOptions, spec: WorkerSpec) -> Pool:
    if not config.on_ray:
        return LocalPool(spec, config.worker_count(), run.path / _LOGS, config.trial_timeout)
    from nasfast.search.workers.ray_pool import RayPool

    return RayPool(spec, config.worker_count(), config.address, config.worker_gpus, config.trial_timeout)


def trial_meter(config: WorkerOptions, runner: TrialRunner, before: Spent | None = None) -> Meter:
    """Counts what trials cost, over what was spent before."""
    return Meter(threads_of(config), _gpus_of(config), before, runner.worker_seconds)


def _gpus_of(config: WorkerOptions) -> float:
    """GPUs of each worker, or the share of one: processes of one machine share what ``device`` names."""
    if config.on_ray:
        return config.worker_gpus
    if not config.device.startswith("cuda"):
        return 0.0
    there = torch.cuda.device_count() if config.device == "cuda" else 1
    return min(1.0, there / config.worker_count())
