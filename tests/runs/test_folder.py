"""Run folders: what is written is whole or absent, what is damaged is refused with a line that names it."""

import json
import os
import pickle
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch

from nasfast.errors import RunError
from nasfast.runs.checkpoint import FORMAT, CheckpointError, load_checkpoint, save_checkpoint
from nasfast.runs.folder import RunFolder
from nasfast.runs.metrics import MetricsLog
from nasfast.search.blackbox.found import logged_trials
from nasfast.training.record import drop_rows
from nasfast.utils.files import atomic_write
from tests.helpers.require import require


@contextmanager
def small_files():
    """Limit every file this process writes to 4 KiB: the write that crosses it fails with a real OSError, half done.

    Held around single calls only: what pytest itself writes is under the limit too.
    """
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def test_atomic_write_takes_text_bytes_and_a_function(tmp_path):
    for content in ("héllo", "héllo".encode(), lambda file: file.write("héllo".encode())):
        path = tmp_path / "file"
        path.unlink(missing_ok=True)
        atomic_write(path, content)
        assert path.read_text(encoding="utf-8") == "héllo"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "file"
    atomic_write(path, b"old")
    with small_files(), pytest.raises(RunError, match=r"cannot write .*file: File too large"):
        atomic_write(path, b"x" * 10_000)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_write_into_a_missing_folder_names_the_file(tmp_path):
    with pytest.raises(RunError, match=r"cannot write .*gone/file: No such file"):
        atomic_write(tmp_path / "gone" / "file", b"")


def test_failed_checkpoint_keeps_the_previous_one(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, "search", {"step": 1})
    with small_files(), pytest.raises(RunError, match="cannot write"):
        save_checkpoint(path, "search", {"step": 2, "weights": torch.zeros(4096)})
    assert load_checkpoint(path, "search")["step"] == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_failed_metrics_row_leaves_whole_rows_only(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"kind": "epoch", "epoch": 0})
    with small_files(), pytest.raises(RunError, match=r"cannot write .*metrics.jsonl"):
        log.append({"kind": "epoch", "text": "x" * 8000})
    assert list(log.rows()) == [{"kind": "epoch", "epoch": 0}]
    log.append({"kind": "epoch", "epoch": 1})
    assert [row["epoch"] for row in log.rows()] == [0, 1]


FULL_DISK = """
import sys, pathlib, torch
from nasfast.runs.checkpoint import load_checkpoint, save_checkpoint
from nasfast.errors import RunError
path = pathlib.Path(sys.argv[1]) / "checkpoint.pt"
save_checkpoint(path, "search", {"step": 1})
try:
    save_checkpoint(path, "search", {"step": 2, "weights": torch.zeros(1_000_000)})
except RunError as error:
    print(error)
print(load_checkpoint(path, "search")["step"], [p.name for p in path.parent.iterdir()])
"""


def on_small_disk(tmp_path, program):
    """Run it with a 1 MiB tmpfs in a private mount namespace, at ``tmp_path``."""
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    script = f'mount -t tmpfs -o size=1m none "{tmp_path}" && exec "{sys.executable}" -c "$0" "{tmp_path}"'
    probe = subprocess.run([*mount, f'mount -t tmpfs -o size=1m none "{tmp_path}"'], capture_output=True)
    if probe.returncode != 0:
        pytest.skip("mounting a tmpfs needs user namespaces")
    return subprocess.run([*mount, script, program], capture_output=True, text=True, env={**os.environ})


def test_really_full_disk(tmp_path):
    done = on_small_disk(tmp_path, FULL_DISK)
    assert done.stdout.splitlines() == [
        f"cannot write {tmp_path}/checkpoint.pt: No space left on device",
        "1 ['checkpoint.pt']",
    ], done.stderr


FULL_TENSORBOARD = """
import os, sys, pathlib
from nasfast.errors import RunError
from nasfast.runs.folder import RunFolder
with RunFolder.create(pathlib.Path(sys.argv[1]) / "run", {}) as run:
    run.log_scalars(0, {"loss": 1.0})
    with open(run.path / "ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            pass
    try:
        for step in range(1, 1000):
            run.log_scalars(step, {"loss": 1.0})
    except RunError as error:
        print(error)
"""


