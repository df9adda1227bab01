"""What a GPU that is there for some minutes can show: `bench/gpu.sh --minutes N --out FOLDER`.

Runs the stages of bench/gpu_stages.toml in their order, which is that of their worth. Each has a limit, and gets no
more than what is left until the deadline; one that fails or is cut does not stop the next, but for the build, without
which nothing else has a meaning. summary.md is written anew at every change, the output of a stage as it comes, so that
whatever ends this program leaves what was found until then.

It starts before anything is built, hence no import beyond the standard library. Linux only: it becomes the reaper of
orphans, so that no process of a stage outlives it, in whatever session or group it hid.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import os
import re
import resource
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parent.parent
STAGES = ROOT / "bench/gpu_stages.toml"
TRAFFIC = ROOT / "build/gpu/traffic.json"  # where bench/gpu.sh keeps the bytes that it counted
TOOLKIT = "/usr/local/cuda/bin"  # of ncu and compute-sanitizer, where they are not on PATH
SUMMARY, FIGURES = "summary.md", "figures.json"

BUILD = "build"
CLOSING = 10.0  # seconds before the end in which nothing runs any more
LEAST = 12.0  # a stage with less is not started: the import of torch takes half of it
STOPPING = ((signal.SIGINT, False, 3.0), (signal.SIGABRT, True, 2.0), (signal.SIGKILL, True, 5.0))
"""How a stage is stopped: signal, whether to all of its processes, and seconds given. Python answers SIGINT with where
it was and pytest with what failed so far; SIGABRT shows where a process hangs that waits for the GPU (faulthandler)."""
STOP_SECONDS = sum(seconds for _, _, seconds in STOPPING)

HEAD, TAIL = 1 << 20, 1 << 16  # bytes that are kept of a stage's output
SHOWN_LINES = 15  # of a stage that failed, in the summary
_POLL = 0.1
_CHUNK = 1 << 16
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None, use_errno=True)


class StageTableError(ValueError):
    """The table of stages does not say what it must."""


class StoppedError(BaseException):
    """A signal asked this program to end; no failure of a stage."""


@dataclass(frozen=True)
class Stage:
    """One command. `log` is the file that its output goes to; `figures`: it takes --json FILE; `{python}` and
    `{traffic}` in the command are filled in."""

    name: str
    limit: float
    log: str
    command: tuple[str, ...]
    figures: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, below 0 a signal's number; None: cut at its limit. `left`: processes that
    could not be ended."""

    code: int | None
    seconds: float
    left: int = 0

    def text(self) -> str:
        if self.code is None:
            said = "cut at its limit"
        elif self.code < 0:
            said = f"failed, {next((s.name for s in signal.Signals if s == -self.code), f'signal {-self.code}')}"
        else:
            said = f"failed, exit {self.code}" if self.code else "passed"
        return f"{said}; {self.left} processes of it cannot be ended" if self.left else said


@dataclass
class Result:
    """A stage's line of the summary."""

    stage: Stage
    limit: float
    text: str = "waits"
    seconds: float | None = None
    last: str = ""
    shown: str = ""
    figures: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return self.text == "passed"


def read_stages(path: Path = STAGES) -> list[Stage]:
    """The table of stages.

    Raises:
        StageTableError: it is no such table, or says something twice.
    """
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))["stage"]
        stages = [Stage(**{**entry, "command": tuple(shlex.split(entry["command"]))}) for entry in entries]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise StageTableError(f"{path} is no table of stages: {error}") from error
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise StageTableError(f"{path}: every stage needs a name of its own, got {names}")
    return stages


