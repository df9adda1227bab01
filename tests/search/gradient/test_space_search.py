"""Search of a space by gradients, end to end on the digits: results, report, resuming bit for bit, errors."""

import json

import numpy as np
import pytest
import torch

from nasfast.config.gradient import SearchConfig
from nasfast.data import load_data
from nasfast.errors import ConfigError, DataError, RunError, SpaceError
from nasfast.report import build_report
from nasfast.runs.folder import RunFolder
from nasfast.search.gradient.loop import SearchLoop
from nasfast.search.gradient.runner import resume_gradient, run_gradient
from nasfast.spaces.nasbench201 import OPERATIONS, NASBench201
from nasfast.strategies.gradient.bilevel import BilevelSearch
from nasfast.strategies.gradient.steps import Batch
from nasfast.strategies.registry import DIFFERENTIABLE
from tests.helpers.runs import assert_same_runs
from tests.helpers.sealed import write_sealed
from tests.search.gradient.test_search import Stopping, rows


def tiny(**settings):
    """A search of a second or two on real digits."""
    defaults = {
        "space": "nasbench201",
        "space_set": ("channels=4",),
        "epochs": 2,
        "batch_size": 128,
        "retrain_epochs": 1,
        "retrain_batch_size": 256,
        "threads": 1,
        "checkpoint_seconds": 1e9,
    }
    return SearchConfig.of({**defaults, **settings})


