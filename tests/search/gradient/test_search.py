"""The search loop: what it finds and logs, and that stopping anywhere and resuming changes no bit."""

import json
import math

import pytest
import torch

from nasfast.config.gradient import SearchConfig
from nasfast.errors import ConfigError, DataError, RunError
from nasfast.report import build_report
from nasfast.runs.checkpoint import CheckpointError
from nasfast.search.gradient.loop import SearchError
from nasfast.search.gradient.runner import resume_gradient, run_gradient
from nasfast.spaces.darts import count_skips
from nasfast.spaces.genotype import Genotype
from nasfast.utils.progress import Progress, Stage
from tests.helpers.runs import assert_same_runs, tiny_config
from tests.helpers.sealed import write_sealed

KINDS = {
    "first": {},
    "second": {"order": "second"},
    "pcdarts": {"strategy": "pcdarts", "lr": 0.05, "warmup_epochs": 1},
    "plain": {"fused": False},
    "plain pcdarts": {"fused": False, "strategy": "pcdarts", "lr": 0.05},
}


class Stopping(Progress):
    """Breaks off, like a killed process, when a stage has advanced so many times: without a checkpoint of that step."""

    def __init__(self, stage_name, steps):
        super().__init__(quiet=True)
        self.stage_name, self.left = stage_name, steps

    def stage(self, name, total, done=0, unit="step"):
        context = super().stage(name, total, done, unit)
        if name != self.stage_name:
            return context
        outer = self

        class Counting(Stage):
            def advance(self, count=1, note=None):
                outer.left -= 1
                if outer.left == 0:
                    raise SystemExit

        class Context:
            def __enter__(self):
                return Counting()

            def __exit__(self, *_):
                return False

        return Context()


def rows(path, kind):
    return [row for row in map(json.loads, (path / "metrics.jsonl").read_text().splitlines()) if row["kind"] == kind]


def test_python_interface_in_ten_lines(tmp_path):
    config = tiny_config(seed=3)
    result = run_gradient(config, tmp_path / "run")
    assert result.epochs == 2
    assert result.results["derived"].test_acc > 0.1
    assert set(result.results) == {"derived", "random"}
    assert Genotype.load(tmp_path / "run" / "genotype.json") == result.genotype
    assert build_report(result.path) == result.report

    epochs = rows(tmp_path / "run", "epoch")
    assert [row["epoch"] for row in epochs] == [0, 1]
    assert [row["step"] for row in epochs] == [5, 10]
    for row in epochs:
        assert all(math.isfinite(row[name]) for name in ("train_loss", "train_acc", "valid_loss", "valid_acc", "lr"))
        assert 0 < row["alpha_entropy"] <= 1
        assert torch.allclose(torch.tensor(row["alphas_normal"]).sum(1), torch.ones(5))
    assert epochs[0]["lr"] > epochs[1]["lr"]
    assert {row["label"] for row in rows(tmp_path / "run", "result")} == {"derived", "random"}
    assert json.loads((tmp_path / "run" / "config.json").read_text())["search"]["seed"] == 3

    again = resume_gradient(tmp_path / "run")
    assert again.was_finished
    assert again.results == result.results
    assert again.genotype == result.genotype


