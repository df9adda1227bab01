"""kill -9 at random moments: the resumed run ends with the bits of one that was never stopped."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers.chance import chance
from tests.helpers.runs import assert_same_runs, tiny_options

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "nasfast.cli.app", "search", *map(str, arguments)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a shell's background
    )


def finish(process):
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return output


def wait_for_steps(process, run):
    """Until the search has written a checkpoint, from which on any moment is a fair one to be killed in."""
    while not (run / "checkpoint.pt").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped, and how long it took after its first checkpoint."""
    run = tmp_path_factory.mktemp("whole") / "run"
    process = start(*tiny_options(checkpoint_steps=2, epochs=3), "--out", run)
    wait_for_steps(process, run)
    began = time.monotonic()
    finish(process)
    return run, time.monotonic() - began


@pytest.mark.parametrize("kills", [1, 3])
def test_killed_run_resumes_with_the_same_bits(whole, tmp_path, kills):
    run, (expected, seconds) = tmp_path / "run", whole
    draw = chance()
    process = start(*tiny_options(checkpoint_steps=2, epochs=3), "--out", run)
    wait_for_steps(process, run)
    moments = []
    for number in range(kills):
        moments.append(draw.uniform(0, seconds / (number + 1)))
        time.sleep(moments[-1])
        process.kill()
        process.communicate()
        process = start("--resume", run)
        if number + 1 < kills:
            time.sleep(seconds)  # the start of a process takes a while; killing it there tests nothing
    finish(process)
    print(f"killed after {moments} seconds")
    assert_same_runs(expected, run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_saves_and_prints_the_command_to_resume(whole, tmp_path, number):
    run, (expected, _) = tmp_path / "run", whole
    process = start(*tiny_options(checkpoint_steps=2, epochs=3), "--out", run)
    wait_for_steps(process, run)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    last = errors.strip().splitlines()[-1]
    assert last == f"nasfast: error: interrupted; the state was saved, go on with: nasfast search --resume {run}"
    assert "Traceback" not in errors
    output = finish(start("--resume", run))
    assert "derived" in output
    assert_same_runs(expected, run)
    assert f"run {run} is finished, there is nothing to resume" in finish(start("--resume", run))
