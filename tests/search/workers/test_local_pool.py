"""Trials on worker processes: results, faults of every kind, and the store that outlives them."""

import os
import pickle
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import pytest

from nasfast.errors import RunError
from nasfast.search.workers import Failed, Job, LocalPool, Outcome, PoolError, TrialRunner, TrialStore, WorkerSpec
from tests.helpers.paths import ROOT
from tests.helpers.trial_workers import (
    CRASHES,
    FINE,
    HANGS,
    KILLED,
    NOT_FINITE,
    ONCE,
    RAISES,
    SLOW,
    make_nothing,
    open_local,
    spec,
    wait_for,
)  # fmt: skip


def states(path):
    """States of every attempt by row."""
    with closing(TrialStore(path / "trials.sqlite")) as store:
        return {record.row: [attempt.state for attempt in record.attempts] for record in store.records()}


def test_faults_of_every_kind_are_recorded_retried_once_and_stop_nothing(tmp_path):
    faults = {
        RAISES: "no network of [1, 5]",
        KILLED: "signal 9 (SIGKILL)",
        CRASHES: "Segmentation fault",
        NOT_FINITE: "score of [6, 5] is nan",
    }
    rows = [(what, 5) for what in (*faults, ONCE, FINE)]
    with closing(open_local(tmp_path)) as runner:
        runner.submit([(row, 3) for row in rows])
        found = {row: wait_for(runner, (row, 3)) for row in rows}
        assert runner.retried == len(faults) + 1
        runner.submit([((FINE, 9), None)])  # the pool still works
        assert wait_for(runner, ((FINE, 9), None))["score"] == 9
    for what, text in faults.items():
        result = found[what, 5]
        assert isinstance(result, Failed)
        assert text in result.error
    assert 'raise ValueError(f"no network of {row}")' in found[RAISES, 5].error  # the traceback
    assert "Stack" in found[CRASHES, 5].error or "File" in found[CRASHES, 5].error  # of native code, by its log
    assert found[ONCE, 5] == {"score": 10.0, "fidelity_seen": 3.0}
    assert found[FINE, 5] == {"score": 5.0, "fidelity_seen": 3.0}
    tried = states(tmp_path)
    assert tried[FINE, 5] == ["finished"]
    assert tried[ONCE, 5] == ["crashed", "finished"]
    assert all(tried[what, 5] == ["crashed", "crashed"] for what in faults)
    begun = sorted(path.name for path in (tmp_path / "begun").iterdir())
    assert begun.count("1-5.0") == begun.count("1-5.1") == 1
    assert "1-5.2" not in begun


def test_a_hung_trial_is_stopped_and_a_slow_one_that_makes_progress_is_not(tmp_path):
    with closing(open_local(tmp_path, timeout=4.0)) as runner:
        runner.submit([((HANGS, 1), None), ((SLOW, 1), None)])
        assert wait_for(runner, ((SLOW, 1), None)) == {"score": 8.0, "fidelity_seen": 0.0}
        hung = wait_for(runner, ((HANGS, 1), None))
    assert isinstance(hung, Failed)
    assert hung.error == "no progress in 4 seconds"
    assert states(tmp_path) == {(HANGS, 1): ["hung", "hung"], (SLOW, 1): ["finished"]}


def test_running_trials_say_how_far_they_are(tmp_path):
    with closing(open_local(tmp_path, size=1)) as runner:
        runner.submit([((SLOW, 2), 4)])
        seen = set()
        while runner.wait(((SLOW, 2), 4), 0.1) is None:
            seen |= {(one.job.rows, one.job.fidelity, one.beat.done, one.beat.note) for one in runner.running()}
        assert runner.running() == []
        assert 4 < runner.worker_seconds() < 30
    assert {(((SLOW, 2),), 4, 3, "step 2"), (((SLOW, 2),), 4, 6, "step 5")} <= seen


def test_a_worker_killed_from_outside_costs_an_attempt_and_no_trial(tmp_path):
    with closing(open_local(tmp_path, size=1)) as runner:
        runner.submit([((SLOW, 3), None)])
        mark = tmp_path / "begun" / f"{SLOW}-3.0"
        while not mark.exists() or not mark.read_text():
            assert runner.wait(((SLOW, 3), None), 0.1) is None
        os.kill(int(mark.read_text()), signal.SIGKILL)
        assert wait_for(runner, ((SLOW, 3), None))["score"] == 10
    assert states(tmp_path) == {(SLOW, 3): ["crashed", "finished"]}


def test_a_slice_that_crashes_is_tried_again_row_by_row(tmp_path):
    rows = [(FINE, 1), (RAISES, 2), (FINE, 3)]
    with closing(open_local(tmp_path, size=1)) as runner:
        runner.submit([(row, None) for row in rows], together=3)
        found = [wait_for(runner, (row, None)) for row in rows]
    assert [None if isinstance(result, Failed) else result["score"] for result in found] == [1, None, 3]
    assert states(tmp_path) == {
        rows[0]: ["crashed", "finished"],
        rows[1]: ["crashed"] * 2,
        rows[2]: ["crashed", "finished"],
    }


