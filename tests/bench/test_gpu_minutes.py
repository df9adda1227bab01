"""bench/gpu.sh --minutes: that it ends in time whatever its stages do, what it writes, and that its table is right."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bench import cuda, gpu_minutes
from bench.gpu_minutes import CLOSING, LEAST, STOP_SECONDS, Ended, Minutes, Output, Stage, StageTableError

ROOT = Path(__file__).resolve().parents[2]
STAGES = gpu_minutes.read_stages()
BY_NAME = {stage.name: stage for stage in STAGES}
HANGS = "import time\ntime.sleep(600)"
DEAF = "import signal\nfor n in (1, 2, 6, 15): signal.signal(n, signal.SIG_IGN)\n" + HANGS
# The process hides: a session of its own, its parent gone, and the stage's pipe kept open.
HIDES = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], start_new_session=True)
while not os.path.exists(sys.argv[2]):
    time.sleep(0.05)
print("hid", flush=True)
"""
WRITES_PID = "import os, sys\nopen(sys.argv[-1], 'w').write(str(os.getpid()))\n"


def write_table(folder: Path, stages: Sequence[Stage]) -> Path:
    """A table of stages, as the program reads it."""
    lines = []
    for stage in stages:
        lines += ["[[stage]]", f"name = {json.dumps(stage.name)}", f"limit = {stage.limit}", f'log = "{stage.log}"']
        lines += [f"command = {json.dumps(shlex.join(stage.command))}", f"figures = {str(stage.figures).lower()}"]
    path = folder / "stages.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def python(name: str, code: str, *arguments: str, limit: float = 20, figures: bool = False) -> Stage:
    return Stage(name, limit, "log.txt", (sys.executable, "-c", code, *arguments), figures)


def script(folder: Path, stages: Sequence[Stage], minutes: float, *before: str) -> list[str]:
    """The command that runs these stages."""
    table = write_table(folder, stages)
    options = ["--minutes", str(minutes), "--out", str(folder / "out"), "--stages", str(table)]
    return [*before, "bash", "bench/gpu.sh", *options]


def run_script(
    folder: Path, stages: Sequence[Stage], minutes: float = 1, *before: str
) -> subprocess.CompletedProcess[bytes]:
    env = os.environ | {"NASFAST_PYTHON": sys.executable}
    return subprocess.run(
        script(folder, stages, minutes, *before),
        cwd=ROOT,
        env=env,
        capture_output=True,
        check=False,
        timeout=60 * minutes,
    )


def results_in(folder: Path) -> dict[str, list[str]]:
    """The cells of every stage's line in the summary."""
    text = (folder / "out/summary.md").read_text(encoding="utf-8").rpartition("## Stages")[2]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| ")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows[1:]}


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_for(what: Callable[[], bool]) -> bool:
    until = time.monotonic() + 20
    while not what() and time.monotonic() < until:
        time.sleep(0.05)
    return what()


