"""Two processes train one shared network: they agree bit for bit, and a lost one ends the run with one line."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from nasfast.errors import ConfigError, NasfastError
from nasfast.runs.metrics import MetricsLog
from nasfast.search.inputs import load_run_data
from nasfast.search.oneshot import training as training_module
from nasfast.search.oneshot.runner import resume_oneshot
from nasfast.search.oneshot.training import SupernetTraining
from nasfast.supernets.uses import uses_of
from nasfast.training.distributed import Ranks, open_ranks
from nasfast.utils.progress import Progress
from tests.helpers.oneshot_runs import TINY, assert_same_searches, log_of, tiny
from tests.helpers.runs import assert_same_bits, without_times
from tests.helpers.sealed import write_sealed

ROOT = Path(__file__).parents[3]
PATIENCE = 250


def environment(**more):
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **more}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def start(*arguments, count=2):
    """The same command on every rank, as torchrun would start it."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=environment(
                RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1", MASTER_PORT=port
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def finish(processes):
    ends = [process.communicate(timeout=PATIENCE) for process in processes]
    return [(process.returncode, *end) for process, end in zip(processes, ends, strict=True)]


def command(strategy, **settings):
    listed = ["-m", "nasfast.cli.app", "search", "--strategy", strategy, "--quiet"]
    for name, value in {**TINY, **settings}.items():
        for one in value if isinstance(value, list) else [value]:
            listed += [f"--{name.replace('_', '-')}", str(one)]
    return listed


DARTS = {"space": "darts", "space_set": ["layers=1", "steps=2"]}
CASES = {
    "same": (6, {"strategy": "spos"}),
    "different": (6, {"strategy": "spos", "rank_paths": "different", "accumulate": 2, **DARTS}),
    "fair-different": (6, {"strategy": "fairnas", "rank_paths": "different", "paths": 2}),
    "controller": (9, {"strategy": "enas", "rank_paths": "different"}),
    "one-step-same": (1, {"strategy": "spos", "rank_paths": "same"}),
    "one-step-different": (1, {"strategy": "spos", "rank_paths": "different"}),
    "three-steps": (3, {"strategy": "fairnas"}),
}
"""Steps and settings; an epoch has 4 steps, and 3 more of the controller."""


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """What each of two ranks holds after some steps, by case."""
    folder = tmp_path_factory.mktemp("ranks")
    for code, _, errors in finish(start("-m", "tests.helpers.rank_worker", folder, json.dumps(CASES))):
        assert code == 0, errors

    def states(name):
        return [without_times(torch.load(folder / f"{name}-{rank}.pt", weights_only=True)) for rank in (0, 1)]

    return states


@pytest.mark.parametrize("name", CASES)
def test_ranks_agree_bit_for_bit(name, held):
    """On weights, statistics, momentum, paths, the controller, what was counted; over an epoch and into the next."""
    assert_same_bits(*held(name))


def local_gradients(monkeypatch, rank, config):
    """The gradients that a rank of two has before they are averaged, and its training."""
    caught = {}

    class Stop(Exception):
        pass

    def stop(network, ranks, rows_of_ranks, *rest):
        caught["rows"] = rows_of_ranks
        raise Stop

    training = SupernetTraining(
        config, config.make_space(), load_run_data(config, Progress(quiet=True)), Ranks(rank, 2)
    )
    with monkeypatch.context() as patch:
        patch.setattr(training_module, "average_over_ranks", stop)
        with pytest.raises(Stop):
            training.take_step()
    return training, caught["rows"]


@pytest.mark.parametrize("rank_paths", ["same", "different"])
def test_a_step_takes_the_mean_gradient_and_moves_nothing_else(monkeypatch, held, rank_paths):
    name = f"one-step-{rank_paths}"
    config, (state, _) = tiny(**CASES[name][1]), held(name)
    (first, rows), (second, again) = (local_gradients(monkeypatch, rank, config) for rank in (0, 1))
    assert [row.tolist() for row in rows] == [row.tolist() for row in again]
    assert (rows[0] == rows[1]).all() == (rank_paths == "same")
    learning = set().union(*(uses_of(first.network, part).learning for part in rows))
    fresh = SupernetTraining(config, config.make_space(), load_run_data(config, Progress(quiet=True)), Ranks(0, 2))
    untouched = dict(fresh.network.named_parameters())
    for (name, p), (_, q) in zip(first.network.named_parameters(), second.network.named_parameters(), strict=True):
        if name.split(".")[1] in learning:
            assert p.grad is not None or q.grad is not None
            parts = [torch.zeros_like(p) if g is None else g for g in (p.grad, q.grad)]
            p.grad = (parts[0] + parts[1]) / 2
        else:
            assert p.grad is None
            assert q.grad is None
            assert torch.equal(state["network"][name], untouched[name])
    torch.nn.utils.clip_grad_norm_(first.network.parameters(), config.grad_clip, foreach=True)
    first.optimizer.step()
    for name, p in first.network.named_parameters():
        torch.testing.assert_close(state["network"][name], p.detach(), rtol=1e-5, atol=1e-7)
    # Running statistics: the mean over the ranks that used them.
    one, other = (training.network.state_dict() for training in (first, second))
    used = [set(uses_of(first.network, part).computed) for part in rows]
    for name in (name for name in one if name.endswith(("running_mean", "running_var"))):
        found = [state_ for state_, keys in zip((one, other), used, strict=True) if name.split(".")[1] in keys]
        expected = sum(part[name] for part in found) / len(found) if found else one[name]
        torch.testing.assert_close(state["network"][name], expected, rtol=1e-5, atol=1e-7)