def test_results_and_failures_of_an_earlier_sitting_are_not_run_again(tmp_path):
    with closing(open_local(tmp_path, size=1)) as runner:
        runner.submit([((FINE, 1), None), ((RAISES, 1), None)])
        first = [wait_for(runner, (row, None)) for row in ((FINE, 1), (RAISES, 1))]
    with closing(open_local(tmp_path, size=1)) as runner:
        runner.submit([((FINE, 1), None), ((RAISES, 1), None), ((FINE, 1), 7)])
        assert [runner.wait((row, None), 0) for row in ((FINE, 1), (RAISES, 1))] == first
        assert wait_for(runner, ((FINE, 1), 7))["fidelity_seen"] == 7  # another fidelity is another trial
    assert len(list((tmp_path / "begun").iterdir())) == 4


def test_workers_that_cannot_make_their_estimator_say_why(tmp_path):
    pool = LocalPool(WorkerSpec(make_nothing, 1), 1, tmp_path / "logs", 60.0)
    pool.start()
    try:
        with pytest.raises(PoolError, match=r"worker 0 cannot make its estimator: (?s:.*)Error: no data set here"):
            poll_for_a_minute(pool)
    finally:
        pool.close()
    with pytest.raises(PoolError, match="cannot be started"):
        LocalPool(WorkerSpec(lambda progress, index: None, 1), 1, tmp_path / "logs", 60.0).start()
    with pytest.raises(PoolError, match="at least one worker, got 0"):
        LocalPool(spec(tmp_path / "begun"), 0, tmp_path / "logs", 60.0)


def poll_for_a_minute(pool):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        pool.poll(1.0)


KILLED_SEARCH = """
import sys
from pathlib import Path
from tests.helpers.trial_workers import open_local
if __name__ == "__main__":
    runner = open_local(Path(sys.argv[1]), size=1)
    runner.submit([((0, 1), None), ((0, 2), None), ((3, 1), None)])
    runner.wait(((3, 1), None), 1000)
"""


def kill_and_see_its_worker_end(search, mark):
    """Kill a search once its worker has written the number of its process into a file."""
    until = time.monotonic() + 120
    while not (mark.exists() and mark.read_text()):
        assert search.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    search.kill()
    search.wait()
    worker = int(mark.read_text())
    while _alive(worker):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_killing_the_search_loses_only_what_runs_and_leaves_no_worker(tmp_path):
    script = tmp_path / "search.py"
    script.write_text(KILLED_SEARCH)
    search = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env={**os.environ, "PYTHONPATH": str(ROOT)})
    kill_and_see_its_worker_end(search, tmp_path / "begun" / "3-1.0")
    with closing(TrialStore(tmp_path / "trials.sqlite")) as store:
        found = [(record.row, record.state, record.numbers) for record in store.records()]
    assert found == [
        ((0, 1), "finished", {"score": 1.0, "fidelity_seen": 0.0}),
        ((0, 2), "finished", {"score": 2.0, "fidelity_seen": 0.0}),
        ((3, 1), "waiting", None),
    ]


SLOW_TO_IMPORT = """
import os
import pathlib
import time

pathlib.Path(__file__).with_name("importing").write_text(str(os.getpid()))
time.sleep(300)
"""

KILLED_AT_ONCE = """
import pathlib
import sys

from nasfast.search.workers import LocalPool, WorkerSpec

if __name__ == "__main__":
    class ByName:  # importing it takes long where it is unpacked, not here
        def __reduce__(self):
            return (__import__, ("slow_to_import",))

    LocalPool(WorkerSpec(ByName(), 1), 1, pathlib.Path(sys.argv[1]) / "logs", 300.0).start()
    sys.stdin.read()
"""


def test_a_worker_that_still_imports_ends_with_its_search(tmp_path):
    (tmp_path / "slow_to_import.py").write_text(SLOW_TO_IMPORT)
    script = tmp_path / "search.py"
    script.write_text(KILLED_AT_ONCE)
    places = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path)))}
    search = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], env={**os.environ, **places}, stdin=subprocess.PIPE
    )
    kill_and_see_its_worker_end(search, tmp_path / "importing")


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# the store alone


def outcome(row, state="finished", numbers=None, error=""):
    return Outcome(Job((row,), None), state, "worker 0", 1.0, 3.5, (numbers or {"score": 1.0},), error)


def test_a_locked_store_is_waited_for_and_then_named(tmp_path):
    path = tmp_path / "trials.sqlite"
    with closing(TrialStore(path, wait=0.2)) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        store.add(((1,), None), "one")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(
            RunError, match=r"trials.sqlite cannot be used: another process has held a lock on it for 0.2"
        ):
            store.record(outcome((1,)), final=True)
        other.execute("ROLLBACK")
        store.record(outcome((1,)), final=True)
        assert [record.state for record in store.records()] == ["finished"]


