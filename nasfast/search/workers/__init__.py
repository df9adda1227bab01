"""Trials of a search on workers: processes of this machine, or a Ray cluster."""

from nasfast.search.workers.jobs import Heartbeat, Job, Outcome, Pool, PoolError, Running, TrialKey
from nasfast.search.workers.local_pool import LocalPool
from nasfast.search.workers.runner import Failed, TrialRunner
from nasfast.search.workers.store import Record, TrialStore
from nasfast.search.workers.worker import WorkerSpec

__all__ = [
    "Failed",
    "Heartbeat",
    "Job",
    "LocalPool",
    "Outcome",
    "Pool",
    "PoolError",
    "Record",
    "Running",
    "TrialKey",
    "TrialRunner",
    "TrialStore",
    "WorkerSpec",
]