class Output:
    """Bytes of one stage, on disk as they come: the first ones, and the last ones once it has ended.

    A disk that takes no more is noted in `fault` and does not stop the stage; the last bytes are kept in memory.
    """

    def __init__(self, path: Path, title: str) -> None:
        self.path, self.fault = path, ""
        self.written = self.total = 0
        self.tail = b""
        self._append(f"\n== {title}\n".encode())

    def write(self, data: bytes) -> None:
        fits = data[: max(0, HEAD - self.written)]
        self.written += len(fits)
        self.total += len(data)
        if fits:
            self._append(fits)
        self.tail = (self.tail + data)[-TAIL:]

    def close(self, text: str) -> None:
        rest = self.total - self.written
        if rest > len(self.tail):
            self._append(f"\n[{rest - len(self.tail)} bytes left out]\n".encode())
        if rest:
            self._append(self.tail[-rest:])
        self._append(f"\n== {text}\n".encode())

    def lines(self) -> list[str]:
        """The last lines that say something, without what a terminal or a table would take for a command."""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.tail[-8192:].decode(errors="replace")).replace("\r", "\n")
        kept = ("".join(c for c in line if c.isprintable()).strip() for line in text.splitlines())
        return [line[:200] for line in kept if any(c.isalnum() for c in line)]

    def _append(self, data: bytes) -> None:
        try:
            with open(self.path, "ab") as file:
                file.write(data)
        except OSError as error:
            self.fault = f"{self.path.name}: {error.strerror}"


class Run(Protocol):
    """Runs a command for at most `limit` seconds, its output into `output`."""

    def __call__(self, stage: Stage, command: Sequence[str], limit: float, output: Output) -> Ended: ...


def run_process(stage: Stage, command: Sequence[str], limit: float, output: Output) -> Ended:
    """Run a stage's command, and end all that it leaves behind, whether it ends by itself or not."""
    _LIBC.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    others = descendants()  # not of this stage
    started = time.monotonic()
    try:
        leader = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **stage.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_in_child,
        )
    except (OSError, subprocess.SubprocessError) as error:
        output.write(f"cannot run {command[0]}: {error}\n".encode())
        return Ended(127, time.monotonic() - started)
    assert leader.stdout is not None
    with leader.stdout as pipe:
        os.set_blocking(pipe.fileno(), False)
        try:
            code = _pump(leader, pipe.fileno(), output, started + limit)
            if code is None:
                _stop(leader, pipe.fileno(), output, others)
        finally:
            left = end_descendants(others, STOPPING[-1][2])
            leader.poll()
            _drain(pipe.fileno(), output)
    return Ended(code, time.monotonic() - started, left)