@pytest.mark.parametrize("strategy", DIFFERENTIABLE)
def test_stopped_and_resumed_search_of_a_space_ends_with_the_same_bits(tmp_path, strategy):
    config = tiny(strategy=strategy, retrain=False, checkpoint_steps=3, warmup_epochs=0)
    run_gradient(config, tmp_path / "whole")
    with pytest.raises(SystemExit):
        run_gradient(config, tmp_path / "stopped", Stopping("search", 8))
    resume_gradient(tmp_path / "stopped")
    assert_same_runs(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.parametrize("strategy", ["gdas", "snas", "drnas"])
def test_stopped_and_resumed_search_of_cells_ends_with_the_same_bits(tmp_path, strategy):
    settings = {"channels": 4, "layers": 2, "steps": 2, "space": "darts", "space_set": ()}
    config = tiny(strategy=strategy, retrain=False, checkpoint_steps=3, **settings)
    run_gradient(config, tmp_path / "whole")
    with pytest.raises(SystemExit):
        run_gradient(config, tmp_path / "stopped", Stopping("search", 8))
    result = resume_gradient(tmp_path / "stopped")
    assert result.genotype is not None
    assert_same_runs(tmp_path / "whole", tmp_path / "stopped")


def test_second_order_search_of_a_space_resumes(tmp_path):
    config = tiny(order="second", retrain=False, checkpoint_steps=2, epochs=1)
    run_gradient(config, tmp_path / "whole")
    with pytest.raises(SystemExit):
        run_gradient(config, tmp_path / "stopped", Stopping("search", 3))
    resume_gradient(tmp_path / "stopped")
    assert_same_runs(tmp_path / "whole", tmp_path / "stopped")


def test_retrained_beside_a_random_child_and_evaluated_from_its_file(tmp_path):
    result = run_gradient(tiny(strategy="gdas", retrain_epochs=2), tmp_path / "run")
    assert set(result.results) == {"derived", "random"}
    assert result.results["derived"].test_acc > 0.1
    found = result.found
    assert found.architecture == found.space.decode(found.rows["derived"])
    assert found.metrics["derived"]["test_accuracy"] == result.results["derived"].test_acc
    epochs = rows(tmp_path / "run", "epoch")
    assert [len(row["weights"]) for row in epochs] == [6, 6]
    assert all(sum(weights) == pytest.approx(1) for row in epochs for weights in row["weights"])
    page = build_report(tmp_path / "run").read_text()
    for part in ("Leaderboard", "The derived architecture", "Architecture weights", "0-&gt;1", found.architecture):
        assert part in page
    again = resume_gradient(tmp_path / "run")
    assert again.was_finished
    assert again.found.rows == found.rows
    assert again.results == result.results


def test_looked_up_in_a_table(tmp_path):
    space, settings = NASBench201(), {"max_skips": 0, "epochs": 1}
    found = run_gradient(tiny(retrain=False, **settings), tmp_path / "without").found
    cells = {space.decode(row) for row in found.rows.values()}
    table = tmp_path / "table.csv"
    table.write_text("arch,score\n" + "".join(f"{cell},{cell.count('conv')}\n" for cell in cells))
    result = run_gradient(tiny(table=str(table), **settings), tmp_path / "run")
    assert result.results == {}
    assert {"derived", "random"} <= set(result.found.metrics)
    for label, metrics in result.found.metrics.items():
        assert metrics["score"] == space.decode(result.found.rows[label]).count("conv")
        assert metrics["params"] > 0
    assert resume_gradient(tmp_path / "run").found.metrics == result.found.metrics
    stored = json.loads((tmp_path / "run" / "architectures.json").read_text())
    assert stored["architectures"]["derived"]["arch"] == result.found.architecture
    assert "skip_connect" not in result.found.architecture


def test_guard_stops_a_search_of_a_space_and_caps_it(tmp_path):
    config = tiny(guard="stop", max_skips=0, min_entropy=1.0, epochs=3, retrain=False)
    result = run_gradient(config, tmp_path / "run")
    assert result.epochs == 1
    assert "entropy" in result.stopped or "skip connections in the architecture" in result.stopped
    assert "skip_connect" not in result.found.architecture


def test_collapsed_search_is_seen_and_capped(tmp_path):
    """Where skip connections weigh most, the guard says so, and the cap keeps two of them."""
    config = tiny(retrain=False, epochs=1)
    loop = SearchLoop(config, load_data("digits"), config.make_space())
    with torch.no_grad():
        loop.strategy.network.alphas[0][:, OPERATIONS.index("skip_connect")] = 50.0
    with RunFolder.create(tmp_path / "run", {}) as run:
        loop.run(run, Stopping("another stage", 1))
        guard = [row for row in run.metrics.rows() if row["kind"] == "guard"]
        assert next(row for row in run.metrics.rows() if row["kind"] == "epoch")["skips"] == 6
    assert guard[0]["reason"] == "6 skip connections in the architecture, more than 2"
    assert guard[0]["action"] == "cap"
    assert sum(OPERATIONS[value] == "skip_connect" for value in loop.strategy.derive()) == 2


def test_space_of_your_own(tmp_path):
    class Mine(NASBench201):
        def __init__(self):
            super().__init__(4, 1)
            self.name = "mine"

    config = tiny(space="mine", space_set=(), retrain=False, epochs=1)
    result = run_gradient(config, tmp_path / "run", space=Mine())
    assert result.found.space.name == "mine"
    assert "a space of your own" in build_report(tmp_path / "run").read_text()
    with pytest.raises(SpaceError, match="unknown space 'mine'"):
        resume_gradient(tmp_path / "run")
    assert resume_gradient(tmp_path / "run", space=Mine()).was_finished


@pytest.mark.parametrize("strategy", ["gdas", "snas", "drnas"])
def test_drawn_steps_move_the_architecture_of_cells_as_in_plain_pytorch(strategy):
    """On the fused kernels, one step of the architecture is that of the same network in plain PyTorch."""
    batch = Batch(torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3]))
    moved = []
    for fused in (True, False):
        config = SearchConfig(strategy=strategy, channels=4, layers=2, steps=2, fused=fused, arch_lr=0.1, seed=3)
        search = BilevelSearch(config, 10, 1)
        search.begin_epoch(0)
        result = search.step(batch, batch)
        moved.append([*search.network.arch_parameters(), result.train.loss, result.valid.loss])
    for one, other in zip(*moved, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"channels": 8}, ConfigError, "--channels belongs to the cells of DARTS; --space nasbench201 has its own"),
        ({"strategy": "gdas", "order": "second"}, ConfigError, "--order second needs weights that are not drawn"),
        ({"temperature": 3.0}, ConfigError, "--temperature belongs to gdas and snas, got --strategy darts"),
        ({"space": "", "space_set": (), "table": "t.csv"}, ConfigError, "--table belongs to the search of a space"),
        ({"space": "mobilenet", "space_set": ()}, SpaceError, "mobilenet: its decisions choose what reads what"),
        ({"space": "nasbench-macro", "space_set": (), "strategy": "pcdarts"}, ConfigError, "keep channels and size"),
        ({"table": "nowhere.npz"}, DataError, "no table at .*nowhere.npz"),
        ({"space_set": ("chanels=4",)}, SpaceError, "nasbench201 has no setting 'chanels'"),
    ],
)
def test_what_does_not_go_together_writes_nothing(tmp_path, settings, error, message):
    with pytest.raises(error, match=message):
        run_gradient(tiny(**settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_damaged_result_is_said(tmp_path):
    run_gradient(tiny(retrain=False, epochs=1), tmp_path / "run")
    write_sealed(tmp_path / "run" / "architectures.json", {})
    with pytest.raises(RunError, match=r"architectures.json cannot be read as architectures of nasbench201"):
        resume_gradient(tmp_path / "run")


def test_temperature_falls_with_the_epochs():
    search = BilevelSearch(
        tiny(strategy="gdas", epochs=10, temperature=5.0, temperature_end=0.5), 10, 1, NASBench201(4, 1)
    )
    found = []
    for epoch in range(10):
        search.begin_epoch(epoch)
        found.append(search.network.relaxation.temperature)
    np.testing.assert_allclose(found, np.linspace(5, 0.5, 10))
