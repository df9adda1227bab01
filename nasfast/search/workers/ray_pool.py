"""Workers that are actors of a Ray cluster: on this machine, or on many."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nasfast.search.workers.jobs import Heartbeat, Job, Outcome, PoolError, Running, State
from nasfast.search.workers.worker import Beating, WorkerSpec, answer, error_text
from nasfast.utils.device import use_threads

_START_SECONDS = 300.0
_CONNECT_SECONDS = 10.0
_BEAT_SECONDS = 1.0
_LOOK_SECONDS = 0.5  # between looks at who hangs


def connect(address: str) -> Any:
    """The module ``ray``, connected to a cluster; "" for one on this machine, which ends with this process.

    Raises:
        PoolError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise PoolError("--workers ray needs Ray: pip install ray") from error
    if ray.is_initialized():
        return ray
    _check_reachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # tell nobody on the user's behalf
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise PoolError(f"there is no Ray cluster at {address or 'this machine'}: {error}") from error
    return ray


def _check_reachable(address: str) -> None:
    """Raise PoolError where nobody listens at HOST:PORT, which Ray itself finds out after minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except OSError as error:
        raise PoolError(f"there is no Ray cluster at {address}: {error}") from error


def room_for(address: str, threads: int, gpus: float) -> int:
    """Workers that a cluster has room for.

    Args:
        threads, gpus: Of each worker.

    Raises:
        PoolError: There is room for none.
    """
    resources = connect(address).cluster_resources()
    rooms = [int(resources.get("CPU", 0) // threads)] + ([int(resources.get("GPU", 0) / gpus)] if gpus else [])
    if min(rooms) < 1:
        raise PoolError(
            f"the Ray cluster has {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs, too few for a "
            f"worker with {threads} CPUs and {gpus:g} GPUs"
        )
    return min(rooms)


class _Actor:
    """The worker's side. Its methods run beside each other, so that one can be asked how far the other is."""

    def __init__(self, spec: WorkerSpec, index: int) -> None:
        self._spec, self._index, self._beat = spec, index, Heartbeat()

    def _note(self, beat: Heartbeat) -> None:
        self._beat = beat

    def prepare(self) -> tuple[str, str]:
        """Make the estimator; returns an error or "", and the node."""
        import ray

        node = ray.get_runtime_context().get_node_id()
        try:
            use_threads(self._spec.threads)
            self._estimator = self._spec.make(Beating(self._note), self._index)
        except Exception as error:
            return error_text(error), node
        return "", node

    def run(self, job: Job) -> tuple[State, Any]:
        use_threads(self._spec.threads)  # counts belong to the thread that sets them
        self._beat = Heartbeat()
        try:
            return "finished", answer(self._estimator, job)
        except Exception as error:
            return "crashed", error_text(error)

    def beat(self) -> Heartbeat:
        return self._beat


@dataclass
class _Worker:
    actor: Any
    name: str
    preparing: Any
    since: float = field(default_factory=time.monotonic)
    node: str = ""
    job: Job | None = None
    job_started: float = 0.0
    running: Any = None
    beating: Any = None
    beat: Heartbeat = field(default_factory=Heartbeat)
    beat_at: float = 0.0  # of the last sign of progress
    asked_at: float = 0.0

    @property
    def ready(self) -> bool:
        return self.preparing is None

    def pending(self) -> list[Any]:
        return [ref for ref in (self.preparing, self.running, self.beating) if ref is not None]


