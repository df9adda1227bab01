"""What the bench of one-shot estimates computes from a shared network and from tables."""

# ruff: noqa: E402

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.require import require

require("matplotlib")  # before what imports it

from bench.oneshot import draw_children, kendall, score, train
from bench.oneshot_baselines import macro_runs, stored_supernets
from nasfast.data import load_data
from nasfast.runs.checkpoint import CheckpointError
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.spaces.nasbench_macro import NASBenchMacro
from nasfast.utils.progress import Progress
from tests.helpers.oneshot_runs import tiny
from tests.helpers.runs import assert_same_bits
from tests.search.gradient.test_search import Stopping

QUIET = Progress(quiet=True)


def test_children_are_of_different_functions_and_follow_from_the_seed():
    space = NASBench201(4, 1)
    rows = draw_children(space, 60, 3)
    assert rows.shape == (60, 6)
    assert len({space.canonical(row) for row in rows}) == 60
    assert np.array_equal(rows, draw_children(space, 60, 3))
    assert not np.array_equal(rows, draw_children(space, 60, 4))


def test_kendall_by_hand():
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    assert kendall(truth, truth)["tau"] == 1
    assert kendall(np.array([1.0, 2.0, 4.0, 3.0]), truth)["tau"] == pytest.approx(4 / 6, abs=1e-4)
    assert kendall(-truth, truth)["tau"] == -1
    spread = kendall(np.random.default_rng(0).normal(size=200), np.arange(200.0))
    assert abs(spread["tau"]) < 0.2
    assert 0.02 < spread["std"] < 0.1


def test_training_goes_on_from_its_checkpoint_with_the_same_bits(tmp_path):
    config, dataset = tiny(epochs=2), load_data("digits")
    space = config.make_space()
    whole, log = train(config, space, dataset, tmp_path / "whole.pt", QUIET)
    assert [row["train_acc"] > 0 for row in log] == [True, True]
    part = tmp_path / "part.pt"
    with pytest.raises(SystemExit):
        train(config, space, dataset, part, Stopping(f"train {space.name}", whole.steps_per_epoch + 1))
    again, both = train(config, space, dataset, part, QUIET)
    assert [row["train_loss"] for row in both] == [row["train_loss"] for row in log]
    assert_same_bits(dict(again.network.state_dict()), dict(whole.network.state_dict()))
    with pytest.raises(CheckpointError, match="training with other lr; give those"):
        train(replace(config, lr=2 * config.lr), space, dataset, part, QUIET)
    rows = draw_children(space, 5, 0)
    found = score(again, rows, 50, [64], QUIET)
    assert list(found) == ["running statistics", "recalibrated on 64 images"]
    for values in found.values():
        assert values.shape == (5,)
        assert np.allclose(values * 50 / 100, np.round(values * 50 / 100))


def test_rankings_that_the_tables_hold(tmp_path):
    space = NASBench201()
    cells = [space.decode(row) for row in draw_children(space, 3, 0)]
    np.savez(
        tmp_path / "cells.npz",
        arch_str=np.array(cells[::-1]),
        test_acc_cifar10_e200=np.array([90.0, 91.0, 92.0]),
        supernet_oneshot_acc_cifar10=np.array([10.0, 20.0, 30.0]),
        supernet_fewshot_acc_cifar10=np.array([11.0, 21.0, 31.0]),
    )
    found = stored_supernets(tmp_path / "cells.npz", space)(np.stack([space.encode(cells[0]), space.encode(cells[2])]))
    assert {name: [values.tolist() for values in pair] for name, pair in found.items()} == {
        "published supernet, one-shot": [[30, 10], [92, 90]],
        "published supernet, few-shot": [[31, 11], [92, 90]],
    }
    chains = NASBenchMacro()
    (tmp_path / "chains.json").write_text(
        json.dumps({"archs": {"22212220": [93.1, 93.2, 93.0, 93.1, 1e6, 1e8], "00000000": [80, 81, 82, 81, 1e5, 1e7]}})
    )
    rows = np.stack([chains.encode("00000000"), chains.encode("22212220")])
    ((one, other),) = macro_runs(tmp_path / "chains.json", chains)(rows).values()
    assert (one.tolist(), other.tolist()) == ([80, 93.1], [81, 93.2])
