"""One-shot search with sampled paths: the training step, whole runs, what they write, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from typing import ClassVar

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from nasfast.cli.app import app
from nasfast.config.oneshot import OneShotConfig
from nasfast.errors import ConfigError, RunError, SpaceError
from nasfast.report import build_report
from nasfast.search.inputs import load_run_data
from nasfast.search.oneshot.children import make_estimator
from nasfast.search.oneshot.runner import resume_oneshot, run_oneshot
from nasfast.search.oneshot.training import SupernetTraining
from nasfast.spaces.base import Space
from nasfast.spaces.operations import Classifier, conv_bn
from nasfast.utils.progress import Progress
from tests.helpers.chance import chance
from tests.helpers.oneshot_runs import TINY, assert_same_searches, log_of, tiny, training_of

RUNNER = CliRunner()


# runs


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs that were never stopped, by strategy and settings."""
    made = {}

    def run(strategy, **settings):
        key = (strategy, json.dumps(settings))
        if key not in made:
            folder = tmp_path_factory.mktemp(strategy) / "run"
            made[key] = folder, run_oneshot(tiny(strategy, **settings), folder)
        return made[key]

    return run


CASES = [
    ("spos", {"retrain": True}),
    ("fairnas", {}),
    ("enas", {}),
    ("local-search", {"space_set": ["channels=3", "cells=1"]}),
]


@pytest.mark.parametrize(("strategy", "settings"), CASES)
def test_run_writes_what_it_found(whole, strategy, settings):
    folder, result = whole(strategy, **settings)
    found = json.loads((folder / "architectures.json").read_text())
    assert found["best"]["arch"] == result.space.decode(result.best.row)
    trials = [row for row in log_of(folder) if row["kind"] == "trial"]
    assert len(trials) == result.evaluations == 24
    assert result.best.score == max(trial["metrics"]["score"] for trial in trials)
    assert found["objectives"] == (["score", "-params"] if strategy == "fairnas" else ["score"])
    epochs = [row for row in log_of(folder) if row["kind"] == "epoch"]
    assert [row["epoch"] for row in epochs] == [0, 1]
    ways = [row["way"] for row in log_of(folder) if row["kind"] == "estimator"]
    assert ways == ["batched: children share their common operations"]
    page = build_report(folder).read_text()
    for part in ("Training of the shared network", "Leaderboard", "The front", "The best architecture", ways[0]):
        assert part in page
    assert ("Reward of the controller" in page) == (strategy == "enas")
    if settings.get("retrain"):
        assert set(result.results) == {"best", "random"}
        assert "test accuracy, random architecture" in page
        assert (folder / "model-best.safetensors").is_file()
    else:
        assert "--retrain" in page


def test_scores_are_those_of_the_estimator_on_held_out_images(whole):
    folder, result = whole("spos", retrain=True)
    training = training_of("spos", retrain=True)
    training.load_state(torch.load(folder / "checkpoint.pt", weights_only=True))
    held, trained = set(training.held_out.tolist()), set(training.train_indices.tolist())
    assert not held & trained
    assert len(held | trained) == len(training.dataset.train_labels)
    score = make_estimator(training).estimate(np.array([result.best.row]))[0].score
    assert score == result.best.score


class Killed(Exception):
    """Stands for kill -9: nothing is saved after it."""