@contextmanager
def no_pages_left(store):
    """SQLite takes no further page of the file, as where the disk is full."""
    store._connection.execute("PRAGMA max_page_count = 8")
    yield
    store._connection.execute("PRAGMA max_page_count = 1000000")


@contextmanager
def no_bytes_left(store):
    """The system writes no further byte of the file."""
    old, before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (store.path.stat().st_size + 4096, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, before)


def fill(store):
    for number in range(1, 1000):
        store.add(((number,), None), "x" * 4000)


@pytest.mark.parametrize(
    ("full", "message"),
    [
        (no_pages_left, "no space is left on its disk; the run"),
        (no_bytes_left, "cannot be written, or is full; the run"),
    ],
)
def test_a_full_disk_is_named_and_nothing_that_was_written_is_lost(full, message, tmp_path):
    path = tmp_path / "trials.sqlite"
    with closing(TrialStore(path)) as store:
        store.add(((0,), None), "kept")
        store.record(outcome((0,), numbers={"score": 7.0}), final=True)
        with full(store), pytest.raises(RunError, match=message):
            fill(store)
        store.add(((1000,), None), "later")
        store.record(outcome((1000,)), final=True)
    with closing(TrialStore(path)) as store:
        records = store.records()
    assert records[0].numbers == {"score": 7.0}
    assert (records[-1].row, records[-1].state) == ((1000,), "finished")


def test_attempts_are_kept_with_their_errors(tmp_path):
    with closing(TrialStore(tmp_path / "trials.sqlite")) as store:
        store.add(((1, 2), 9), "an arch")
        store.add(((1, 2), 9), "an arch")
        job = Job(((1, 2),), 9)
        store.record(Outcome(job, "lost", "ray worker 3", 1.0, 2.0, error="node gone"), final=False)
        assert store.records()[0].state == "waiting"
        store.record(Outcome(job, "crashed", "worker 1", 3.0, 4.0, error="Traceback"), final=True)
        (record,) = store.records()
    assert (record.row, record.fidelity, record.arch, record.state, record.numbers) == (
        (1, 2),
        9,
        "an arch",
        "failed",
        None,
    )
    assert [(a.state, a.worker, a.error) for a in record.attempts] == [
        ("lost", "ray worker 3", "node gone"),
        ("crashed", "worker 1", "Traceback"),
    ]
    assert record.error == "Traceback"


def test_other_files_are_no_stores(tmp_path):
    path = tmp_path / "trials.sqlite"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(RunError, match="file is not a database"):
        TrialStore(path)
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as other:
        other.execute("CREATE TABLE mine (x)")
    with pytest.raises(RunError, match="is no store of trials"):
        TrialStore(tmp_path / "other.sqlite")
    TrialStore(tmp_path / "later.sqlite").close()
    with closing(sqlite3.connect(tmp_path / "later.sqlite")) as later:
        later.execute("PRAGMA user_version = 9")
    with pytest.raises(RunError, match="is a store of version 9; this nasfast reads version 3"):
        TrialStore(tmp_path / "later.sqlite")
    with pytest.raises(RunError, match="unable to open"):
        TrialStore(tmp_path / "missing" / "trials.sqlite")


class Refusing:
    """A pool in this process whose jobs crash at the first attempt; keeps what it was given."""

    size = 1

    def __init__(self):
        self.jobs, self.given = [], []

    def start(self):
        pass

    def free(self):
        return 1 - len(self.jobs)

    def submit(self, job):
        self.jobs.append(job)
        self.given.append(job)

    def poll(self, seconds):
        job = self.jobs.pop()
        if job.attempt == 1:
            return [Outcome(job, "crashed", "here", 0.0, 0.5, error="not yet")]
        return [Outcome(job, "finished", "here", 0.0, 0.5, tuple({"score": float(sum(row))} for row in job.rows))]

    def running(self):
        return []

    def close(self):
        pass


def test_ancestors_go_with_their_rows_when_a_slice_is_tried_again(tmp_path):
    ancestors = {(FINE, 1): (), (FINE, 2): ((5, 5), (FINE, 1))}
    pool = Refusing()
    with closing(TrialRunner(pool, TrialStore(tmp_path / "trials.sqlite"), str)) as runner:
        runner.submit([(row, 3) for row in ancestors], 2, lambda asked: ancestors[asked[0]])
        assert [wait_for(runner, (row, 3))["score"] for row in ancestors] == [1, 2]
    assert [(job.attempt, job.lineage) for job in pool.given] == [
        (1, list(ancestors.items())),
        *((2, [pair]) for pair in ancestors.items()),
    ]
    assert all(pickle.loads(pickle.dumps(job)) == job for job in pool.given)
    assert Job(((FINE, 1), (FINE, 2)), 3).lineage == [((FINE, 1), ()), ((FINE, 2), ())]
