"""The command line: what it prints, and one clear line and an exit code for everything that is wrong."""

import dataclasses
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import nasfast
from nasfast.cli import commands
from nasfast.cli.app import app
from nasfast.cli.group import COMMANDS
from nasfast.cli.options import COMMON, KINDS
from nasfast.config.base import option_name
from nasfast.config.data import DataOptions
from nasfast.data import load_data
from nasfast.errors import NasfastError
from nasfast.nn.primitives import build_primitive
from nasfast.report import build_report
from nasfast.runs.checkpoint import FORMAT
from nasfast.runs.metrics import MetricsLog
from nasfast.search.gradient.runner import run_gradient
from nasfast.search.inputs import load_run_data
from nasfast.spaces.registry import make_space
from nasfast.strategies.registry import make_strategy
from nasfast.utils.progress import Progress
from tests.helpers.paths import GOLDEN
from tests.helpers.runs import tiny_config, tiny_options
from tests.helpers.sealed import write_sealed

RUNNER = CliRunner()
ARCH = "|nor_conv3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|none~2|"
NB201 = str(GOLDEN / "nasbench201_slice.npz")


def invoke(*arguments):
    return RUNNER.invoke(app, [str(argument) for argument in arguments])


def expect_error(message, *arguments, code=1):
    """One line on stderr that says it, nothing on stdout, the exit code."""
    result = invoke(*arguments)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("read images:")]
    assert result.exit_code == code, result.output
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("nasfast: error: ")
    assert message in lines[0]
    assert result.stdout == ""