def test_same_seed_same_bits_and_another_seed_not(tmp_path):
    torch.manual_seed(1)
    run_gradient(tiny_config(retrain=False), tmp_path / "a")
    torch.manual_seed(2)
    run_gradient(tiny_config(retrain=False), tmp_path / "b")
    assert_same_runs(tmp_path / "a", tmp_path / "b")
    run_gradient(tiny_config(retrain=False, seed=1), tmp_path / "c")
    with pytest.raises(AssertionError):
        assert_same_runs(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize(
    ("kind", "stop_at"), [*((kind, 8) for kind in KINDS), ("first", 1), ("first", 4), ("first", 5), ("pcdarts", 4)]
)
def test_stopped_and_resumed_search_ends_with_the_same_bits(tmp_path, kind, stop_at):
    config = tiny_config(retrain=False, checkpoint_steps=3, **KINDS[kind])
    run_gradient(config, tmp_path / "whole")
    with pytest.raises(SystemExit):
        run_gradient(config, tmp_path / "stopped", Stopping("search", stop_at))
    result = resume_gradient(tmp_path / "stopped")
    assert not result.was_finished
    assert_same_runs(tmp_path / "whole", tmp_path / "stopped")


def test_run_stopped_between_stages_resumes(tmp_path):
    run_gradient(tiny_config(), tmp_path / "whole")
    with pytest.raises(SystemExit):
        run_gradient(tiny_config(), tmp_path / "stopped", Stopping("retrain derived", 7))
    for stage in ("retrain derived", "retrain random"):
        with pytest.raises(SystemExit):
            resume_gradient(tmp_path / "stopped", Stopping(stage, 2))
    result = resume_gradient(tmp_path / "stopped")
    assert set(result.results) == {"derived", "random"}
    assert_same_runs(tmp_path / "whole", tmp_path / "stopped")


def test_run_killed_before_its_first_checkpoint_starts_over(tmp_path):
    run_gradient(tiny_config(retrain=False), tmp_path / "whole")
    with pytest.raises(SystemExit):
        run_gradient(tiny_config(retrain=False), tmp_path / "stopped", Stopping("search", 1))
    (tmp_path / "stopped" / "checkpoint.pt").unlink()
    resume_gradient(tmp_path / "stopped")
    assert_same_runs(tmp_path / "whole", tmp_path / "stopped")


def test_checkpoint_lost_later_is_an_error(tmp_path):
    with pytest.raises(SystemExit):
        run_gradient(tiny_config(retrain=False), tmp_path / "run", Stopping("search", 6))
    (tmp_path / "run" / "checkpoint.pt").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*checkpoint.pt"):
        resume_gradient(tmp_path / "run")


def test_resume_notices_other_images_and_other_settings(tmp_path, monkeypatch):
    with pytest.raises(SystemExit):
        run_gradient(tiny_config(retrain=False), tmp_path / "run", Stopping("search", 6))
    path = tmp_path / "run" / "config.json"
    content = json.loads(path.read_text())
    write_sealed(path, content | {"search": content["search"] | {"test_fraction": 0.3}})
    with pytest.raises(DataError, match=r"are not those that run .* began with"):
        resume_gradient(tmp_path / "run")
    write_sealed(path, content | {"search": content["search"] | {"channels": 6}})
    with pytest.raises(CheckpointError, match=r"does not fit the run's config.json"):
        resume_gradient(tmp_path / "run")


def test_warmup_leaves_the_architecture_alone(tmp_path):
    run_gradient(tiny_config(retrain=False, warmup_epochs=1), tmp_path / "run")
    first, second = rows(tmp_path / "run", "epoch")
    assert first["valid_loss"] is None
    assert second["valid_loss"] is not None
    start = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["strategy"]["arch_optimizer"]
    assert {float(state["step"]) for state in start["state"].values()} == {5.0}


def test_guard_stops_early_and_caps(tmp_path):
    config = tiny_config(retrain=False, epochs=3, guard="stop", min_entropy=1.0, max_skips=0)
    result = run_gradient(config, tmp_path / "run")
    assert result.epochs == 1
    assert "entropy" in result.stopped or "skip connections" in result.stopped
    assert rows(tmp_path / "run", "guard")[0]["action"] == "stop"
    assert count_skips(result.genotype)[0] == 0
    again = resume_gradient(tmp_path / "run")
    assert again.was_finished
    assert again.stopped == result.stopped


def test_diverged_search_says_so(tmp_path):
    with pytest.raises(SearchError, match=r"loss is not finite in epoch 1; lower --lr \(now 1e\+20\)"):
        run_gradient(tiny_config(retrain=False, lr=1e20, grad_clip=1e30), tmp_path / "run")


def test_run_in_place_of_another(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("")
    with pytest.raises(RunError, match="exists already"):
        run_gradient(tiny_config(), tmp_path / "run")


def test_bad_settings_write_nothing(tmp_path):
    with pytest.raises(DataError, match="--image-size goes with an image folder"):
        run_gradient(tiny_config(image_size=16), tmp_path / "run")
    with pytest.raises(ConfigError, match="cuda"):
        run_gradient(tiny_config(device="cuda:99"), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"strategy": "enas"}, "--strategy must be one of darts, pcdarts, gdas, snas, drnas, got 'enas'"),
        ({"epochs": 5, "warmup_epochs": 5}, "--warmup-epochs 5 leaves none of 5 epochs"),
        ({"strategy": "pcdarts", "channels": 6}, "--channels must be a multiple of 4"),
        ({"lr": math.nan}, "--lr must be at least 0, got nan"),
        ({"lr": "high"}, "setting 'lr' must be of type float, got 'high'"),
        ({"epoch": 3}, "unknown setting 'epoch'; did you mean 'epochs'"),
        ({"train_portion": 1.0}, "--train-portion must be 0.01 to 0.99"),
        ({"lr_min": 1.0}, "--lr-min 1.0 is above --lr"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        SearchConfig.of(settings)


def test_settings_by_data_and_strategy():
    darts, pcdarts = (SearchConfig.of({"data": "cifar10", "strategy": name}) for name in ("darts", "pcdarts"))
    assert (darts.channels, darts.layers, darts.epochs, darts.batch_size, darts.lr) == (16, 8, 50, 64, 0.025)
    assert (pcdarts.batch_size, pcdarts.lr, pcdarts.arch_lr, pcdarts.warmup_epochs) == (256, 0.1, 6e-4, 15)
    assert SearchConfig.of({"strategy": "pcdarts", "epochs": 10}).warmup_epochs == 3
    assert SearchConfig.of({"epochs": 3, "lr": 1}).lr == 1.0