def killed_at(monkeypatch, where, count):
    """From now on the process 'dies' at the count-th call of a method, once."""
    owner, name = where
    method, calls = getattr(owner, name), []

    def dying(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == count:
            raise Killed
        return method(self, *args, **kwargs)

    monkeypatch.setattr(owner, name, dying)


def places(strategy):
    from nasfast.search.blackbox.search import BlackBoxSearch
    from nasfast.training.trainer import Trainer

    found = {"train": ((SupernetTraining, "take_step"), 6), "search": ((BlackBoxSearch, "step"), 3)}
    if strategy == "enas":  # 4 steps of the weights, then 3 of the controller
        found["controller"] = ((SupernetTraining, "_controller_step"), 5)
    if strategy == "spos":
        found["retrain"] = ((Trainer, "take_step"), 7)
    return found


@pytest.mark.parametrize(
    ("strategy", "settings", "place"),
    [(strategy, settings, place) for strategy, settings in CASES for place in places(strategy)],
)
def test_killed_run_resumes_with_the_same_bits(whole, monkeypatch, tmp_path, strategy, settings, place):
    expected, _ = whole(strategy, **settings)
    where, count = places(strategy)[place]
    # Checkpoints at other times than the whole run's: they must not matter.
    config = tiny(strategy, **settings | {"checkpoint_steps": 2, "checkpoint_seconds": 0.0})
    with monkeypatch.context() as patch:
        killed_at(patch, where, count)
        with pytest.raises(Killed):
            run_oneshot(config, tmp_path / "run")
    result = resume_oneshot(tmp_path / "run")
    assert not result.was_finished
    assert_same_searches(expected, tmp_path / "run")
    assert resume_oneshot(tmp_path / "run").was_finished


def test_killed_before_the_first_checkpoint(whole, monkeypatch, tmp_path):
    expected, _ = whole("fairnas")
    with monkeypatch.context() as patch:
        patch.setattr("nasfast.search.oneshot.runner._save", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run_oneshot(tiny("fairnas"), tmp_path / "run")
    resume_oneshot(tmp_path / "run")
    assert_same_searches(expected, tmp_path / "run")


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "nasfast.cli.app", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_checkpoint(process, path):
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


def test_a_process_that_is_asked_to_stop_and_one_that_is_killed_go_on(whole, tmp_path):
    """SIGTERM in the training, then kill -9 at a random moment after it was resumed."""
    (expected, _), run = whole("fairnas"), tmp_path / "run"
    process = start(*options("fairnas", checkpoint_steps=1), "--out", run)
    wait_for_checkpoint(process, run / "checkpoint.pt")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=250)
    assert process.returncode == 130
    line = f"nasfast: error: interrupted; the state was saved, go on with: nasfast search --resume {run}"
    assert errors.strip().splitlines()[-1] == line
    began = (run / "checkpoint.pt").stat().st_mtime_ns
    process = start("search", "--resume", run, "--quiet")
    while process.poll() is None and (run / "checkpoint.pt").stat().st_mtime_ns == began:
        time.sleep(0.01)
    time.sleep(chance().uniform(0, 1))
    process.kill()
    process.communicate()
    process = start("search", "--resume", run, "--quiet")
    _, errors = process.communicate(timeout=250)
    assert process.returncode == 0, errors
    assert_same_searches(expected, run)


def test_seed_decides_the_bits(whole, tmp_path):
    folder, _ = whole("enas")
    run_oneshot(tiny("enas"), tmp_path / "same")
    assert_same_searches(folder, tmp_path / "same")
    run_oneshot(tiny("enas", seed=1), tmp_path / "other")
    with pytest.raises(AssertionError):
        assert_same_searches(folder, tmp_path / "other")


def test_without_calibration_children_take_the_shared_statistics(whole, tmp_path):
    _, calibrated = whole("fairnas")
    shared = run_oneshot(tiny("fairnas", calibration=0), tmp_path / "run")
    assert {t.score for t in shared.front} != {t.score for t in calibrated.front}


# other spaces, data and searches


def test_sandwich_and_distillation_on_an_elastic_space(tmp_path):
    config = OneShotConfig.of(
        TINY | {"space": "mobilenet", "space_set": ["features=16"], "sampler": "sandwich", "distill": True, "paths": 3}
    )
    result = run_oneshot(config, tmp_path / "run")
    training = SupernetTraining(config, config.make_space(), load_run_data(config, Progress(quiet=True)))
    rows = training.sampler.sample(3)
    assert training.paths == 3
    sizes = [result.space.cost(row, size=8).params for row in rows]
    assert sizes[0] > sizes[2] > sizes[1]
    assert result.evaluations == 24


def test_another_search_with_a_constraint_and_a_front(tmp_path):
    limits = {"search": "nsga2", "objective": ["score", "-flops"], "constraint": ["params<=8K"], "latency": ""}
    result = run_oneshot(tiny("spos", **limits), tmp_path / "run")
    space = result.space
    assert result.front
    for trial in result.front:
        cost = space.cost(trial.row, size=8)
        assert (trial.metrics["params"], trial.metrics["flops"]) == (cost.params, cost.flops)
        assert cost.params <= 8000


class TwoLayers(Space):
    """A space of one's own: a candidate without a kernel, sizes as decisions."""

    operations: ClassVar = {
        "conv": conv_bn,
        "mine": lambda c_in, c_out, stride: nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride, 1), nn.GELU()),
        "head": Classifier,
    }

    def __init__(self):
        super().__init__("two-layers", {"first": ("conv", "mine"), "second": ("mine", "identity")})

    def wire(self, choices, net):
        x = net.op("conv", net.input, 8, at="stem")
        for place in ("first", "second"):
            x = net.op(choices[place], x, at=place)
        return net.op("head", x, net.num_classes, at="head")


