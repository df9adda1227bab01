"""What a search shows of itself in a terminal."""

import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest
from rich.console import Console

from nasfast.config.objectives import Objective
from nasfast.estimators.base import Estimate
from nasfast.search.blackbox.dashboard import board, note
from nasfast.search.blackbox.problem import FailedTrial, Problem
from nasfast.search.blackbox.search import BlackBoxSearch
from nasfast.search.workers import Heartbeat, Job, Running
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.strategies.registry import make_strategy

SPACE = NASBench201()


class MadeUp:
    name = "made up"

    def estimate(self, rows, fidelity=None):
        return [Estimate(float(10 * sum(row) + (fidelity or 0))) for row in rows.tolist()]


def search_of(name="random", evaluations=40, **problem):
    strategy = make_strategy(name, None)
    if name == "asha":
        strategy.rungs = (1, 3, 9)
    search = BlackBoxSearch(Problem(SPACE, MadeUp(), **problem), strategy.init(SPACE, 0), evaluations)
    while not search.done():
        search.step()
    return search


def text_of(*arguments, width=110):
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(board(*arguments))
    return console.export_text()


def test_board_shows_the_best_what_runs_and_what_is_spent():
    search = search_of()
    search.failed.append(FailedTrial((0,) * 6, None, "broken"))
    row = (1, 2, 3, 0, 4, 1)
    running = [Running(Job((row,), 27, 2), "worker 0", time.time() - 65, Heartbeat(30, 120, "train 41.2 %"))]
    running.append(Running(Job((row, row, row), None), "worker 1", time.time(), Heartbeat()))
    text = text_of(search, running, "1:05 of 30:00")
    assert re.search(
        rf"best +score *\n{re.escape(SPACE.decode(search.best().row))[:40]}.* {search.best().score:.0f}", text
    )
    assert "budget 1:05 of 30:00, 1 failed" in text
    assert re.search(r"27 +2 +25 % +train 41.2 % +1:05", text)
    assert "3 architectures" in text
    assert note(search, "1:05 of 30:00") == f"best {search.best().score:.0f}, 1 failed, 1:05 of 30:00"


class Bracketed(NASBench201):
    """A space whose architectures read like Rich's markup, with an escape of the terminal."""

    def decode(self, row):
        return f"[bold]{super().decode(row)[:20]}[/] [red]\\[x] \x1b[2J"


def test_board_shows_brackets_of_an_architecture_and_no_control_characters():
    space = Bracketed()
    strategy = make_strategy("random", None)
    search = BlackBoxSearch(Problem(space, MadeUp()), strategy.init(space, 0), 5)
    while not search.done():
        search.step()
    running = [Running(Job(((1,) * 6,), 27), "worker", time.time(), Heartbeat(1, 2, "train [0.1]"))]
    text = text_of(search, running, "[1]", width=200)
    for row in (search.best().row, (1,) * 6):
        assert space.decode(row).replace("\x1b", "\\x1b") in text
    assert "train [0.1]" in text
    assert "budget [1]" in text
    assert "\x1b" not in text


def test_board_shows_rungs_and_the_front():
    rungs = text_of(search_of("asha", 60))
    for epochs in ("1 epoch", "3 epochs", "9 epochs"):
        assert re.search(rf"^{epochs} +\d+ +\d+", rungs, re.M)
    front = text_of(search_of("nsga2", 80, objectives=(Objective.parse("score"), Objective.parse("-params"))))
    assert re.search(r"front +score +params", front)
    assert len(re.findall(r" \d+,\d{3} *\n", front)) == 4


@pytest.mark.parametrize("width", [40, 200])
def test_board_fits_its_terminal(width):
    running = [Running(Job(((4,) * 6,), 27), f"worker {i}", time.time(), Heartbeat(1, 2, "x")) for i in range(20)]
    text = text_of(search_of("asha", 60), running, "1:05 of 30:00", width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "and 4 more" in text


def test_terminal_shows_trials_while_they_run(tmp_path):
    """The command in a real terminal."""
    main, child = pty.openpty()
    options = "--space nasbench201 --estimator train --strategy random --workers 2 --epochs 15 --evaluations 6"
    command = [sys.executable, "-m", "nasfast.cli.app", "search", *options.split(), "--out", str(tmp_path / "run")]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environment)
    os.close(child)
    seen = b""
    until = time.monotonic() + 200
    while time.monotonic() < until:
        if select.select([main], [], [], 0.2)[0]:
            try:
                seen += os.read(main, 65536)
            except OSError:  # the terminal is closed
                break
        elif process.poll() is not None:
            break
    assert process.wait(60) == 0
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen).decode()
    assert re.search(r"running +epochs +attempt +done", text)
    assert re.search(r"\d+ % +train \d+\.\d %", text)
    assert re.search(r"best +score", text)
    assert "6/6" in text
    assert "6 evaluations" in text
    last = text[text.rindex("6/6") : text.index("6 evaluations")]  # what stays on the screen
    assert "running" not in last
    best = re.search(r"best (\d+\.\d+)", text[text.rindex("6/6") :])[1]
    assert best in last[last.index("score") :]
