"""Pages show accuracies in percent, and every other number as it is."""

import pytest

from nasfast.config.objectives import Objective
from nasfast.errors import SpaceError
from nasfast.report import blackbox, oneshot
from nasfast.report.formats import points
from nasfast.report.run_data import RunData
from nasfast.report.scatter import Point, Scatter
from tests.helpers.page_text import PageText


def no_space():
    raise SpaceError("no space")


def search(tmp_path, objective, *metrics):
    settings = {"space": "s", "strategy": "random", "seed": 0, "estimator": "table", "data": "", "evaluations": 2}
    trials = [
        {"kind": "trial", "number": i, "arch": f"arch{i}", "row": [i], "metrics": found, "violation": 0.0}
        for i, found in enumerate(metrics)
    ]
    data = RunData("run", tmp_path, {"blackbox": settings})
    return blackbox.Search(data, settings, [Objective(objective, True)], no_space, trials)


SEEN = (
    {"score": 0.9157, "test_accuracy": 0.9437334, "latency": 0.25, "params": 70.0},
    {"score": 0.9156, "test_accuracy": 0.9437, "latency": 7.0, "params": 90.0},
)


def test_leaders_of_a_search(tmp_path):
    page = PageText(blackbox.render(search(tmp_path, "score", *SEEN)))
    assert "0.9157score, best architecture" in page.text
    assert "94.37 %its test accuracy" in page.text
    table = blackbox._leaders(search(tmp_path, "score", *SEEN))
    assert table.head[1:5] == ["score", "test accuracy", "latency", "params"]
    assert [row[1:5] for row in table.rows] == [["0.9157", "94.37 %", "0.25", "70"], ["0.9156", "94.37 %", "7", "90"]]


def test_score_with_shared_weights_is_an_accuracy(tmp_path):
    page = PageText(oneshot.render(search(tmp_path, "score", *SEEN)))
    assert "91.57 %score, best architecture" in page.text


@pytest.mark.parametrize(("objective", "readout"), [("score", "0.9157"), ("test_accuracy", "94.37 %")])
def test_progress(tmp_path, objective, readout):
    chart = blackbox._progress(search(tmp_path, objective, *SEEN))
    assert f"best so far {readout}" in chart.readout


def test_scatter():
    accuracies = Scatter([Point(1500, 0.9, "a", True), Point(2000, 0.95, "b", True)], "params", "test_accuracy").svg
    assert "params 1.5k, test_accuracy 90.00 %" in accuracies
    assert ">90%<" in accuracies
    scores = Scatter([Point(1500, 0.93121, "a", True), Point(2000, 0.93122, "b", True)], "params", "score").svg
    assert "score 0.93121" in scores
    assert "score 0.93122" in scores


def test_points_are_of_a_hundred():
    assert points(0.9437 - 0.9371) == "+0.66 points"
    assert points(0.5 - 0.75) == "−25.00 points"