def test_a_disk_that_is_full_of_numbers_is_one_line(tmp_path):
    """Written by a thread of TensorBoard's own, it was a traceback and no error."""
    require("tensorboard")
    done = on_small_disk(tmp_path, FULL_TENSORBOARD)
    assert done.stdout == f"cannot write {tmp_path}/run/tensorboard: No space left on device\n", done.stderr
    assert done.stderr == ""
    assert done.returncode == 0


def test_the_length_of_a_log_that_a_full_disk_left_empty_is_that_of_no_rows(tmp_path):
    log, length = MetricsLog(tmp_path / "metrics.jsonl"), tmp_path / "metrics.jsonl.end"
    length.touch()
    log.append({"epoch": 1})
    assert [row["epoch"] for row in log.rows()] == [1]
    length.write_bytes(b"")
    with pytest.raises(RunError, match=r"metrics.jsonl.end is missing or empty"):
        list(log.rows())


def test_metrics_are_json_and_can_be_cut_back(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"loss": float("nan"), "alphas": [[0.5, float("inf")]]})
    position = log.position
    log.append({"epoch": 1})
    log.truncate(position)
    assert list(log.rows()) == [{"loss": None, "alphas": [[0.5, None]]}]
    with pytest.raises(CheckpointError, match="shorter"):
        log.truncate(position + 1)


def test_reading_metrics_leaves_out_a_row_that_was_cut(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"epoch": 0})
    with open(log.path, "a") as file:
        file.write('{"epoch": 1, "lo')
    assert list(log.rows()) == [{"epoch": 0}]


def test_checkpoint_round_trip_is_exact(tmp_path):
    path = tmp_path / "checkpoint.pt"
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    save_checkpoint(path, "search", {"weight": weight, "nested": {"list": [1, 2.5, "a", None]}})
    back = load_checkpoint(path, "search")
    assert torch.equal(back["weight"], weight)
    assert back["weight"].stride() == weight.stride()
    assert back["nested"] == {"list": [1, 2.5, "a", None]}
    assert back["format"] == FORMAT


def test_missing_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*checkpoint.pt"):
        load_checkpoint(tmp_path / "checkpoint.pt", "search")


def test_no_bit_of_a_checkpoint_changes_what_is_read(tmp_path):
    path, kept = tmp_path / "checkpoint.pt", {"w": torch.arange(20.0), "d": {"step": 3, "text": "abc"}}
    save_checkpoint(path, "search", kept)
    content = path.read_bytes()
    refused = 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            read = load_checkpoint(path, "search")
        except CheckpointError:
            refused += 1
            continue
        assert torch.equal(read["w"], kept["w"])
        assert read["d"] == kept["d"]
    assert refused > 0.9 * len(content)


def test_a_checkpoint_without_a_checksum_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"format": FORMAT, "kind": "search", "step": 3}, path)
    with pytest.raises(CheckpointError, match="is damaged: it has no checksum"):
        load_checkpoint(path, "search")


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, -1])
def test_truncated_checkpoint(tmp_path, keep):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, "search", {"weights": torch.arange(1000)})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path, "search")


def test_checkpoint_of_another_version_or_kind(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"format": FORMAT + 1, "nasfast": "9.9", "kind": "search"}, path)
    with pytest.raises(CheckpointError, match=rf"format {FORMAT + 1} \(nasfast 9.9\).*reads format {FORMAT}"):
        load_checkpoint(path, "search")
    save_checkpoint(path, "retrain", {})
    with pytest.raises(CheckpointError, match="of kind 'retrain', expected 'search'"):
        load_checkpoint(path, "search")
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="no format version"):
        load_checkpoint(path, "search")


