"""Trials of a search on workers: processes of this machine, or a Ray cluster."""

from nasfast.trials.jobs import Asked, Beat, Job, Outcome, Pool, PoolError, Running
from nasfast.trials.local_pool import LocalPool
from nasfast.trials.runner import Failed, TrialRunner
from nasfast.trials.store import Record, TrialStore
from nasfast.trials.worker import WorkerSpec

__all__ = [
    "Asked",
    "Beat",
    "Failed",
    "Job",
    "LocalPool",
    "Outcome",
    "Pool",
    "PoolError",
    "Record",
    "Running",
    "TrialRunner",
    "TrialStore",
    "WorkerSpec",
]