def test_torchrun_searches_and_the_first_rank_reports(tmp_path):
    run = tmp_path / "run"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.run(
        [sys.executable, *launch, *command("spos"), "--out", str(run)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("best       ") == 1
    assert (run / "report.html").is_file()
    assert sum(row["kind"] == "trial" for row in log_of(run)) == 24
    assert resume_oneshot(run).was_finished


def wait_for_epochs(run, processes, count=2):
    """Until the log of a running training has so many epochs."""
    began = time.monotonic()
    log = MetricsLog(run / "metrics.jsonl")
    while sum(row["kind"] == "epoch" for row in log.rows()) < count:
        assert time.monotonic() - began < PATIENCE
        assert all(process.poll() is None for process in processes), finish(processes)
        time.sleep(0.05)


def assert_lost(run, errors):
    """The first rank has ended with one line, which says how to go on."""
    last = errors.strip().splitlines()[-1]
    assert last.startswith("nasfast: error: rank 0 of 2 lost another rank")
    assert f"go on from the last checkpoint with --resume {run}, on any number of ranks" in last
    assert "Traceback" not in errors


def test_a_lost_rank_ends_the_run_and_another_number_of_ranks_goes_on(tmp_path):
    run = tmp_path / "run"
    long = command("fairnas", epochs=400, evaluations=6, checkpoint_steps=1)
    processes = start(*long, "--out", run)
    wait_for_epochs(run, processes)
    processes[1].send_signal(signal.SIGKILL)
    (code, _, errors), _ = finish(processes)
    assert code == 1
    assert_lost(run, errors)
    # Shortened, so that one rank reaches the end soon.
    config = json.loads((run / "config.json").read_text())
    done = torch.load(run / "checkpoint.pt", weights_only=True)["step"] // 4
    config["oneshot"]["epochs"] = done + 2
    write_sealed(run / "config.json", config)
    result = resume_oneshot(run)
    assert result.evaluations == 6
    epochs = [row["epoch"] for row in log_of(run) if row["kind"] == "epoch"]
    assert epochs == list(range(done + 2))


def test_a_silent_rank_is_lost_after_its_time(tmp_path):
    run = tmp_path / "run"
    processes = start(*command("spos", epochs=400, rank_timeout=5), "--out", run)
    wait_for_epochs(run, processes, 1)
    processes[1].send_signal(signal.SIGSTOP)
    try:
        _, errors = processes[0].communicate(timeout=PATIENCE)
    finally:
        processes[1].kill()
        processes[1].communicate()
    assert processes[0].returncode == 1
    assert_lost(run, errors)
    assert "none may take longer than 5 s" in errors


def test_stopped_and_resumed_on_as_many_ranks_ends_with_the_same_bits(tmp_path):
    settings = {"epochs": 6, "evaluations": 6, "rank_paths": "different"}
    for code, _, errors in finish(start(*command("spos", **settings), "--out", tmp_path / "whole")):
        assert code == 0, errors
    stopped = tmp_path / "stopped"
    processes = start(*command("spos", **settings), "--out", stopped)
    wait_for_epochs(stopped, processes, 1)
    for process in processes:  # as a batch system ends a job
        process.send_signal(signal.SIGTERM)
    ends = finish(processes)
    assert ends[0][0] == 130, ends
    assert "the state was saved" in ends[0][2]
    assert torch.load(stopped / "checkpoint.pt", weights_only=True)["step"] < 24
    for code, _, errors in finish(start("-m", "nasfast.cli.app", "search", "--resume", stopped, "--quiet")):
        assert code == 0, errors
    assert_same_searches(tmp_path / "whole", stopped)


def test_paths_and_images_do_not_depend_on_the_number_of_ranks(held):
    state, _ = held("three-steps")
    config = tiny("fairnas")
    alone = SupernetTraining(config, config.make_space(), load_run_data(config, Progress(quiet=True)))
    for _ in range(3):
        alone.take_step()
    assert alone.state()["paths"] == state["paths"]
    assert_same_bits(alone.state()["train_sampler"], state["train_sampler"])
    alone.load_state({**state, "seconds": 0.0})
    alone.take_step()


def test_bad_settings_are_named():
    data = load_run_data(tiny(), Progress(quiet=True))
    for count, size in ((3, 256), (2, 2)):
        config = tiny(batch_size=size)
        with pytest.raises(ConfigError, match=f"--batch-size must be a multiple of the {count} ranks"):
            SupernetTraining(config, config.make_space(), data, Ranks(0, count))
    with pytest.raises(ConfigError, match="--rank-paths different does not go with the sandwich rule"):
        tiny(sampler="sandwich", rank_paths="different")


def test_each_rank_keeps_to_its_own_gpu_and_disagreement_is_noticed(tmp_path):
    """NCCL hangs where two ranks meet on one GPU, which is what torch takes as long as none is named."""
    for code, _, errors in finish(start("-m", "tests.helpers.rank_devices", tmp_path)):
        assert code == 0, errors
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for rank, of_rank in enumerate(seen):
        gpu = f"cuda:{rank}"
        assert of_rank["groups"] == [["nccl", gpu, [gpu]]]  # the GPU was taken before
        assert set(of_rank["asked"]) == {gpu}
        assert of_rank["different"].startswith("the ranks no longer agree on the weights: digests ")
    assert seen[0]["different"] == seen[1]["different"]
    assert len(set(seen[0]["different"].split("digests ")[1].split(", "))) == 2


@pytest.mark.without_gpu
def test_a_rank_without_a_gpu_of_its_own_says_so(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(NasfastError, match="rank 1 of 2: LOCAL_RANK must say which GPU"), open_ranks("cuda", 5.0):
        pass
    with pytest.raises(NasfastError, match=r"on cuda:1, and this machine has 0 GPUs"), open_ranks("cuda:1", 5.0):
        pass