def _in_child() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where this program runs in the background
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core of a process that has mapped a GPU takes long to write
    _LIBC.prctl(_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _pump(leader: subprocess.Popen[bytes], pipe: int, output: Output, until: float) -> int | None:
    """Copy output until the leader ends, whoever else holds the pipe; its exit status, or None when time is up."""
    is_open = True
    while True:
        code = leader.poll()
        if code is not None:
            return code
        left = until - time.monotonic()
        if left <= 0:
            return None
        if not is_open:
            time.sleep(min(left, _POLL))
        elif select.select([pipe], [], [], min(left, _POLL))[0]:
            data = os.read(pipe, _CHUNK)
            output.write(data)
            is_open = bool(data)


def _drain(pipe: int, output: Output) -> None:
    """What the pipe still holds; no more, should someone go on writing."""
    with contextlib.suppress(BlockingIOError):
        for _ in range(16):
            data = os.read(pipe, _CHUNK)
            if not data:
                return
            output.write(data)


def _stop(leader: subprocess.Popen[bytes], pipe: int, output: Output, others: set[int]) -> None:
    for number, all_of_it, seconds in STOPPING[:-1]:
        output.write(f"\n[time is up: {number.name}]\n".encode())
        _send(number, descendants() - others if all_of_it else {leader.pid})
        if _pump(leader, pipe, output, time.monotonic() + seconds) is not None:
            return


def _send(number: signal.Signals, processes: set[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def end_descendants(others: set[int], seconds: float) -> int:
    """Kill all descendants of this process but `others`; how many are left after these seconds."""
    until = time.monotonic() + seconds
    while left := descendants() - others:
        if time.monotonic() > until:
            return len(left)
        _send(signal.SIGKILL, left)
        time.sleep(0.02)
        _reap(left)
    return 0


def _reap(processes: set[int]) -> None:
    for process in processes:
        with contextlib.suppress(ChildProcessError):  # a child of one that is being killed
            os.waitpid(process, os.WNOHANG)


def descendants() -> set[int]:
    """Processes that stem from this one and have not ended."""
    parents = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has just ended
                state, parent = Path(entry.path, "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
                parents[int(entry.name)] = (int(parent), state)
    found: set[int] = set()
    new = {os.getpid()}
    while new:
        new = {process for process, (parent, _) in parents.items() if parent in new} - found
        found |= new
    return {process for process in found if parents[process][1] not in "ZX"}


class Minutes:
    """The stages, one after the other, until the deadline.

    Args:
        seconds: from `started` on, by `clock`; all that this does takes no more.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        folder: Path,
        seconds: float,
        started: float,
        clock: Callable[[], float] = time.monotonic,
        run: Run = run_process,
    ) -> None:
        self.folder, self.clock, self.run_command = folder, clock, run
        self.seconds, self.started = seconds, started
        self.results = [Result(stage, stage.limit) for stage in stages]
        self.contents: dict[str, Any] = {}
        self.faults: list[str] = []

    def run(self) -> bool:
        """Whether every stage passed."""
        self.write_summary()
        with tempfile.TemporaryDirectory(prefix="nasfast-gpu-") as scratch:
            for i, result in enumerate(self.results):
                reason = self._reason_not_to_run(result)
                if reason:
                    result.text = f"not run: {reason}"
                else:
                    self._run_stage(result, Path(scratch) / f"{i}.json")
                self.write_summary()
        return all(result.passed for result in self.results)

    def _room(self) -> float:
        """Seconds that a stage may take now, so that stopping it does not go past the deadline."""
        return self.started + self.seconds - CLOSING - STOP_SECONDS - self.clock()

    def _reason_not_to_run(self, result: Result) -> str:
        built = next((other for other in self.results if other.stage.name == BUILD), None)
        is_later = built is not None and self.results.index(result) > self.results.index(built)
        if built is not None and is_later and not built.passed:
            return "nothing was built"
        room = self._room()
        return f"{max(0.0, room):.0f} s are left for it" if room < min(LEAST, result.stage.limit) else ""

    def _run_stage(self, result: Result, figures: Path) -> None:
        stage = result.stage
        result.limit, result.text = min(stage.limit, self._room()), "runs"
        self.write_summary()
        command = [*fill_in(stage.command), *(["--json", str(figures)] if stage.figures else [])]
        say(f"== {stage.name}: {shlex.join(command)}")
        output = Output(self.folder / stage.log, f"{stage.name}: {shlex.join(command)}")
        began = self.clock()
        try:
            ended = self.run_command(stage, command, result.limit, output)
            result.text, result.seconds = ended.text(), ended.seconds
        except Exception as error:  # of this program or the machine: the next stage may have better luck
            result.text, result.seconds = f"failed, {type(error).__name__}: {error}", self.clock() - began
        except BaseException:
            result.text, result.seconds = "stopped", self.clock() - began
            raise
        finally:
            output.close(result.text)
            self._keep(result, output, figures)

    def _keep(self, result: Result, output: Output, figures: Path) -> None:
        lines = output.lines()
        result.last = lines[-1] if lines else ""
        result.shown = "" if result.passed else "\n".join(lines[-SHOWN_LINES:])
        if output.fault:
            self.faults.append(output.fault)
        if result.stage.figures:
            self._take_figures(result, figures)
        say(f"   {result.text}, {result.seconds or 0:.0f} s: {result.last}")

    def _take_figures(self, result: Result, path: Path) -> None:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            result.figures = {str(name): str(value) for name, value in content["key_figures"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            if result.passed:
                result.text = "failed: it wrote no figures"
            return
        self.contents[result.stage.name] = content
        self._write(FIGURES, json.dumps(self.contents, indent=1) + "\n")

    def write_summary(self) -> None:
        self._write(SUMMARY, "\n".join(self.summary()) + "\n")

    def summary(self) -> Iterator[str]:
        yield "# Some minutes of a GPU"
        yield f"\n{self.clock() - self.started:.0f} s of {self.seconds:.0f} s have passed.\n"
        for fault in dict.fromkeys(self.faults):
            yield f"Could not be written: {fault}\n"
        for result in self.results:
            if result.shown:
                yield f"## {result.stage.name}: {result.text}\n\n```\n{result.shown.replace('```', '...')}\n```\n"
        yield "## Key figures\n"
        yield "| stage | figure | measured |\n|---|---|---|"
        for result in self.results:
            yield from (f"| {result.stage.name} | {cell(n)} | {cell(v)} |" for n, v in result.figures.items())
        yield "\n## Stages\n"
        yield "| stage | result | seconds | limit | last line |\n|---|---|--:|--:|---|"
        for result in self.results:
            took = "-" if result.seconds is None else f"{result.seconds:.0f}"
            yield f"| {result.stage.name} | {cell(result.text)} | {took} | {result.limit:.0f} | {cell(result.last)} |"

    def _write(self, name: str, text: str) -> None:
        """Written beside and renamed, so that a file is whole at any time; a full disk leaves the one before."""
        partial = self.folder / f"{name}.partial"
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.folder / name)
        except OSError as error:
            self.faults.append(f"{name}: {error.strerror}")
            with contextlib.suppress(OSError):
                partial.unlink()


def say(text: str) -> None:
    """On the terminal, if someone still listens."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def cell(text: str) -> str:
    """A text as a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")[:160]


def fill_in(command: Sequence[str]) -> list[str]:
    """`{python}`, and `{traffic}`: the option of the counted bytes where they are, else nothing."""
    traffic = ["--traffic", str(TRAFFIC)] if TRAFFIC.exists() else []
    filled: list[str] = []
    for word in command:
        filled += traffic if word == "{traffic}" else [word.replace("{python}", sys.executable)]
    return filled


def set_environment() -> None:
    """For all stages. What the caller has set stays, but for what makes a test that was skipped pass."""
    count = len(os.sched_getaffinity(0))
    defaults = {"TORCH_CUDA_ARCH_LIST": "9.0", "MAX_JOBS": str(count)}
    os.environ.update({name: os.environ.get(name) or value for name, value in defaults.items()})
    fixed = {"NASFAST_CUDA": "1", "NASFAST_REQUIRE_CUDA": "1", "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    paths = {"PYTHONPATH": (str(ROOT), os.environ.get("PYTHONPATH")), "PATH": (os.environ.get("PATH"), TOOLKIT)}
    os.environ.update(fixed | {name: ":".join(filter(None, parts)) for name, parts in paths.items()})


def prepare(folder: Path, stages: Sequence[Stage]) -> str:
    """Make the folder, without what an earlier run left in it; or what is wrong with it, in a line."""
    own = {SUMMARY, FIGURES, *(stage.log for stage in stages)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = sorted(path.name for path in folder.iterdir() if path.name.removesuffix(".partial") not in own)
        if foreign:
            return f"--out {folder} must be new or hold an earlier run alone, but there is {foreign[0]}"
        for path in folder.iterdir():
            path.unlink()
    except OSError as error:
        return f"--out {folder} must be a folder that can be written: {error.strerror}"
    return ""


def positive(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(text)
    return value


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: what is running is being ended
    raise StoppedError(signal.Signals(number).name)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/gpu.sh", description=__doc__, allow_abbrev=False)
    parser.add_argument("--minutes", type=positive, required=True, metavar="N", help="take no more than this")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for all files: at most eight")
    parser.add_argument("--stages", type=Path, default=STAGES, metavar="FILE", help="another table of stages")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    started = time.monotonic()
    options = parse(arguments)
    try:
        stages = read_stages(options.stages)
    except StageTableError as error:
        print(f"bench/gpu.sh: {error}", file=sys.stderr)
        return 2
    wrong = prepare(options.out, stages)
    if wrong:
        print(f"bench/gpu.sh: {wrong}", file=sys.stderr)
        return 2
    set_environment()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _raise_stopped)
    minutes = Minutes(stages, options.out, 60 * options.minutes, started)
    try:
        passed = minutes.run()
    except StoppedError as stopped:
        minutes.faults.append(f"the stages that wait: {stopped} came")
        passed = False
    minutes.write_summary()
    say("\n" + "\n".join(minutes.summary()))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