class RayPool:
    """Actors with one job each. nasfast, and images that are read from files, have to be on every machine.

    Args:
        spec: How a worker comes to its estimator; its threads are the CPUs that Ray keeps for it.
        size: How many.
        address: Of the cluster; "" for this machine.
        gpus: Of each worker, or its share of one.
        timeout: Seconds without a sign of progress after which a worker is taken to hang, and is replaced.

    Raises:
        PoolError: There is no cluster.
    """

    def __init__(self, spec: WorkerSpec, size: int, address: str, gpus: float, timeout: float) -> None:
        self._spec, self._size, self._gpus, self.timeout = spec, size, gpus, timeout
        self._ray = connect(address)
        self._class = self._ray.remote(_Actor)
        self._workers: list[_Worker] = []

    @property
    def size(self) -> int:
        return self._size

    def start(self) -> None:
        self._workers = [self._make(index) for index in range(self._size)]

    def _make(self, index: int) -> _Worker:
        made = self._class.options(num_cpus=self._spec.threads, num_gpus=self._gpus, max_concurrency=2, max_restarts=0)
        actor = made.remote(self._spec, index)
        return _Worker(actor, f"ray worker {index}", actor.prepare.remote())

    def free(self) -> int:
        return sum(worker.ready and worker.job is None for worker in self._workers)

    def submit(self, job: Job) -> None:
        worker = next(worker for worker in self._workers if worker.ready and worker.job is None)
        worker.job, worker.job_started, worker.beat = job, time.time(), Heartbeat()
        worker.beat_at = worker.asked_at = time.monotonic()
        worker.running = worker.actor.run.remote(job)

    def poll(self, seconds: float) -> list[Outcome]:
        waiting = [ref for worker in self._workers for ref in worker.pending()]
        seconds = min(seconds, _LOOK_SECONDS)
        self._ray.wait(waiting, num_returns=1, timeout=seconds) if waiting else time.sleep(seconds)
        outcomes = []
        for index, worker in enumerate(self._workers):
            try:
                outcomes += self._look_at(worker)
                gone = ""
            except self._ray.exceptions.RayActorError as error:
                gone = str(error)
            if not gone and worker.job is not None and time.monotonic() - worker.beat_at > self.timeout:
                outcomes.append(self._outcome(worker, "hung", f"no progress in {self.timeout:g} seconds"))
                gone = "hung"
            if not gone:
                continue
            if worker.job is not None:
                lost = not self._alive(worker.node)
                outcomes.append(self._outcome(worker, "lost" if lost else "crashed", f"{worker.name} ended: {gone}"))
            self._ray.kill(worker.actor)
            self._workers[index] = self._make(index)
        self._check_start()
        return outcomes

    def _look_at(self, worker: _Worker) -> list[Outcome]:
        """Take what a worker has answered since.

        Raises:
            RayActorError: It is no more.
        """
        if self._has(worker.preparing):
            error, worker.node = self._ray.get(worker.preparing)
            worker.preparing = None
            if error:
                raise PoolError(f"{worker.name} cannot make its estimator: {error}")
        if self._has(worker.running):
            state, content = self._ray.get(worker.running)
            return [self._outcome(worker, state, content)]
        if self._has(worker.beating):
            beat, worker.beating = self._ray.get(worker.beating), None
            if beat != worker.beat:
                worker.beat, worker.beat_at = beat, time.monotonic()
        elif worker.job is not None and worker.beating is None and time.monotonic() - worker.asked_at > _BEAT_SECONDS:
            worker.beating, worker.asked_at = worker.actor.beat.remote(), time.monotonic()
        return []

    def _has(self, ref: Any) -> bool:
        return ref is not None and bool(self._ray.wait([ref], timeout=0)[0])

    def _alive(self, node: str) -> bool:
        return any(known["NodeID"] == node and known["Alive"] for known in self._ray.nodes())

    def _outcome(self, worker: _Worker, state: State, content: Any) -> Outcome:
        assert worker.job is not None
        job, worker.job, worker.running, worker.beating = worker.job, None, None, None
        numbers, error = (content, "") if state == "finished" else ((), content)
        return Outcome(job, state, worker.name, worker.job_started, time.time(), numbers, error)

    def _check_start(self) -> None:
        """Raise PoolError where no worker has come up for long: others may wait for room."""
        if not self._workers or any(worker.ready for worker in self._workers):
            return
        if time.monotonic() - min(worker.since for worker in self._workers) > _START_SECONDS:
            raise PoolError(
                f"none of {self._size} Ray workers with {self._spec.threads} CPUs and {self._gpus:g} GPUs was ready "
                f"after {_START_SECONDS:g} seconds; the cluster has {self._ray.available_resources()} free"
            )

    def running(self) -> Sequence[Running]:
        return [Running(w.job, w.name, w.job_started, w.beat) for w in self._workers if w.job is not None]

    def close(self) -> None:
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._workers = []
