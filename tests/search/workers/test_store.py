"""The store of trials: no row is missing, or another than was written, without an error."""

import random
import sqlite3
from contextlib import closing

import pytest

from nasfast.errors import RunError
from nasfast.search.workers import Job, Outcome, TrialStore


@pytest.fixture
def store(tmp_path):
    """The file of a store with a finished, a failed and a waiting trial."""
    path = tmp_path / "trials.sqlite"
    with closing(TrialStore(path)) as store:
        for number in range(3):
            store.add(((number,), 9), f"arch {number}")
        store.record(Outcome(Job(((0,),), 9), "finished", "worker 0", 1.5, 2.5, numbers=({"score": 0.75},)), True)
        store.record(Outcome(Job(((1,),), 9), "lost", "worker 1", 1.0, 2.0, error="node gone"), False)
        store.record(Outcome(Job(((1,),), 9, 2), "crashed", "worker 1", 2.0, 3.0, error="Traceback"), True)
    return path


def read(path):
    with closing(TrialStore(path)) as store:
        return store.records()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE trials SET numbers = '{\"score\": 0.85}' WHERE id = 1",
        "UPDATE trials SET state = 'finished' WHERE id = 2",
        "UPDATE trials SET choices = '[5]' WHERE id = 3",
        "UPDATE attempts SET ended = 4.0 WHERE trial = 1",
        "DELETE FROM trials WHERE id = 3",
        "DELETE FROM attempts WHERE trial = 2 AND number = 2",
        "DELETE FROM totals",
        "UPDATE totals SET trials = 2",
    ],
)
def test_a_row_that_was_changed_or_is_missing_is_noticed(store, change):
    assert len(read(store)) == 3
    with closing(sqlite3.connect(store)) as connection, connection:
        assert connection.execute(change).rowcount == 1
    with pytest.raises(RunError, match=r"trials.sqlite is damaged: .*; restore it from a copy$"):
        read(store)


def test_no_bit_of_the_file_changes_what_is_read(store):
    content, expected = store.read_bytes(), read(store)
    refused, places = [], random.Random(0).sample(range(len(content)), 300)
    for place in [*range(100), *places]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        store.write_bytes(damaged)
        try:
            assert read(store) == expected, place
        except RunError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert not any("\n" in line for line in refused)


def test_a_store_without_a_trial_of_the_log_is_refused(store):
    row = {"kind": "trial", "row": [0], "arch": "arch 0"}
    with closing(TrialStore(store)) as opened:
        opened.check_log([{"kind": "epoch"}, row, {"kind": "failed", "row": [1], "arch": "arch 1"}])
        with pytest.raises(RunError, match="it does not have the trial of arch 2, which the run's log has"):
            opened.check_log([{"kind": "trial", "row": [2], "arch": "arch 2"}])
    store.write_bytes(b"")
    with closing(TrialStore(store)) as opened, pytest.raises(RunError, match=r"does not have the trial of arch 0"):
        opened.check_log([row])
