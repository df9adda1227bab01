"""One-shot search with sampled paths: the training step, whole runs, what they write, and what is refused."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from nasfast.cli import app
from nasfast.errors import ConfigError, RunError, SpaceError
from nasfast.oneshot_config import OneShotConfig
from nasfast.oneshot_run import make_estimator, resume_oneshot, run_oneshot
from nasfast.oneshot_step import accumulate_paths
from nasfast.oneshot_training import SupernetError, SupernetTraining
from nasfast.progress import Progress
from nasfast.search import load_run_data
from tests.oneshot_runs import TINY, assert_same_searches, log_of, tiny

RUNNER = CliRunner()


def training_of(*args, **settings):
    config = tiny(*args, **settings)
    return SupernetTraining(config, config.make_space(), load_run_data(config, Progress(quiet=True)))


def bits(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


# the step


def test_gradients_of_a_step_are_the_sum_over_its_paths():
    training = training_of("fairnas")
    network = training.network.double().eval()  # statistics of the batch would move between the paths
    images, labels = training.images(training.train_indices[:16])
    images, rows = images.double(), training.sampler.sample(5)
    sums = accumulate_paths(network, images, labels, rows)
    got = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad(set_to_none=True)
    losses = [torch.nn.functional.cross_entropy(network(images, row), labels) for row in rows]
    torch.stack(losses).sum().backward()
    expected = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert got.keys() == expected.keys()
    for name, grad in got.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-10, atol=1e-12)
    assert float(sums.loss) == pytest.approx(16 * float(torch.stack(losses).detach().sum()), rel=1e-9)
    assert sums.seen == 80


def test_every_path_but_the_first_learns_the_first_ones_outputs():
    training = training_of("spos")
    network = training.network.eval()
    images, labels = training.images(training.train_indices[:8])
    rows = training.sampler.sample(2)
    accumulate_paths(network, images, labels, rows, distill=True)
    got = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad(set_to_none=True)
    first, second = (network(images, row) for row in rows)
    loss = torch.nn.functional.cross_entropy(first, labels)
    (loss + torch.nn.functional.cross_entropy(second, first.detach().softmax(1))).backward()
    for name, p in network.named_parameters():
        assert (p.grad is None) == (name not in got)
        if p.grad is not None:
            torch.testing.assert_close(got[name], p.grad, rtol=1e-4, atol=1e-6)


def test_weights_that_no_path_uses_do_not_move():
    """Though momentum and weight decay are on, and moved them before."""
    training = training_of("spos", epochs=5)
    for _ in range(6):
        training.take_step()
    before = bits(training.network)
    training.take_step()
    moved = {
        key.split(".")[1] for key, value in training.network.state_dict().items() if not torch.equal(value, before[key])
    }
    training.sampler.load_state(json.loads(training.state()["paths"]))
    touched = {key for key, op in training.network.ops.items() if any(p.grad is not None for p in op.parameters())}
    assert touched < set(training.network.ops)
    for key in set(training.network.ops) - touched:
        parameters = [f"ops.{key}.{name}" for name, _ in training.network.ops[key].named_parameters()]
        assert all(torch.equal(training.network.state_dict()[name], before[name]) for name in parameters)
    assert touched & moved


@pytest.mark.parametrize("strategy", ["spos", "fairnas", "enas"])
def test_training_learns(strategy):
    training = training_of(strategy, epochs=4, batch_size=64, lr=0.05)
    rows = []
    while not training.done():
        training.take_step()
        if training.step % training.steps_per_epoch == 0:
            rows.append(training.end_epoch())
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert rows[-1]["train_acc"] > max(0.13, rows[0]["train_acc"])
    if strategy == "enas":
        assert all(0 <= row["reward"] <= 100 for row in rows)
        assert rows[-1]["reward"] > 13
        assert training.sampler.controller.weight > 0
    else:
        assert all(row["reward"] is None for row in rows)


def test_bfloat16_is_near_float32_and_weights_stay_float32():
    losses = []
    for bf16 in (False, True):
        training = training_of("spos", bf16=bf16)
        training.take_step()
        losses.append(float(training.counts.sums[0]))
        assert all(p.dtype == torch.float32 for p in training.network.parameters())
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.03)


def test_a_loss_that_is_not_finite_ends_the_training():
    training = training_of("spos", lr=1e30, grad_clip=1e30)
    for _ in range(training.steps_per_epoch):
        training.take_step()
    with pytest.raises(SupernetError, match="the loss is not finite in epoch 1; lower --lr"):
        training.end_epoch()


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
    page = (folder / "report.html").read_text()
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
    from nasfast.blackbox import BlackBoxSearch
    from nasfast.trainer import ScratchTrainer

    found = {"train": ((SupernetTraining, "take_step"), 6), "search": ((BlackBoxSearch, "step"), 3)}
    if strategy == "enas":  # 4 steps of the weights, then 3 of the controller
        found["controller"] = ((SupernetTraining, "_controller_step"), 5)
    if strategy == "spos":
        found["retrain"] = ((ScratchTrainer, "_train_step"), 7)
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
        patch.setattr("nasfast.oneshot_run._save", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run_oneshot(tiny("fairnas"), tmp_path / "run")
    resume_oneshot(tmp_path / "run")
    assert_same_searches(expected, tmp_path / "run")


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
    for command in ("retrain", "evaluate"):
        refused = RUNNER.invoke(app, [command, str(folder)])
        assert refused.exit_code == 1
        assert "it has no network of cells to train or export" in refused.stderr


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
        (tiny(batch_size=5000), Exception, "batch size 5000 is larger than the train part"),
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
