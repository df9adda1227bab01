"""Architecture and training settings searched together: the space, runs with and without workers, retraining."""

import json
import pickle

import numpy as np
import pytest
from click.testing import CliRunner

from nasfast.cli.app import app
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.data import Augmentation, load_data
from nasfast.errors import ConfigError, SpaceError
from nasfast.estimators.train import Fidelity, TrainEstimator, TrainSettings
from nasfast.predictors import paths_of
from nasfast.report import build_report
from nasfast.runs.checkpoint import load_checkpoint
from nasfast.runs.folder import RunFolder
from nasfast.search.blackbox.runner import resume_blackbox, run_blackbox
from nasfast.spaces import JointSpace
from nasfast.spaces.hyperparameters import TUNABLE, parse_tuned, shorten, split_text
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.spaces.registry import SPACES, make_space
from nasfast.training.model_file import load_model
from nasfast.training.trainer import Trainer
from tests.helpers.runs import assert_same_bits, logged, search_state

RUNNER = CliRunner()
CELL = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|"
SAME = "|none~0|+|nor_conv_1x1~0|none~1|+|none~0|none~1|nor_conv_3x3~2|"
TUNE = ["lr=0.02,0.2", "weight_decay=1e-5..1e-2", "cutout=0,2", "batch_size=16,32", "flip=true,false"]
TINY = {
    "estimator": "train", "space_set": ["channels=4", "cells=1"], "epochs": 2, "evaluations": 6, "tune": TUNE,
    "fidelity_images": 0.06, "ask": 2, "threads": 1, "checkpoint_seconds": 0, "set": ["population=3", "sample=2"],
}  # fmt: skip


def tiny(**settings):
    return BlackBoxConfig.of(TINY | settings)


def joint():
    return JointSpace(NASBench201(4, 1), parse_tuned(TUNE))