def test_a_space_of_your_own_on_a_folder_of_images(tmp_path):
    generator = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for index in range(30):
            pixels = generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{index}.png")
    config = OneShotConfig.of({**TINY, "space_set": [], "data": str(tmp_path / "images"), "batch_size": 16, "ask": 2})
    result = run_oneshot(config, tmp_path / "run", space=TwoLayers())
    assert result.space.name == "two-layers"
    ways = [row["way"] for row in log_of(tmp_path / "run") if row["kind"] == "estimator"]
    assert len(ways) == 1
    assert ways[0].startswith("one child after the other: ")
    assert "/mine: batched child evaluation has no kernel for GELU" in ways[0]
    assert "It cannot be drawn: unknown space" in build_report(tmp_path / "run").read_text()
    assert resume_oneshot(tmp_path / "run", space=TwoLayers()).was_finished
    with pytest.raises(SpaceError, match="unknown space 'two-layers'"):
        resume_oneshot(tmp_path / "run")


# the command line and what is refused


def options(strategy, **settings):
    listed = []
    for name, value in {**TINY, **settings}.items():
        values = value if isinstance(value, list) else [value]
        for one in values:
            listed += [f"--{name.replace('_', '-')}"] + ([] if one is True else [str(one)])
    return ["search", "--strategy", strategy, "--quiet", *listed]


def test_command_line_makes_the_same_run(whole, tmp_path):
    folder, result = whole("fairnas")
    printed = RUNNER.invoke(app, [*options("fairnas"), "--out", str(tmp_path / "run")])
    assert printed.exit_code == 0, printed.output
    assert_same_searches(folder, tmp_path / "run")
    assert f"best       {result.space.decode(result.best.row)}" in printed.stdout
    again = RUNNER.invoke(app, ["search", "--resume", str(tmp_path / "run"), "--quiet"])
    assert "is finished, there is nothing to resume" in again.stdout
    repeated = [
        "search",
        "--config",
        str(tmp_path / "run" / "config.json"),
        "--out",
        str(tmp_path / "again"),
        "--quiet",
    ]
    assert RUNNER.invoke(app, repeated).exit_code == 0
    assert_same_searches(folder, tmp_path / "again")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "foo"}, "--strategy must be one of spos, fairnas, enas, random"),
        ({"sampler": "foo"}, "--sampler must be one of uniform, fair, sandwich, got 'foo'"),
        ({"sampler": "fair", "strategy": "enas"}, "does not go with enas, whose controller draws the paths"),
        ({"distill": True}, "--distill learns from the largest child; it needs --sampler sandwich"),
        ({"search": "foo"}, "--search must be one of random"),
        ({"search": "random", "strategy": "ppo"}, "goes with --strategy spos or fairnas, got 'random' with ppo"),
        ({"objective": ["score", "-params"]}, "regularized-evolution follows one objective, got score, -params"),
        ({"constraint": ["score>=90"]}, "--constraint: the score is an accuracy here, a fraction from 0 to 1"),
        ({"set": ["age=3"]}, "regularized-evolution has no setting 'age'"),
        ({"set": ["age=3"], "strategy": "enas"}, "reinforce has no setting 'age'"),
        ({"calibration": 1}, "--calibration must be 0 or at least 2 images, got 1"),
        ({"lr": 0.01, "lr_min": 0.1}, "--lr-min 0.1 is above --lr 0.01"),
        ({"epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"epochs": "many"}, "setting 'epochs' must be of type int, got 'many'"),
        ({"table": "x.npz"}, "--table does not go with --estimator oneshot"),
        ({"space_set": ["channels"]}, "--space-set must be NAME=VALUE, got 'channels'"),
        ({"rank_paths": "some"}, "--rank-paths must be one of same, different, got 'some'"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        tiny(**{"strategy": "spos", **settings})


def test_bad_runs_write_nothing(tmp_path):
    for config, error, message in (
        (tiny(space_set=["foo=3"]), SpaceError, "nasbench201 has no setting 'foo'"),
        (tiny(sampler="sandwich"), ConfigError, "needs a space whose decisions are sizes"),
        (tiny(device="cuda:77"), ConfigError, "--device cuda:77"),
    ):
        with pytest.raises(error, match=message):
            run_oneshot(config, tmp_path / "run")
        assert not (tmp_path / "run").exists()
    with pytest.raises(RunError, match="no run folder at"):
        resume_oneshot(tmp_path / "run")


def test_settings_suit_the_data():
    digits, others = OneShotConfig.of({"strategy": "spos"}), OneShotConfig.of({"strategy": "spos", "data": "cifar10"})
    assert digits.epochs < others.epochs
    assert digits.make_space().channels < others.make_space().channels
    own = OneShotConfig.of({"strategy": "spos", "space_set": ["channels=5"]})
    assert (own.make_space().channels, own.make_space().cells) == (5, 1)
    assert OneShotConfig.of(own.to_dict()) == own
