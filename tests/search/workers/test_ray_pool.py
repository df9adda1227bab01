"""Trials on a Ray cluster that the tests start on this machine: results, faults, a lost node, the command."""

import time
from contextlib import closing

import pytest
from click.testing import CliRunner

from nasfast.cli.app import app
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.errors import ConfigError
from nasfast.search.blackbox.runner import run_blackbox
from nasfast.search.workers import Failed, PoolError, TrialRunner, TrialStore, WorkerSpec
from tests.helpers.require import require
from tests.helpers.runs import search_state
from tests.helpers.trial_workers import (
    FINE,
    HANGS,
    HOLD,
    KILLED,
    NOT_FINITE,
    ONCE,
    RAISES,
    SLOW,
    make_nothing,
    spec,
    wait_for,
)

ray = require("ray")

from ray.cluster_utils import Cluster  # noqa: E402

from nasfast.search.workers.ray_pool import RayPool, room_for  # noqa: E402

TINY = {
    "estimator": "train", "space_set": ["channels=4", "cells=1"], "epochs": 2, "batch_size": 32, "evaluations": 6,
    "fidelity_images": 0.06, "ask": 2, "threads": 1, "set": ["population=3", "sample=2"],
}  # fmt: skip


@pytest.fixture(scope="module")
def cluster():
    """A head that has no room for workers, and a node that has."""
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    found.add_node(num_cpus=2, num_gpus=1)
    found.wait_for_nodes()
    ray.init(address=found.address, log_to_driver=False, logging_level="error")
    yield found
    ray.shutdown()
    found.shutdown()


def open_ray(path, size=2, timeout=60.0, gpus=0.0):
    pool = RayPool(spec(path / "begun"), size, "", gpus, timeout)
    return TrialRunner(pool, TrialStore(path / "trials.sqlite"), str)


def states(runner):
    return {record.row: [attempt.state for attempt in record.attempts] for record in runner.store.records()}


def test_an_address_without_a_cluster_is_named():
    with pytest.raises(PoolError, match=r"there is no Ray cluster at 127\.0\.0\.1:1"):
        room_for("127.0.0.1:1", 1, 0)


def test_faults_are_recorded_retried_once_and_stop_nothing(cluster, tmp_path):
    faults = {RAISES: "no network of [1, 5]", KILLED: "ray worker", NOT_FINITE: "score of [6, 5] is nan"}
    rows = [(what, 5) for what in (*faults, ONCE, FINE)]
    with closing(open_ray(tmp_path)) as runner:
        runner.submit([(row, 3) for row in rows])
        found = {row: wait_for(runner, (row, 3), 120) for row in rows}
        tried = states(runner)
    for what, text in faults.items():
        assert isinstance(found[what, 5], Failed)
        assert text in found[what, 5].error
        assert tried[what, 5] == ["crashed", "crashed"]
    assert "Traceback" in found[RAISES, 5].error
    assert found[ONCE, 5] == {"score": 10.0, "fidelity_seen": 3.0}
    assert (tried[ONCE, 5], tried[FINE, 5]) == (["crashed", "finished"], ["finished"])


def test_a_hung_trial_is_stopped_and_a_slow_one_is_watched(cluster, tmp_path):
    with closing(open_ray(tmp_path, timeout=6.0)) as runner:
        runner.submit([((HANGS, 1), None), ((SLOW, 1), None)])
        notes = set()
        while runner.wait(((SLOW, 1), None), 0.2) is None:
            notes |= {one.beat.note for one in runner.running()}
        assert isinstance(wait_for(runner, ((HANGS, 1), None), 120), Failed)
        assert states(runner) == {(HANGS, 1): ["hung", "hung"], (SLOW, 1): ["finished"]}
    assert len(notes & {f"step {step}" for step in range(8)}) > 2


def test_shares_of_a_gpu_and_room_in_the_cluster(cluster, tmp_path):
    assert room_for("", 1, 0) == 2
    assert room_for("", 1, 0.5) == 2
    assert room_for("", 1, 1.0) == 1
    with pytest.raises(PoolError, match=r"has 2 CPUs and 1 GPUs, too few for a worker with 1 CPUs and 2 GPUs"):
        room_for("", 1, 2.0)
    with closing(open_ray(tmp_path, gpus=0.5)) as runner:
        runner.submit([((SLOW, 1), None), ((SLOW, 2), None)])
        until = time.monotonic() + 60
        while len(runner.running()) < 2:  # both on the one GPU
            assert time.monotonic() < until
            runner.wait(((SLOW, 2), None), 0.1)
        assert wait_for(runner, ((SLOW, 2), None))["score"] == 9


def test_workers_that_cannot_make_their_estimator_say_why(cluster):
    pool = RayPool(WorkerSpec(make_nothing, 1), 1, "", 0.0, 60.0)
    pool.start()
    try:
        with pytest.raises(PoolError, match=r"ray worker 0 cannot make its estimator: (?s:.*)no data set here"):
            poll_for_a_minute(pool)
    finally:
        pool.close()


def poll_for_a_minute(pool):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        pool.poll(1.0)


def test_the_search_has_the_bits_of_one_on_processes(cluster, tmp_path):
    for name, workers, threads in (("local", "2", 2), ("ray", "ray", 1)):
        config = BlackBoxConfig.of(TINY | {"workers": workers, "threads": threads})
        run_blackbox(config, tmp_path / name)
    assert (tmp_path / "local" / "metrics.jsonl").read_bytes() == (tmp_path / "ray" / "metrics.jsonl").read_bytes()
    assert search_state(tmp_path / "local") == search_state(tmp_path / "ray")
    assert '"workers": "ray:2"' in (tmp_path / "ray" / "config.json").read_text()  # what the cluster has room for
    result = CliRunner().invoke(app, ["search", "--resume", str(tmp_path / "ray"), "--budget", "8 trials", "--quiet"])
    assert result.exit_code == 0, result.output
    assert "8 evaluations" in result.output


def test_address_needs_ray():
    with pytest.raises(ConfigError, match="it needs --workers ray"):
        BlackBoxConfig.of(TINY | {"address": "auto"})


def test_trials_of_a_lost_node_run_again_elsewhere(cluster, tmp_path):
    other = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    rows = [(SLOW, number) for number in range(4)]
    (tmp_path / HOLD).touch()
    with closing(open_ray(tmp_path, size=4)) as runner:
        runner.submit([(row, None) for row in rows])
        while len(list((tmp_path / "begun").iterdir())) < 4:
            assert runner.wait((rows[0], None), 0.1) is None
        cluster.remove_node(other, allow_graceful=False)
        (tmp_path / HOLD).unlink()
        scores = [wait_for(runner, (row, None), 120)["score"] for row in rows]
        tried = states(runner)
    assert scores == [sum(row) for row in rows]
    assert sorted(map(len, tried.values())) == [1, 1, 2, 2]
    assert {tuple(tries) for tries in tried.values() if len(tries) == 2} <= {
        ("lost", "finished"),
        ("crashed", "finished"),
    }