def invoke(*arguments):
    return RUNNER.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped."""
    path = tmp_path_factory.mktemp("whole") / "run"
    run_blackbox(tiny(), path)
    return path


# settings from text


def test_ranges_become_grids_that_suit_the_setting():
    found = parse_tuned(["lr=0.005..0.2", "momentum=0.5..0.9", "cutout=0..3", "batch_size=16..2048", "crop_pad=0..70"])
    assert found["lr"][0] == 0.005
    assert found["lr"][-1] == 0.2
    ratios = np.array(found["lr"][1:]) / np.array(found["lr"][:-1])
    assert np.allclose(ratios, 40 ** (1 / 7), rtol=0.01)
    assert np.allclose(np.diff(found["momentum"]), 0.4 / 7, atol=0.001)
    assert found["cutout"] == (0, 1, 2, 3)
    assert found["batch_size"] == (16, 32, 64, 128, 256, 512, 1024, 2048)
    assert found["crop_pad"] == (0, 10, 20, 30, 40, 50, 60, 70)
    decays = (0, 1e-5, 3.16e-5, 1e-4, 3.16e-4, 1e-3, 3.16e-3, 0.01)
    assert parse_tuned(["weight_decay=0..0.01"]) == {"weight_decay": decays}
    assert parse_tuned(["flip=true,False", "lr=1, 2"]) == {"flip": (True, False), "lr": (1.0, 2.0)}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["rate=0.1"], f"there is no training setting 'rate'; there are {', '.join(TUNABLE)}"),
        (["lr"], "--tune must be NAME=LOW..HIGH or NAME=VALUE,VALUE, got 'lr'"),
        (["lr=0.1", "lr=0.2"], "lr is given twice"),
        (["lr=0.1,0.1"], "expected different values, got 0.1, 0.1"),
        (["lr=0.1,,0.2"], "--tune lr: expected a number above 0, got ''"),
        (["lr=0..0.1"], "--tune lr: expected a number above 0, got 0.0"),
        (["lr=0.2..0.1"], "expected LOW..HIGH with LOW below HIGH, got '0.2..0.1'"),
        (["lr=nan"], "--tune lr: expected a number above 0, got nan"),
        (["lr=inf"], "--tune lr: expected a number above 0, got inf"),
        (["momentum=0.9,1"], "--tune momentum: expected a number from 0 to below 1, got 1.0"),
        (["batch_size=1,2"], "--tune batch_size: expected a whole number from 2, got 1"),
        (["cutout=1.5"], "--tune cutout: expected a whole number from 0, got '1.5'"),
        (["flip=0..1"], "a range needs numbers; write flip=true,false"),
        (["flip=maybe"], "--tune flip: expected true or false, got 'maybe'"),
    ],
)
def test_what_cannot_be_tuned_is_named(texts, message):
    with pytest.raises(ConfigError) as raised:
        tiny(tune=texts)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


# the space


def test_rows_are_an_architecture_and_settings():
    space = joint()
    assert space.count() == 15625 * 2 * 8 * 2 * 2 * 2
    rows = space.check(space.sample(np.random.default_rng(0), 50))
    for row in rows:
        text = space.decode(row)
        assert space.encode(text).tolist() == row.tolist()
        arch, settings = split_text(text)
        assert settings == space.training(row)
        assert space.space.encode(arch).tolist() == space.architecture(row).tolist()
        assert space.cost(row, size=8) == space.space.cost(row[:6], size=8)
    assert {space.training(row)["lr"] for row in rows} == {0.02, 0.2}
    assert parse_tuned(space.options()) == space.settings
    assert pickle.loads(pickle.dumps(space)).settings == space.settings


def test_text_form():
    space = JointSpace(NASBench201(), {"lr": (0.1, 0.02), "weight_decay": (1e-5, 0), "flip": (False, True)})
    row = [*space.space.encode(CELL), 1, 0, 1]
    text = space.decode(row)
    assert text == f"{CELL} @ lr=0.02, weight_decay=1e-05, flip=true"
    assert shorten(text, 10) == "|nor_conv… @ lr=0.02, weight_decay=1e-05, flip=true"
    assert shorten("a" * 12, 10) == "a" * 9 + "…"
    for wrong, message in (
        (CELL, "with lr one of 0.1, 0.02, got none"),
        (f"{CELL} @ lr=0.3, weight_decay=1e-05, flip=true", "with lr one of 0.1, 0.02, got 0.3"),
        (f"{CELL} @ lr=0.1, weight_decay=0, flip=true, cutout=2", "with cutout one of no value, got 2"),
        ("x @ lr=0.1, weight_decay=0, flip=true", "expected"),
    ):
        with pytest.raises(SpaceError, match=message):
            space.encode(wrong)


@pytest.mark.parametrize("name", SPACES)
def test_every_space_can_be_joined(name):
    inner = make_space(name)
    space = JointSpace(inner, {"lr": (0.1, 0.2)})
    row = space.sample(np.random.default_rng(1), 1)[0]
    assert space.encode(space.decode(row)).tolist() == row.tolist()
    assert space.graph(row).form() == inner.graph(row[:-1]).form()
    assert space.picture(row) == inner.picture(row[:-1])
    assert (space.mixable, space.image_size, space.elastic) == (inner.mixable, inner.image_size, inner.elastic)
    assert space.covering_rows().shape[1] == len(space.sizes)


def test_changes_are_of_both_parts():
    space, generator = joint(), np.random.default_rng(2)
    row = space.sample(generator, 1)[0]
    changed = [int(np.flatnonzero(space.mutate(generator, row) != row)[0]) for _ in range(200)]
    assert set(changed) == set(range(11))
    assert len(space.neighbours(row)) == 6 * 4 + 1 + 7 + 1 + 1 + 1
    other = space.sample(generator, 1)[0]
    assert ((space.crossover(generator, row, other) == row) | (row != other)).all()


def test_canonical_form_and_paths_tell_settings_apart():
    space = joint()
    one, same, other = (
        space.encode(f"{cell} @ lr={lr}, weight_decay=1e-05, cutout=0, batch_size=16, flip=true")
        for cell, lr in ((CELL, 0.02), (SAME, 0.02), (CELL, 0.2))
    )
    assert one.tolist() != same.tolist()
    assert space.canonical(one) == space.canonical(same) != space.canonical(other)
    assert paths_of(space, one) - paths_of(space, other) == {"lr=0.02"}


def test_what_cannot_be_joined():
    with pytest.raises(SpaceError, match="training settings: there is none"):
        JointSpace(NASBench201(), {})
    with pytest.raises(SpaceError, match="lr is a decision of it"):
        JointSpace(joint(), {"lr": (0.1,)})
    with pytest.raises(ConfigError, match="no training setting 'epochs'"):
        JointSpace(NASBench201(), {"epochs": (1, 2)})


# training


def test_a_row_is_trained_with_its_settings(tmp_path):
    """As its architecture is with the same settings for all."""
    inner, data = NASBench201(4, 1), load_data("digits")
    space = JointSpace(inner, {"lr": (0.01, 0.1), "batch_size": (64, 80), "crop_pad": (0, 1), "momentum": (0.5, 0.9)})
    arch = inner.encode(CELL)
    fixed = TrainSettings(batch_size=64, lr=0.1, crop_pad=0, momentum=0.5, weight_decay=1e-3)
    expected = TrainEstimator(inner, data, tmp_path / "a", fixed, Fidelity(1, 0.2)).estimate(arch[None])
    own = TrainEstimator(space, data, tmp_path / "b", TrainSettings(weight_decay=1e-3), Fidelity(1, 0.2))
    row = np.array([*arch, 1, 0, 0, 0])
    assert own.estimate(row[None]) == expected
    paths = (next((tmp_path / name).glob("*.pt")) for name in "ab")
    assert_same_bits(*(load_checkpoint(path, "retrain")["network"] for path in paths))
    others = own.estimate(np.array([[*arch, *settings] for settings in ((0, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0))]))
    assert len({e.metrics["valid_loss"] for e in (*expected, *others)}) == 4
    assert others[1].cost != expected[0].cost


def test_augmentation_is_that_of_the_row(tmp_path, monkeypatch):
    seen = []
    train = Trainer.train
    monkeypatch.setattr(Trainer, "train", lambda self, *given: seen.append(self.augmentation) or train(self, *given))
    space = JointSpace(NASBench201(4, 1), {"flip": (True, False), "crop_pad": (0, 2), "cutout": (0, 3)})
    estimator = TrainEstimator(space, load_data("digits"), tmp_path, TrainSettings(), Fidelity(1, 0.1))
    estimator.estimate(np.array([[0] * 6 + [0, 1, 1], [0] * 6 + [1, 0, 0]]))
    assert seen == [Augmentation(2, True, 3), Augmentation(0, False, 0)]


@pytest.mark.parametrize("fidelity", [Fidelity(1, 0.1), Fidelity(2, 0.3)], ids=["in-the-last-step", "before"])
def test_a_training_that_diverges_has_the_lowest_score(fidelity, tmp_path):
    space = JointSpace(NASBench201(4, 1), {"lr": (0.1, 1e38)})
    estimator = TrainEstimator(space, load_data("digits"), tmp_path, TrainSettings(), fidelity)
    sound, diverged = estimator.estimate(np.array([[3] * 6 + [0], [3] * 6 + [1]]))
    assert (diverged.score, diverged.cost) == (0, sound.cost)
    assert diverged.metrics["valid_loss"] > sound.metrics["valid_loss"]
    assert diverged.metrics.keys() == sound.metrics.keys()


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ("batch_size=32,512", "leave .* to train on and .* with batches of 512"),
        ("cutout=0,9 batch_size=16", "cutout must be at most the image's side of 8 pixels, got 9"),
        ("crop_pad=0,9 batch_size=16", "crop_pad must be at most the image's side of 8 pixels, got 9"),
    ],
)
def test_settings_that_do_not_go_with_the_images_are_refused_before_anything_is_written(tune, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        run_blackbox(tiny(tune=tune.split()), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# runs


def test_a_run_searches_both_and_shows_them(whole):
    rows = logged(whole)
    assert len(rows) == 6
    assert all(len(row["row"]) == 11 for row in rows)
    assert len({row["arch"].partition(" @ ")[2] for row in rows}) > 2
    found = json.loads((whole / "architectures.json").read_text())
    assert found["space"] == "nasbench201"
    _, settings = split_text(found["best"]["arch"])
    assert list(settings) == ["lr", "weight_decay", "cutout", "batch_size", "flip"]
    page = build_report(whole).read_text()
    assert "The cell" in page
    assert "cannot be drawn" not in page
    assert "<th>weight decay</th>" in page
    assert found["best"]["arch"] in page


def test_workers_find_what_one_process_finds(whole, tmp_path):
    """Every row gets the same numbers, and a run on workers goes the same way again."""
    runs = [tmp_path / "one", tmp_path / "two"]
    for run in runs:
        run_blackbox(tiny(workers="2"), run)
    assert logged(runs[0]) == logged(runs[1])
    estimates = {row["arch"]: row["metrics"] for row in logged(runs[0])}
    alone = {row["arch"]: row["metrics"] for row in logged(whole)}
    shared = estimates.keys() & alone.keys()
    assert shared
    assert all(estimates[arch] == alone[arch] for arch in shared)


def test_stopped_run_resumes_with_the_same_bits(whole, tmp_path, monkeypatch):
    train, trained = Trainer.train, []

    def stop(self, *given):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(self.label)
        return train(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", stop)
        with pytest.raises(KeyboardInterrupt):
            run_blackbox(tiny(), tmp_path / "run")
    resume_blackbox(tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert search_state(tmp_path / "run") == search_state(whole)


def test_a_space_of_your_own_and_a_joint_space_go_the_same_way(whole, tmp_path):
    class Mine(NASBench201):
        pass

    named = BlackBoxConfig.of({name: value for name, value in TINY.items() if name != "tune"} | {"evaluations": 3})
    for place, space in (("tuned", Mine(4, 1)), ("joint", joint())):
        given = tiny(evaluations=3) if place == "tuned" else named
        config = BlackBoxConfig(**{**vars(given), "space_set": ()})
        run_blackbox(config, tmp_path / place, space=space)
        assert logged(tmp_path / place) == logged(whole)[:3]
        stored = json.loads((tmp_path / place / "config.json").read_text())["blackbox"]
        assert parse_tuned(stored["tune"]) == parse_tuned(TUNE)
        assert resume_blackbox(tmp_path / place, space=space).was_finished
    other, config = (
        JointSpace(NASBench201(4, 1), {"lr": (0.1, 0.2)}),
        BlackBoxConfig(**{**vars(tiny()), "space_set": ()}),
    )
    with pytest.raises(SpaceError, match=r"the space has lr=0\.1"):
        run_blackbox(config, tmp_path / "other", space=other)


@pytest.mark.parametrize("strategy", ["asha", "bohb", "bayesian", "reinforce", "local-search"])
def test_strategies_with_a_smaller_model(strategy, tmp_path):
    settings = {"set": [], "evaluations": 4, "ask": 1, "epochs": 3, "tune": ["lr=0.02,0.1", "batch_size=16,32"]}
    run_blackbox(tiny(**settings, strategy=strategy, fidelity_set=["channels=2"]), tmp_path / "run")
    full = NASBench201(4, 1)
    for row in logged(tmp_path / "run"):
        assert row["metrics"]["params"] == full.cost(row["row"][:6], size=8).params
        assert row["metrics"]["cost"] > 0


def test_the_best_is_retrained_with_its_settings(whole, tmp_path):
    best, settings = split_text(json.loads((whole / "architectures.json").read_text())["best"]["arch"])
    assert invoke("retrain", whole, "--epochs", 1, "--quiet").exit_code == 0
    identity = load_checkpoint(whole / "retrain-best.pt", "retrain")["identity"]
    assert {name: identity[name] for name in settings} == settings
    assert identity["genotype"] == best
    assert load_model(RunFolder.open(whole, lock=False), "best").info.arch == best
    assert invoke("evaluate", whole, "--quiet").stdout.startswith("best: ")

    given = ["--lr", 0.03, "--batch-size", 64, "--label", "given", "--epochs", 1, "--quiet"]
    assert invoke("retrain", whole, *given).exit_code == 0
    identity = load_checkpoint(whole / "retrain-given.pt", "retrain")["identity"]
    expected = settings | {"lr": 0.03, "batch_size": 64}
    assert {name: identity[name] for name in settings} == expected

    arch = ["--arch", f"{CELL} @ momentum=0.5", "--label", "mine", "--epochs", 1, "--quiet"]
    assert invoke("retrain", whole, *arch).exit_code == 0
    identity = load_checkpoint(whole / "retrain-mine.pt", "retrain")["identity"]
    assert (identity["genotype"], identity["momentum"], identity["flip"]) == (CELL, 0.5, None)
    result = invoke("retrain", whole, "--arch", f"{CELL} @ rate=1", "--label", "wrong")
    assert result.exit_code == 1
    assert "there is no training setting 'rate'" in result.stderr


def test_command(tmp_path):
    options = ["--space", "nasbench201", "--strategy", "asha", "--estimator", "train", "--epochs", 3]
    options += ["--batch-size", 16, "--fidelity-images", 0.02, "--evaluations", 3, "--out", tmp_path / "run", "--quiet"]
    result = invoke("search", *options, "--tune", "lr=0.005..0.2", "--tune", "cutout=0,2,4")
    assert result.exit_code == 0, result.output
    assert " @ lr=0." in next(line for line in result.stdout.splitlines() if line.startswith("best"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--estimator", "train", "--tune", "rate=1"], "there is no training setting 'rate'; there are lr, momentum"),
        (["--estimator", "zero-cost", "--tune", "lr=1,2"], "--tune belongs to --estimator train, got --estimator zero"),
        (["--estimator", "oneshot", "--tune", "lr=1,2"], "--tune does not go with --estimator oneshot"),
        (["--strategy", "gdas", "--tune", "lr=1,2"], "--tune does not go with --strategy gdas, which learns by grad"),
    ],
)
def test_errors_of_the_command_are_one_line(options, message):
    result = invoke("search", "--space", "nasbench201", *options)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