def test_stages_fail_in_every_way_and_the_next_one_runs(tmp_path: Path) -> None:
    write = "import json, sys\njson.dump({}, open(sys.argv[2], 'w'))\n".format
    stages = [
        python("exits", "print('before'); raise SystemExit(3)"),
        python("dies", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"),
        python("hangs", HANGS, limit=1),
        python("is deaf", WRITES_PID + DEAF, str(tmp_path / "deaf"), limit=1),
        python("hides one", HIDES, WRITES_PID + DEAF, str(tmp_path / "hidden")),
        python("hides one and hangs", HIDES + HANGS, WRITES_PID + DEAF, str(tmp_path / "hidden too"), limit=2),
        python("floods", "print('first'); print('x' * 99 * 10**5); print('last | line')"),
        python("is silent", ""),
        python("writes bytes", "import sys\nsys.stdout.buffer.write(bytes(range(256)) * 9 + b'\\n\\x1b[2J```end')"),
        python("closes its output", "import os, time\nos.close(1); os.close(2)\ntime.sleep(1)"),
        Stage("is missing", 20, "log.txt", ("/nowhere/program",)),
        python("no figures", "", figures=True),
        python("bad figures", write("[1]"), figures=True),
        python("figures", write({"key_figures": {"a step": "7 ms"}}), figures=True),
    ]
    done = run_script(tmp_path, stages)
    assert done.returncode == 1, done.stderr
    found = results_in(tmp_path)
    assert [(name, cells[0]) for name, cells in found.items()] == [
        ("exits", "failed, exit 3"),
        ("dies", "failed, SIGSEGV"),
        ("hangs", "cut at its limit"),
        ("is deaf", "cut at its limit"),
        ("hides one", "passed"),
        ("hides one and hangs", "cut at its limit"),
        ("floods", "passed"),
        ("is silent", "passed"),
        ("writes bytes", "passed"),
        ("closes its output", "passed"),
        ("is missing", "failed, exit 127"),
        ("no figures", "failed: it wrote no figures"),
        ("bad figures", "failed: it wrote no figures"),
        ("figures", "passed"),
    ]
    assert found["hangs"][3] == "KeyboardInterrupt"  # the last line of where it was
    assert found["floods"][3] == r"last \| line"
    assert found["writes bytes"][3] == "```end"
    for name in ("deaf", "hidden", "hidden too"):
        assert not is_running(int((tmp_path / name).read_text()))
    log = (tmp_path / "out/log.txt").read_bytes()
    assert len(log) < gpu_minutes.HEAD + gpu_minutes.TAIL + 60_000
    assert b"first\n" in log
    assert b"bytes left out]" in log
    assert bytes(range(256)) * 9 in log
    assert json.loads((tmp_path / "out/figures.json").read_text()) == {"figures": {"key_figures": {"a step": "7 ms"}}}
    assert sorted(os.listdir(tmp_path / "out")) == ["figures.json", "log.txt", "summary.md"]
    summary = (tmp_path / "out/summary.md").read_text()
    assert "| figures | a step | 7 ms |" in summary
    assert [line for line in summary.splitlines() if line.startswith("```")] == 12 * ["```"]
    assert done.stdout.decode().rstrip().endswith(summary.rstrip().splitlines()[-1])


def test_a_disk_that_takes_no_more_stops_no_stage(tmp_path: Path) -> None:
    """A limit on the size of files, as a full disk: the log ends there, the summary says so."""
    stages = [python("floods", "print('x' * 500_000); print('end')"), python("next", "print('runs')")]
    done = run_script(tmp_path, stages, 1, "prlimit", "--fsize=100000")
    assert done.returncode == 0, done.stderr
    assert [cells[0] for cells in results_in(tmp_path).values()] == ["passed", "passed"]
    assert "Could not be written: log.txt: File too large" in (tmp_path / "out/summary.md").read_text()


def test_without_its_build_nothing_else_runs(tmp_path: Path) -> None:
    stages = [python("probe", "raise SystemExit(1)"), python("build", "print('no compiler'); raise SystemExit(1)")]
    stages += [python("test", f"open({str(tmp_path / 'ran')!r}, 'w')")]
    assert run_script(tmp_path, stages).returncode == 1
    found = results_in(tmp_path)
    assert [cells[0] for cells in found.values()] == ["failed, exit 1", "failed, exit 1", "not run: nothing was built"]
    assert not (tmp_path / "ran").exists()
    assert "no compiler" in (tmp_path / "out/log.txt").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_whoever_ends_the_script_finds_what_was_done_and_no_process(tmp_path: Path, number: signal.Signals) -> None:
    stages = [python("first", "print('done')"), python("second", WRITES_PID + DEAF, str(tmp_path / "pid"), limit=50)]
    command = script(tmp_path, [*stages, python("third", "")], 1)
    env = os.environ | {"NASFAST_PYTHON": sys.executable}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        assert wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
        running.send_signal(number)
        code = running.wait(30)
    second = int((tmp_path / "pid").read_text())
    assert wait_for(lambda: not is_running(second))
    found = results_in(tmp_path)
    assert found["first"][0] == "passed"
    assert found["third"][0] == "waits"
    if number == signal.SIGTERM:
        assert (code, found["second"][0]) == (1, "stopped")
        assert "SIGTERM came" in (tmp_path / "out/summary.md").read_text()
    else:
        assert (code, found["second"][0]) == (-signal.SIGKILL, "runs")


def test_too_little_time_is_said_and_nothing_started(tmp_path: Path) -> None:
    stages = [python("long", f"open({str(tmp_path / 'ran')!r}, 'w')", limit=60)]
    assert run_script(tmp_path, stages, minutes=0.2).returncode == 1
    assert results_in(tmp_path)["long"][0] == "not run: 0 s are left for it"
    assert not (tmp_path / "ran").exists()


class Clock:
    """Time that passes when a stage runs."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("minutes", [0.1, 0.5, 2, 10])
@pytest.mark.parametrize("wanted", [0.0, 7.0, 45.0, 1e9])
def test_the_deadline_holds_however_long_stages_take(tmp_path: Path, minutes: float, wanted: float) -> None:
    clock = Clock()
    limits: list[float] = []

    def run(stage: Stage, command: Sequence[str], limit: float, output: Output) -> Ended:
        limits.append(limit)
        assert limit <= stage.limit
        is_cut = wanted > limit
        seconds = limit + STOP_SECONDS if is_cut else wanted  # one that is cut takes all it can until it is dead
        clock.now += seconds
        return Ended(None if is_cut or stage.name != "build" else 0, seconds)

    stages = [Stage(s.name, s.limit, s.log, s.command) for s in STAGES]
    run_of_them = Minutes(stages, tmp_path, 60 * minutes, clock.now, clock, run)
    run_of_them.run()
    assert clock.now <= 1000 + max(60 * minutes - CLOSING, 0)
    assert all(limit >= min(LEAST, stage.limit) for limit, stage in zip(limits, stages, strict=False))
    table = list(run_of_them.summary())[-len(stages) :]
    assert len(table) == len(stages)
    assert not any(" waits " in line or " runs " in line for line in table)
    if minutes == 10 and wanted == 0:
        assert len(limits) == len(stages)


def test_a_limit_shrinks_to_what_is_left(tmp_path: Path) -> None:
    clock = Clock()

    def run(stage: Stage, command: Sequence[str], limit: float, output: Output) -> Ended:
        clock.now += limit
        return Ended(0, limit)

    stages = [Stage(str(i), 50, "log.txt", ("true",)) for i in range(3)]
    minutes = Minutes(stages, tmp_path, 100 + CLOSING + STOP_SECONDS - 10, clock.now, clock, run)
    minutes.run()
    assert [result.limit for result in minutes.results] == [50, 40, 50]
    assert [result.text for result in minutes.results] == ["passed", "passed", "not run: 0 s are left for it"]


def test_a_fault_of_the_runner_itself_is_that_of_one_stage(tmp_path: Path) -> None:
    def run(stage: Stage, command: Sequence[str], limit: float, output: Output) -> Ended:
        if stage.name == "first":
            raise RuntimeError("no more | processes")
        return Ended(-40 if stage.name == "second" else 0, 0.0)

    stages = [Stage(name, 50, "log.txt", ("true",)) for name in ("first", "second", "third")]
    minutes = Minutes(stages, tmp_path, 600, 0.0, Clock(), run)
    minutes.started = minutes.clock()
    assert not minutes.run()
    assert [result.text for result in minutes.results] == [
        "failed, RuntimeError: no more | processes",
        "failed, signal 40",
        "passed",
    ]
    assert r"| first | failed, RuntimeError: no more \| processes |" in (tmp_path / "summary.md").read_text()


def test_a_reader_that_goes_away_ends_nothing(tmp_path: Path) -> None:
    stages = [python(name, "print('ran')") for name in ("one", "two")]
    line = shlex.join(script(tmp_path, stages, 1)) + " | true"
    env = os.environ | {"NASFAST_PYTHON": sys.executable}
    subprocess.run(["bash", "-c", line], cwd=ROOT, env=env, stderr=subprocess.DEVNULL, check=True)
    assert [cells[0] for cells in results_in(tmp_path).values()] == ["passed", "passed"]


def test_counted_bytes_are_used_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_minutes, "TRAFFIC", tmp_path / "traffic.json")
    assert gpu_minutes.fill_in(("{python}", "-m", "x", "{traffic}")) == [sys.executable, "-m", "x"]
    (tmp_path / "traffic.json").touch()
    assert gpu_minutes.fill_in(("x", "{traffic}")) == ["x", "--traffic", str(tmp_path / "traffic.json")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes", "10"], "the following arguments are required: --out"),
        (["--out", "x"], "the following arguments are required: --minutes"),
        (["--minutes", "0", "--out", "x"], "argument --minutes: invalid positive value: '0'"),
        (["--minutes", "nan", "--out", "x"], "argument --minutes: invalid positive value: 'nan'"),
        (["--minutes", "1", "--out", "x", "--quick"], "unrecognized arguments: --quick"),
        (["--minutes", "1", "--out", "setup.py"], "--out setup.py must be a folder that can be written: File exists"),
        (["--minutes", "1", "--out", "csrc"], "--out csrc must be new or hold an earlier run alone, but there is "),
        (["--minutes", "1", "--out", "x", "--stages", "setup.py"], "setup.py is no table of stages: "),
    ],
)
def test_bad_options_get_one_clear_line(options: list[str], message: str) -> None:
    env = os.environ | {"NASFAST_PYTHON": sys.executable}
    command = ["bash", "bench/gpu.sh", *options]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert not (ROOT / "x").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no table of stages: 'stage'"),
        ('[[stage]]\nname = "a"\nlimit = 1\nlog = "l"\n', "is no table of stages: 'command'"),
        ('[[stage]]\nname = "a"\nlimit = 1\nlog = "l"\ncommand = "c"\nlimits = 1\n', "unexpected keyword argument"),
        (2 * '[[stage]]\nname = "a"\nlimit = 1\nlog = "l"\ncommand = "c"\n', "every stage needs a name of its own"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(StageTableError, match=message):
        gpu_minutes.read_stages(tmp_path / "t.toml")


def test_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    stages = [python("one", "print('again')")]
    for _ in range(2):
        assert run_script(tmp_path, stages).returncode == 0
    assert (tmp_path / "out/log.txt").read_text().count("again") == 2  # in the command, and said by it


def test_the_files_of_the_real_table_are_few_and_of_plain_names() -> None:
    files = {stage.log for stage in STAGES} | {gpu_minutes.SUMMARY, gpu_minutes.FIGURES}
    assert len(files) <= 7  # and one that is being written
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in files)
    assert STAGES[1].name == gpu_minutes.BUILD
    worst = sum(stage.limit for stage in STAGES[:6])
    assert worst + CLOSING + STOP_SECONDS < 600  # what matters most has its whole limit, whatever goes wrong


def arguments_of(stage: Stage, module: str) -> list[str]:
    command = gpu_minutes.fill_in(stage.command)
    return command[command.index(module) + 1 :]


BENCHES = [(s, w) for s in STAGES for w in s.command if w.startswith("bench.")]


@pytest.mark.parametrize(("stage", "module"), BENCHES, ids=lambda x: getattr(x, "name", x))
def test_every_bench_takes_the_options_of_its_stage(
    stage: Stage, module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cuda, "missing", lambda: None)  # so that --device cuda is taken here too
    bench = importlib.import_module(module)
    options = bench.parse([*arguments_of(stage, module), "--json", str(tmp_path / "f.json")])
    assert options.device == "cuda"
    assert stage.figures or stage.log == "ncu.txt"
    with pytest.raises(SystemExit) as left:
        bench.parse(["--help"])
    assert left.value.code == 0


def test_scripts_that_run_before_the_build_import_nothing_of_it() -> None:
    """Isolated from installed packages: no torch, no nasfast."""
    for name in ("gpu_minutes", "gpu_build", "gpu_probe"):
        code = f"import runpy, sys\nrunpy.run_path('bench/{name}.py')\nassert 'torch' not in sys.modules"
        subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=ROOT, check=True)
    scripts = [stage.command[-2:] for stage in STAGES[:2]]
    assert scripts == [("-P", "bench/gpu_probe.py"), ("-P", "bench/gpu_build.py")]


@pytest.mark.without_gpu
def test_the_probe_tells_what_there_is_and_that_there_is_no_gpu() -> None:
    command = gpu_minutes.fill_in(BY_NAME["probe"].command)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert f"Python {sys.version.split()[0]}" in done.stdout
    assert done.stdout.splitlines()[-1] == "torch can use no GPU"


COLLECT = """
import importlib, json, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"optuna", "ray", "playwright", "selenium"}:
            raise ImportError(f"{name} is missing here")