def write_images(folder, classes=("cat", "dog"), count=4, size=(8, 8)):
    generator = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with both retrainings."""
    run = tmp_path_factory.mktemp("finished") / "run"
    run_gradient(tiny_config(), run)
    build_report(run)
    return run


@pytest.fixture
def unfinished(finished, tmp_path):
    """A run whose search stage is over, to be damaged."""
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.json", "data.json", "checkpoint.pt", "genotype.json", "metrics.jsonl", "metrics.jsonl.end"):
        (run / name).write_bytes((finished / name).read_bytes())
    MetricsLog(run / "metrics.jsonl").drop(lambda row: row["kind"] == "result")
    return run


def help_of(*arguments):
    result = RUNNER.invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def options_in(text):
    """The long options that a help text lists, without their negation."""
    return set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", text[text.index("Options:\n") :], re.MULTILINE))


def test_help_shows_what_most_people_need_and_names_the_rest():
    shown = options_in(help_of("search", "--help"))
    own = {"--out", "--resume", "--config", "--quiet", "--help-for", "--help"}
    assert shown == {option_name(name) for name in COMMON} | own
    assert "gradient (" in help_of("search", "--help")
    for command in ("search", "compare", "retrain", "evaluate", "export", "report", "info"):
        assert command in help_of("--help")
        assert help_of(command, "-h")


@pytest.mark.parametrize("kind", KINDS)
def test_help_for_a_kind_lists_its_options_and_no_other(kind):
    text = help_of("search", "--help-for", kind)
    own = {option_name(f.name) for f in dataclasses.fields(KINDS[kind])}
    of_every_run = {"--out", "--resume", "--config", "--quiet", "--plugin", "--help-for", "--help"}
    assert options_in(text) - of_every_run - {"--measure-speed"} == own
    assert ("--measure-speed" in text) == (kind == "gradient")
    if kind == "gradient":
        assert "Learning rate of the weights in the first epoch. Default: 0.025; pcdarts 0.1" in " ".join(text.split())


@pytest.mark.parametrize(
    ("kind", "name", "default"),
    [
        ("gradient", "epochs", "50; digits 30; a folder on a CPU 30"),
        ("oneshot", "epochs", "100; digits 30"),
        ("oneshot", "lr", "0.05"),
        ("oneshot", "strategy", "spos"),
        ("blackbox", "strategy", "regularized-evolution"),
        ("blackbox", "lr", "0.025"),
    ],
)
def test_help_for_a_kind_shows_the_defaults_of_that_kind(kind, name, default):
    text = " ".join(help_of("search", "--help-for", kind).split())
    shown = re.search(rf" --{name} [A-Z].*?Default: (.+?)\.(?: |$)", text)
    assert shown is not None
    assert shown[1] == default


def test_the_list_of_commands_says_what_their_own_help_says_first():
    context = click.Context(app)
    for name, text in COMMANDS.items():
        command = app.get_command(context, name)
        assert command is not None
        assert " ".join(command.help.split("\n\n")[0].split()) == text
    assert {path.stem for path in Path(commands.__file__).parent.glob("[a-z]*.py")} == set(COMMANDS)


def test_help_for_a_kind_leaves_the_plain_help_as_it_is():
    before = help_of("search", "--help")
    help_of("search", "--help-for", "oneshot")
    assert help_of("search", "--help") == before


@pytest.mark.parametrize("columns", [60, 120])
@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS), ["search", "--help-for", "oneshot"]])
def test_help_keeps_to_the_width_and_breaks_no_name(arguments, columns):
    ask = [] if "--help-for" in arguments else ["--help"]
    command = [sys.executable, "-m", "nasfast", *arguments, *ask]
    text = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "COLUMNS": str(columns)}, check=True
    ).stdout
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= min(columns, 100)
    table = text[text.index("Options:\n") :]
    assert not re.search(r"\w-$", table, re.MULTILINE)
    if arguments[:1] == ["search"]:
        titles = [line for line in lines if re.fullmatch(r"[A-Z][a-z ]+:", line)]
        assert titles[0] == "Options:"
        assert {"Data:", "Run:", "Weights:"} < set(titles)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nobody_reads_any_more_is_no_error(unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "nasfast", "info"],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_interrupt_before_the_command_runs_is_one_line():
    code = (
        "import signal, sys\n"
        "class Interrupting:\n"
        "    @staticmethod\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'nasfast.cli.commands.report':\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting)\n"
        "from nasfast.cli.app import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code, "report", "run"], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.strip() == "nasfast: error: interrupted"


@pytest.mark.parametrize(
    ("arguments", "close"),
    [
        (["serch"], "did you mean search?"),
        (["search", "--epohcs", "3"], "--epochs"),
        (["search", "--epochs", "many"], "'many' is not a valid integer. See `nasfast search --help`."),
        (["search", "--epochs"], "'--epochs' requires an argument. See `nasfast search --help`."),
        (["report", "run", "extra"], "unexpected extra argument (extra). See `nasfast report --help`."),
        (["report"], "Missing argument 'RUN'. See `nasfast report --help`."),
        (["predict", "run"], "Missing argument 'INPUT...'. See `nasfast predict --help`."),
        (["--debug"], "Missing command. See `nasfast --help`."),
        (["search", "--help-for", "gradeint"], "did you mean gradient?"),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_was_meant(arguments, close):
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("nasfast: error: ")
    assert close in result.stderr


@pytest.mark.parametrize(
    ("arguments", "close"),
    [
        (["--strategy", "dartz"], "did you mean darts?"),
        (["--space", "nasbench202"], "did you mean nasbench201?"),
        (["--space", "nasbench201", "--estimator", "oneshoot"], "did you mean oneshot?"),
        (["--data", "digit"], "did you mean digits?"),
        (["--device", "cdua"], "did you mean cuda?"),
        (["--guard", "cop"], "did you mean cap?"),
        (["--space", "nasbench201", "--strategy", "spos", "--sampler", "unifrom"], "did you mean uniform?"),
        (["--space", "nasbench201", "--strategy", "spos", "--search", "nsga"], "did you mean nsga2?"),
        (["--space", "nasbench201", "--space-set", "chanels=3", "--estimator", "zero-cost"], "did you mean channels?"),
        (["--space", "nasbench201", "--estimator", "zero-cost", "--set", "popluation=3"], "did you mean population?"),
        (["--space", "nasbench201", "--estimator", "zero-cost", "--proxy", "synflw"], "did you mean synflow?"),
        (["--space", "nasbench201", "--estimator", "train", "--tune", "momentun=0.9"], "did you mean momentum?"),
        (["--space", "nasbench201", "--estimator", "zero-cost", "--objective", "parms"], "did you mean params?"),
        (["--space", "nasbench201", "--table", NB201, "--table-data", "cifar-100"], "did you mean cifar10?"),
    ],
)
def test_an_unknown_name_gets_a_suggestion(arguments, close, tmp_path):
    result = invoke("search", *arguments, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert close in result.stderr


def test_an_unknown_label_gets_a_suggestion(finished):
    expect_error("did you mean derived?", "evaluate", finished, "--label", "derivd", "--quiet")


def test_unknown_names_in_python_get_a_suggestion():
    space = make_space("nasbench-macro")
    names = [decision.name for decision in space.decisions]
    for call, close in (
        (lambda: make_strategy("regularized-evolution", {"popluation": 5}), "did you mean population?"),
        (lambda: make_strategy("bayesian", {"predictor": "ensembl"}), "did you mean ensemble?"),
        (lambda: space.row_of(dict.fromkeys(names, "identity") | {f"{names[0]}s": 0}), f"did you mean {names[0]}?"),
        (
            lambda: make_space("nasbench201").encode(ARCH),
            "did you mean nor_conv_3x3?",
        ),
        (lambda: build_primitive("sep_conv33", 4, 1, False), "did you mean sep_conv_3x3?"),
    ):
        with pytest.raises(NasfastError, match=re.escape(close)):
            call()


def test_a_search_says_how_long_a_step_takes_in_plain_pytorch(tmp_path):
    result = invoke("search", *tiny_options(retrain=False), "--measure-speed", "--quiet", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    found = re.search(
        r"^speed      a search step takes (\d+) ms here, and (\d+) ms in plain PyTorch: ([\d.]+) times",
        result.stdout,
        re.M,
    )
    assert found is not None, result.stdout
    assert all(float(number) > 0 for number in found.groups())


def test_version():
    assert help_of("--version") == f"nasfast {nasfast.__version__}\n"


def test_search_prints_the_derived_network_beside_the_random_one(tmp_path):
    result = invoke("search", *tiny_options(), "--out", tmp_path / "run", "--quiet")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "searched   2 epochs"
    assert lines[1].startswith("genotype   Genotype(normal=[(")
    assert [line.split()[0] for line in lines[3:5]] == ["derived", "random"]
    assert lines[5] == f"report     {tmp_path}/run/report.html"


def test_progress_is_plain_lines_where_there_is_no_terminal(tmp_path):
    result = invoke("search", *tiny_options(retrain=False), "--out", tmp_path / "run")
    assert "search: 10/10" in result.stderr
    assert "step/s" in result.stderr


def test_config_file_and_options_over_it(tmp_path):
    (tmp_path / "a.toml").write_text('data = "digits"\nepochs = 7\nbatch-size = 16\n')
    (tmp_path / "b.json").write_text(json.dumps({"epochs": 7, "lr": 1}))
    for name, values in (("a.toml", {"batch_size": 16}), ("b.json", {"lr": 1.0})):
        out = tmp_path / f"run-{name}"
        options = tiny_options(retrain=False)
        for option in ("--batch-size", "--epochs"):
            at = options.index(option)
            del options[at : at + 2]
        result = invoke("search", *options, "--config", tmp_path / name, "--out", out, "--epochs", 1, "--quiet")
        assert result.exit_code == 0, result.output
        stored = json.loads((out / "config.json").read_text())["search"]
        assert stored["epochs"] == 1
        assert stored | values == stored


def test_run_config_repeats_a_run(finished, tmp_path):
    config = finished / "config.json"
    result = invoke("search", "--config", config, "--no-retrain", "--out", tmp_path / "again", "--quiet")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "again" / "genotype.json").read_bytes() == (finished / "genotype.json").read_bytes()


def test_default_run_folder_is_a_free_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert invoke("search", *tiny_options(retrain=False, epochs=1), "--quiet").exit_code == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["digits-darts", "digits-darts-2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 'many'", "setting 'epochs' must be of type int, got 'many'"),
        ("epoch = 3", "unknown setting 'epoch'; did you mean 'epochs'?"),
        ("epochs = [", "is not valid TOML"),
        (" ", "c.toml is empty: expected settings by name"),
        ("a = " + "[" * 100_000, "c.toml is nested too deep"),
        ("search = [1]", "search must hold settings by name, got [1]"),
        ("space = 'nasbench201'\nspace_set = 5", "--space-set must be a list of texts NAME=VALUE, got 5"),
        ("space = 'nasbench201'\nspace_set = [5]", "--space-set must be a list of texts NAME=VALUE, got [5]"),
    ],
)
def test_bad_config_file(tmp_path, text, message):
    (tmp_path / "c.toml").write_text(text)
    expect_error(message, "search", "--config", tmp_path / "c.toml", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64, 2**127])
def test_a_seed_out_of_range_is_one_line(seed, finished, tmp_path):
    message = f"seed must be 0 to {2**63 - 1}, got {seed}"
    expect_error(f"--{message}", "search", f"--seed={seed}", "--out", tmp_path / "run")
    expect_error(f"--{message}", "compare", f"--seed={seed}", "--out", tmp_path / "run")
    expect_error(message, "retrain", finished, f"--seed={seed}", "--label", "other", "--quiet")
    folder = write_images(tmp_path / "images")
    with pytest.raises(NasfastError, match=message):
        load_data(str(folder), seed=seed)


def test_the_largest_seed_is_one(tmp_path):
    folder = write_images(tmp_path / "images")
    result = nasfast.run_search(out=tmp_path / "run", space="nasbench201", strategy="random", estimator="zero-cost",
                                data=str(folder), evaluations=1, proxy_images=4, seed=2**63 - 1, threads=1)  # fmt: skip
    assert result is not None


@pytest.mark.parametrize(
    ("threads", "message"),
    [
        (4096, f"--threads must be at most {os.cpu_count()}, the processors of this machine, got 4096"),
        (10**9, "--threads must be 0 to 4096, got 1000000000"),
    ],
)
def test_more_threads_than_processors_are_refused(threads, message, tmp_path):
    for more in (
        [],
        ["--space", "nasbench201", "--estimator", "zero-cost"],
        ["--space", "nasbench201", "--strategy", "spos"],
    ):
        expect_error(message, "search", *more, "--threads", threads, "--quiet", "--out", tmp_path / "run")
    expect_error(message, "compare", "--threads", threads, "--quiet", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_config_file_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "c.toml").write_text("epochs = 0", encoding="utf-8-sig")
    (tmp_path / "c.json").write_text('{"epochs": 0}', encoding="utf-8-sig")
    for name in ("c.toml", "c.json"):
        expect_error("--epochs must be at least 1, got 0", "search", "--config", tmp_path / name)


def test_missing_config_file(tmp_path):
    expect_error("config file: cannot read ", "search", "--config", tmp_path / "gone.json")


def test_bad_data_writes_nothing(tmp_path):
    out = ("--out", tmp_path / "run")
    expect_error("gone does not exist; expected digits, cifar10", "search", "--data", tmp_path / "gone", *out)
    (tmp_path / "empty").mkdir()
    expect_error("empty holds no images; expected one folder", "search", "--data", tmp_path / "empty", *out)
    one = write_images(tmp_path / "one", classes=["cat"])
    expect_error("holds one class (cat)", "search", "--data", one, *out)
    expect_error("--image-size goes with an image folder", "search", "--data", "digits", "--image-size", 16, *out)
    odd = write_images(tmp_path / "odd", size=(16, 16), count=20)
    expect_error(
        "images of 10x10 pixels do not go through", "search", "--data", odd, "--image-size", 10, "--quiet", *out
    )
    few = write_images(tmp_path / "few", count=2)
    expect_error("there are 2 images to learn from; a search needs more", "search", "--data", few, *out)
    late = ("--retrain-layers", 20, "--image-size", 4, "--layers", 2, "--quiet")
    expect_error("the auxiliary head needs images of at least 8x8", "search", "--data", odd, *late, *out)
    expect_error("CIFAR-10 is not in", "search", "--data", "cifar10", "--data-root", tmp_path / "root", *out)
    assert not (tmp_path / "run").exists()


def test_corrupt_image_is_named_and_skipped_only_on_request(tmp_path):
    data = write_images(tmp_path / "data", count=40)
    bad = data / "dog" / "17.png"
    for name in ("17", "18", "20", "21", "22"):
        bad.with_name(f"{name}.png").write_bytes(bad.read_bytes()[:60])
    options = tiny_options(data=data, batch_size=8, retrain=False, epochs=1)
    expect_error("cannot read image ", "search", *options, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    result = invoke("search", *options, "--skip-bad", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "left out 5 unreadable images, " in result.stderr


def test_no_line_carries_control_characters_of_a_file_name(tmp_path, capsys):
    folder = write_images(tmp_path / "images")
    (folder / "cat" / "\x1b[31m\udc80.png").write_bytes(b"no image")
    options = ["--data", folder, *tiny_options(retrain=False, epochs=1)[2:], "--quiet"]
    expect_error(r"/cat/\x1b[31m\udc80.png: not an image", "search", *options, "--out", tmp_path / "run")
    expect_error(r"\x1b[2J", "search", *options, "--skip-bad", "--config", tmp_path / "\x1b[2J.json")
    load_run_data(DataOptions(data=str(folder), skip_bad=True), Progress())
    told = capsys.readouterr().err
    assert r"left out 1 unreadable image, " in told
    assert r"\x1b[31m\udc80.png is the first" in told
    assert "\x1b" not in told


def test_run_folder_that_exists(finished, tmp_path):
    before = {path.name: path.stat().st_mtime_ns for path in finished.iterdir()}
    expect_error(f"exists already; continue it with --resume {finished}", "search", *tiny_options(), "--out", finished)
    assert {path.name: path.stat().st_mtime_ns for path in finished.iterdir()} == before


def test_wrong_usage_is_exit_code_2(finished):
    assert invoke("search", "--epochs", "many").exit_code == 2
    assert invoke("search", "--no-such-option").exit_code == 2
    result = invoke("search", "--resume", finished, "--epochs", 3)
    assert result.exit_code == 2
    assert "leave out --epochs" in " ".join(result.stderr.split())
    expect_error("--strategy must be one of darts, pcdarts, gdas, snas, drnas, spos", "search", "--strategy", "enos")


def test_resume_of_nothing(tmp_path):
    expect_error("no run folder at", "search", "--resume", tmp_path / "gone")
    expect_error("is no run folder: it has no config.json", "search", "--resume", tmp_path)


def test_resume_with_damaged_checkpoints(unfinished):
    path = unfinished / "checkpoint.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    expect_error("checkpoint.pt is truncated or damaged", "search", "--resume", unfinished)
    torch.save({"format": FORMAT + 1, "nasfast": "9.9", "kind": "search"}, path)
    expect_error(f"has checkpoint format {FORMAT + 1} (nasfast 9.9)", "search", "--resume", unfinished)
    path.write_bytes(pickle.dumps({"format": FORMAT, "kind": "search", "code": os.system}))
    expect_error("holds pickled Python code, which nasfast never loads", "search", "--resume", unfinished)
    path.unlink()
    expect_error("no checkpoint at", "search", "--resume", unfinished)
    (unfinished / "config.json").write_text('{"format": 99}')
    expect_error("has format 99", "search", "--resume", unfinished)


@pytest.mark.parametrize("command", [["search", "--resume"], ["report"], ["evaluate"], ["retrain"], ["export"]])
def test_run_of_an_older_version_is_refused(unfinished, command):
    """Its scores are in percent, and those that are added would be fractions."""
    config = json.loads((unfinished / "config.json").read_text())
    (unfinished / "config.json").write_text(json.dumps(config | {"format": 1, "nasfast": "0.1.0"}))
    before = {path.name: path.read_bytes() for path in unfinished.iterdir() if path.is_file()}
    expect_error(f"config.json has format 1 (nasfast 0.1.0); this nasfast {nasfast.__version__}", *command, unfinished)
    after = {path.name: path.read_bytes() for path in unfinished.iterdir() if path.is_file()}
    assert {name: after[name] for name in before} == before


def test_genotype_with_an_unknown_primitive(unfinished):
    text = (unfinished / "genotype.json").read_text()
    for name in ("sep_conv_3x3", "max_pool_3x3", "skip_connect", "avg_pool_3x3", "dil_conv_3x3", "sep_conv_5x5"):
        text = text.replace(name, "conv_9x9")
    write_sealed(unfinished / "genotype.json", json.loads(text))
    expect_error("unknown primitive 'conv_9x9'; expected one of none, max_pool_3x3", "retrain", unfinished, "--quiet")
    assert not list(unfinished.glob("retrain-*"))


def test_evaluate_repeats_the_retraining_result(finished):
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if row["kind"] == "result":
            result = invoke("evaluate", finished, "--label", row["label"], "--quiet")
            assert result.stdout == (
                f"{row['label']}: test accuracy {100 * row['test_acc']:.2f} %, test loss {row['test_loss']:.4f}\n"
            )


def test_retrain_with_another_name_and_inherited_weights(finished, unfinished):
    result = invoke("retrain", unfinished, "--label", "warm", "--inherit", "--epochs", 1, "--no-auxiliary", "--quiet")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].split()[0] == "warm"
    assert (unfinished / "model-warm.safetensors").is_file()
    assert invoke("evaluate", unfinished, "--label", "warm", "--quiet").exit_code == 0
    expect_error("derived", "evaluate", unfinished, "--quiet")


def test_export_writes_a_checked_file(finished, tmp_path):
    result = invoke("export", finished, "--format", "pt2", "--out", tmp_path / "net.pt2")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"wrote {tmp_path}/net.pt2; its outputs differ from PyTorch's by at most")
    expect_error("--format must be one of onnx, pt2, got 'caffe'", "export", finished, "--format", "caffe")


def test_report_is_written_again(finished):
    (finished / "report.html").unlink()
    assert invoke("report", finished).stdout == f"{finished}/report.html\n"
    assert (finished / "report.html").is_file()


def test_info_shows_versions_and_build():
    text = invoke("info").stdout
    for word in ("torch", "threads", "cuda", "extension isa"):
        assert word in text
    assert json.loads(invoke("info", "--json").stdout)["torch"] == torch.__version__


def test_debug_shows_the_traceback(tmp_path):
    result = invoke("--debug", "search", "--resume", tmp_path / "gone")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr


def test_full_disk_in_a_real_process(tmp_path):
    """Writes beyond 64 KiB fail: the first checkpoint is not made, nothing half-written stays, the run can go on."""
    limited = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)); from nasfast.cli.app import main; main()"
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", limited, "search", *tiny_options(), "--out", str(run), "--quiet"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 1
    assert done.stderr == f"nasfast: error: cannot write {run}/checkpoint.pt: File too large\n"
    assert sorted(path.name for path in run.iterdir()) == [".lock", "config.json"]
    assert invoke("search", "--resume", run, "--quiet").exit_code == 0
