"""Latency per operation: measured once, kept in a file, summed, and refused where it was measured elsewhere."""

import json

import numpy as np
import pytest
import torch

from nasfast.config.objectives import Constraint, Objective
from nasfast.errors import ConfigError
from nasfast.estimators.base import Estimate
from nasfast.estimators.latency import LatencyTable
from nasfast.search.blackbox.problem import Problem
from nasfast.search.blackbox.search import BlackBoxSearch
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.strategies.registry import make_strategy


@pytest.fixture
def space():
    return NASBench201(channels=4, cells=1)


def test_sum_of_what_the_file_holds(space, tmp_path):
    path = tmp_path / "latency.json"
    table = LatencyTable(path)
    row = space.encode("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|")
    total = table.of(space, row, size=16)
    content = json.loads(path.read_text())
    assert total == pytest.approx(sum(content["milliseconds"].values()))
    # stem, three cells of one convolution each, two reductions, head: all of different shapes
    assert len(content["milliseconds"]) == 7
    assert all(value > 0 for value in content["milliseconds"].values())
    content["milliseconds"] = dict.fromkeys(content["milliseconds"], 1.0)
    path.write_text(json.dumps(content))
    again = LatencyTable(path)
    assert again.of(space, row, size=16) == 7.0
    twice = space.encode("|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|")
    assert again.of(space, twice, size=16) == 10.0
    assert json.loads(path.read_text()) == content


def test_latency_is_an_objective_and_a_limit(space, tmp_path):
    class Sums:
        name = "sums"

        def estimate(self, rows, fidelity=None):
            return [Estimate(float(row.sum())) for row in rows]

    table = LatencyTable(tmp_path / "latency.json")
    rows = space.sample(np.random.default_rng(0), 40)
    limit = sorted(table.of(space, row) for row in rows)[20]
    objectives = (Objective("score"), Objective("latency", False))
    problem = Problem(space, Sums(), objectives, (Constraint("latency", True, limit),), latency=table)
    search = BlackBoxSearch(problem, make_strategy("nsga2").init(space, 0), 60, 20)
    while not search.done():
        search.step()
    assert search.rejected > 0
    assert all(trial.metrics["latency"] <= limit for trial in search.trials)
    assert all(trial.metrics["latency"] == table.of(space, trial.row) for trial in search.trials)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threads": 99}, r"was measured with threads 99, this is \d+"),
        ({"processor": "another"}, "was measured with processor another"),
        ({"batch": 7}, "was measured with batch 7, this is 1"),
        ({"version": 2}, r"expected nasfast.latency version 1, got nasfast.latency 2"),
        ({"milliseconds": [1]}, "is no file of latencies"),
    ],
)
def test_file_of_another_setting_is_refused(change, message, tmp_path):
    path = tmp_path / "latency.json"
    setting = LatencyTable(path).setting
    content = {"format": "nasfast.latency", "version": 1, **setting, "milliseconds": {}}
    path.write_text(json.dumps(content))
    assert LatencyTable(path).milliseconds == {}
    path.write_text(json.dumps(content | change))
    with pytest.raises(ConfigError, match=message):
        LatencyTable(path)


def test_threads_are_those_of_torch(tmp_path):
    assert LatencyTable(tmp_path / "x.json").setting["threads"] == torch.get_num_threads()