class Bomb:
    """Touches a file when unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.parametrize("how", ["torch", "legacy", 0, 2, 4])
def test_pickled_code_is_refused_and_never_run(tmp_path, how):
    path, target = tmp_path / "checkpoint.pt", tmp_path / "executed"
    content = {"format": FORMAT, "kind": "search", "bomb": Bomb(target)}
    if how == "torch":
        torch.save(content, path)
    elif how == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(content, protocol=how))
    with pytest.raises(CheckpointError, match="holds pickled Python code"):
        load_checkpoint(path, "search")
    assert not target.exists()


def test_run_folder_that_exists(tmp_path):
    with RunFolder.create(tmp_path / "run", {"search": {}}):
        pass
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(RunError, match=r"run folder .*run exists already; continue it with --resume .*run, or choose"):
        RunFolder.create(tmp_path / "run", {"search": {"epochs": 3}})
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="exists already; choose another --out"):
        RunFolder.create(tmp_path / "file", {})


def test_run_folder_in_use(tmp_path):
    with RunFolder.create(tmp_path / "run", {}), pytest.raises(RunError, match="in use by another process"):
        RunFolder.open(tmp_path / "run")
    RunFolder.open(tmp_path / "run").close()


def test_run_folder_that_cannot_be_made_leaves_nothing(tmp_path):
    with small_files(), pytest.raises(RunError, match=r"cannot write .*config.json"):
        RunFolder.create(tmp_path / "run", {"text": "x" * 8000})
    assert not (tmp_path / "run").exists()


def test_open_says_what_is_missing(tmp_path):
    with pytest.raises(RunError, match="no run folder at"):
        RunFolder.open(tmp_path / "gone")
    with pytest.raises(RunError, match=r"no config\.json"):
        RunFolder.open(tmp_path)


def test_run_of_an_older_version_is_refused(tmp_path):
    """Version 1 had scores in percent: going on with it would mix two units."""
    assert FORMAT > 1
    older = {"format": 1, "nasfast": "0.1.0"}
    with RunFolder.create(tmp_path / "run", {}) as run:
        run.config_path.write_text(json.dumps(older | {"blackbox": {}}))
        with pytest.raises(RunError, match=rf"config.json has format 1 \(nasfast 0.1.0\); .* reads format {FORMAT}$"):
            run.read_config()
    torch.save(older | {"kind": "search", "step": 3}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=rf"has checkpoint format 1 \(nasfast 0.1.0\); .* reads format {FORMAT}$"):
        load_checkpoint(tmp_path / "c.pt", "search")


def test_config_of_another_version(tmp_path):
    with RunFolder.create(tmp_path / "run", {"search": {"epochs": 3}}) as run:
        assert run.read_config()["search"] == {"epochs": 3}
        run.config_path.write_text(json.dumps({"format": 99}))
        with pytest.raises(RunError, match="has format 99"):
            run.read_config()
        run.config_path.write_text("{")
        with pytest.raises(RunError, match=r"config.json is not valid JSON"):
            run.read_config()


@pytest.mark.parametrize("line", [b"\n", b"{\n", b"\x80\n", b"[1]\n", b"[" * 100_000 + b"\n"])
def test_a_damaged_row_of_the_log_is_named(line, tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"kind": "epoch"})
    log.path.write_bytes(log.path.read_bytes() + line)
    with pytest.raises(RunError, match=r"metrics.jsonl, line 2 is damaged: its checksum does not fit"):
        list(log.rows())


@pytest.mark.parametrize("row", [{"kind": "trial"}, {"kind": "trial", "number": 0, "row": 5, "metrics": {}}])
def test_a_row_without_what_it_should_hold_is_named(row, tmp_path):
    with RunFolder.create(tmp_path / "run", {}) as run:
        run.metrics.append(row)
        with pytest.raises(RunError, match=r"metrics.jsonl is damaged: a row is not as nasfast writes it"):
            logged_trials(run)


def test_rows_of_a_damaged_training_are_not_dropped(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"kind": "retrain_epoch", "label": "best", "epoch": "x"})
    before = log.path.read_bytes()
    with pytest.raises(RunError, match=r"metrics.jsonl is damaged"):
        drop_rows(log, "best", 0)
    assert log.path.read_bytes() == before


def test_open_sweeps_temporary_files_of_a_killed_process(tmp_path):
    RunFolder.create(tmp_path / "run", {}).close()
    (tmp_path / "run" / ".checkpoint.pt.123.tmp").write_bytes(b"half")
    RunFolder.open(tmp_path / "run").close()
    assert not (tmp_path / "run" / ".checkpoint.pt.123.tmp").exists()


def test_tensorboard_holds_the_scalars(tmp_path):
    require("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunFolder.create(tmp_path / "run", {}) as run:
        run.log_scalars(5, {"train/loss": 1.5, "train/acc": None})
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert events.Tags()["scalars"] == ["train/loss"]
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(5, 1.5)]
