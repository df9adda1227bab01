"""What the bench of searches at several fidelities counts."""

# ruff: noqa: E402

import json

import numpy as np
import pytest

from tests.helpers.require import require

require("matplotlib")  # before what imports it

from bench.fidelity import Curves, Networks, at, misses, run_naap, search, summary, trace
from nasfast.search.history import Trial


def trials(*given):
    return [
        Trial(i, (row,), {"score": score, "fidelity": float(fidelity)})
        for i, (row, fidelity, score) in enumerate(given)
    ]


def test_epochs_are_paid_once():
    run = trials((0, 3, 1.0), (1, 3, 2.0), (1, 9, 4.0), (1, 9, 4.0), (0, 9, 5.0))
    costs, scores = trace(run, 9, goes_on=True)
    assert costs.tolist() == [3, 6, 12, 12, 18]
    assert scores.tolist() == [-np.inf, -np.inf, 4, 4, 5]
    assert trace(run, 9, goes_on=False)[0].tolist() == [3, 6, 15, 15, 24]
    assert [at(costs, scores, spent) for spent in (0, 11, 12, 17, 99)] == [-np.inf, -np.inf, 4, 4, 5]


def test_a_search_ends_where_it_proposes_nothing_new():
    accuracy = np.linspace(0, 1, 12)[:, None] * np.linspace(0.5, 1, 90)[None]
    costs, scores = search(Networks(12), Curves(accuracy), "asha", (3, 10, 30, 90), {}, 0, 1e9, True)
    assert costs[-1] <= 12 * 90
    assert scores[-1] == 1


def test_summary_and_misses():
    runs = [(np.array([100.0, 250.0]), np.array([0.1, 0.3])), (np.array([200.0, 250.0]), np.array([0.2, 0.2]))]
    found = summary({"asha": runs}, np.array([0.3, 0.3]), 1000)
    method = found["methods"]["asha"]
    assert method["share of full training"][-1] == 0.25
    assert method["mean"][-1] == pytest.approx(25)
    assert method["reaches"][-1] == 0.5
    assert method["mean"][0] is None
    assert misses({"here": found}) == ["asha on here"]
    assert misses({"here": found | {"goal": 25}}) == []


def test_runs_on_a_table_of_curves(tmp_path):
    accuracy = np.random.default_rng(0).random((30, 90)).astype(np.float32)
    np.savez(tmp_path / "curves.npz", test_acc=accuracy)
    found = run_naap(tmp_path / "curves.npz", 1)
    assert found["epochs of full training"] == 2700
    assert found["goal"] == pytest.approx(100 * accuracy[:, -1].max())
    assert set(found["methods"]) == {"full training", "successive-halving", "asha", "hyperband"}
    assert found["methods"]["full training"]["mean"][-1] == pytest.approx(found["goal"])
    json.dumps(found)
