"""When a loop writes checkpoints, how it stops, and that a killed one goes on with the same bits."""

import json
import signal
import subprocess
import sys
import threading

import pytest

from nasfast.utils.checkpointed_loop import CheckpointedLoop
from tests.helpers.chance import chance
from tests.helpers.paths import ROOT


class Work:
    """Steps of a second each, and checkpoints of half a second, by a clock of their own."""

    def __init__(self, total, **settings):
        self.total, self.now = total, 0.0
        self.taken = settings.get("taken", 0)
        self.saved, self.asked = [], 0
        self.loop = CheckpointedLoop(self.save, self.over, clock=lambda: self.now, **{"seconds": 1e9} | settings)

    def save(self):
        self.now += 0.5
        self.saved.append(self.taken)

    def over(self):
        self.asked += 1
        return self.taken >= self.total

    def run(self, during=lambda work: None):
        with self.loop as loop:
            for _ in loop:
                during(self)
                self.taken += 1
                self.now += 1.0
        return self.saved


@pytest.mark.parametrize(
    ("settings", "saved"),
    [
        ({}, [10]),
        ({"seconds": 3.0}, [3, 6, 9, 10]),  # from the end of the last one on
        ({"seconds": 2.5}, [3, 6, 9, 10]),
        ({"seconds": 0.0}, list(range(1, 11))),
        ({"steps": 4}, [4, 8, 10]),
        ({"steps": 4, "taken": 3}, [4, 8, 10]),
        ({"steps": 4, "seconds": 3.0}, [3, 4, 7, 8, 10]),
        ({"steps": 5}, [5, 10]),
    ],
)
def test_checkpoints_are_written_when_they_are_due(settings, saved):
    assert Work(10, **settings).run() == saved


def test_a_step_asks_for_a_checkpoint_after_itself_alone():
    def ask(work):
        if work.taken == 2:
            work.loop.due = True

    assert Work(6).run(ask) == [3, 6]


def test_what_is_over_is_asked_once_a_turn_and_nothing_is_left_undone():
    work = Work(3)
    work.run()
    assert (work.taken, work.asked) == (3, 4)
    nothing = Work(0)
    assert nothing.run() == []
    assert (nothing.taken, nothing.asked) == (0, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_end_of_the_step_and_its_checkpoint(number):
    def interrupt(work):
        if work.taken == 4:
            signal.raise_signal(number)

    work, before = Work(10, steps=2), signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        work.run(interrupt)
    assert (work.taken, work.saved) == (5, [2, 4, 5])
    assert signal.getsignal(number) is before


def test_a_second_interrupt_acts_at_once():
    def interrupt(work):
        if work.taken == 4:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    work = Work(10)
    with pytest.raises(KeyboardInterrupt):
        work.run(interrupt)
    assert (work.taken, work.saved) == (4, [])


def test_an_error_is_not_saved_and_leaves_the_signals_as_they_were():
    def fail(work):
        if work.taken == 3:
            raise ArithmeticError

    work, before = Work(10, steps=2), signal.getsignal(signal.SIGINT)
    with pytest.raises(ArithmeticError):
        work.run(fail)
    assert work.saved == [2]
    assert signal.getsignal(signal.SIGINT) is before


def test_processes_stop_where_all_agree():
    """One that was asked goes on until the others know; one that was not stops with them."""
    asked = []

    def agree(work, at):
        if work.taken == 1:
            signal.raise_signal(signal.SIGINT)
        asked.append(work.loop.interrupted())
        work.loop.stop = work.taken == at

    work = Work(10)
    with pytest.raises(KeyboardInterrupt):
        work.run(lambda work: agree(work, 3))
    assert (work.taken, work.saved, asked) == (4, [4], [False, True, True, True])

    def others_stop(work):
        work.loop.stop = work.taken == 2

    other = Work(10)
    with pytest.raises(KeyboardInterrupt):
        other.run(others_stop)
    assert (other.taken, other.saved) == (3, [3])


def test_in_another_thread_it_runs_without_signals():
    work = Work(5, steps=2)
    thread = threading.Thread(target=work.run)
    thread.start()
    thread.join(timeout=60)
    assert work.saved == [2, 4, 5]


PROGRAM = """
import json, os, random, signal, sys
from pathlib import Path
from nasfast.utils.checkpointed_loop import CheckpointedLoop
from nasfast.utils.files import atomic_write

path, kill_at = Path(sys.argv[1]), int(sys.argv[2])
state = json.loads(path.read_text()) if path.exists() else {"step": 0, "value": 0.5}
first = state["step"]


def save():
    atomic_write(path, json.dumps(state))


with CheckpointedLoop(save, lambda: state["step"] == 40, seconds=1e9, steps=3, taken=first) as loop:
    for _ in loop:
        draw = random.Random(state["step"]).random()
        state = {"step": state["step"] + 1, "value": 3.9 * state["value"] * (1 - state["value"]) * draw + draw / 8}
        if state["step"] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
print(json.dumps([first, state["value"].hex()]))
"""


def run_program(path, kill_at=0):
    command = [sys.executable, "-c", PROGRAM, str(path), str(kill_at)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_killed_loop_goes_on_from_its_last_checkpoint_to_the_same_bits(tmp_path):
    whole = run_program(tmp_path / "whole.json")
    first, expected = json.loads(whole.stdout)
    assert first == 0
    killed_at = chance().randint(4, 39)
    killed = run_program(tmp_path / "cut.json", killed_at)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    first, found = json.loads(run_program(tmp_path / "cut.json").stdout)
    assert first == (killed_at - 1) // 3 * 3  # killed in a step: without that step's checkpoint
    assert found == expected