sys.meta_path.insert(0, Blocker())
import pytest
class Counter:
    def pytest_collection_finish(self, session):
        self.files = [item.nodeid.partition("::")[0] for item in session.items]
modules, stages = json.loads(sys.argv[1])
for module in modules:
    importlib.import_module(module)
for arguments in stages:
    counter = Counter()
    code = pytest.main(["--collect-only", "-qq", *arguments], plugins=[counter])
    print("COLLECTED", json.dumps([int(code), counter.files]))
"""
TESTS = [stage for stage in STAGES if "pytest" in stage.command]


def test_tests_and_benches_of_the_table_load_without_what_the_machine_lacks() -> None:
    """Files exist, collect without optuna and Ray, and each has a test that a stage runs."""
    stages = []
    for stage in TESTS:
        words = arguments_of(stage, "pytest")
        for option in ("-n", "--timeout"):  # of plugins
            if option in words:
                del words[words.index(option) : words.index(option) + 2]
        stages.append(words)
    given = json.dumps([sorted({module for _, module in BENCHES}), stages])
    command = [sys.executable, "-c", COLLECT, given]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    found = [json.loads(line.partition(" ")[2]) for line in done.stdout.splitlines() if line.startswith("COLLECTED")]
    assert len(found) == len(TESTS), done.stdout + done.stderr
    for (code, files), words in zip(found, stages, strict=True):
        assert code == 0, done.stdout
        assert set(files) == {word for word in words if word.endswith(".py")}
    deselected = [word for stage in TESTS for word in stage.command if "::" in word]
    for node in deselected:
        path, _, name = node.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text()
