"""What the bench of the collapse reads from the log of a search."""

# ruff: noqa: E402

import numpy as np
import pytest
import torch

from tests.helpers.require import require

require("matplotlib")  # before what imports it

from bench.collapse import judge, shrink, verdict
from nasfast.data import load_data
from nasfast.estimators.table import TableEstimator
from nasfast.spaces.nasbench201 import OPERATIONS, NASBench201

SKIP, CONV = OPERATIONS.index("skip_connect"), OPERATIONS.index("nor_conv_3x3")


def epoch_of(number, skips):
    """A row of the log whose first ``skips`` edges prefer the skip connection, the later the more."""
    weights = np.full((6, len(OPERATIONS)), 0.1)
    weights[:, CONV] = 0.2
    weights[:skips, SKIP] = 0.4 + 0.05 * np.arange(skips)
    row = {"epoch": number, "weights": weights.tolist(), "skips": skips, "alpha_entropy": 0.5}
    return row | {"train_acc": 0.5, "valid_acc": 0.4}


@pytest.fixture
def table(tmp_path):
    """Ten points of test accuracy for each convolution."""
    space = NASBench201(4, 1)
    rows = {tuple([SKIP if edge in skips else CONV for edge in range(6)])
            for skips in ((), (0,), (0, 1), (1, 2), (4, 5), range(3), range(6))}  # fmt: skip
    path = tmp_path / "table.csv"
    lines = [f"{space.decode(row)},{row.count(CONV)},{row.count(CONV) / 10}" for row in rows]
    path.write_text("\n".join(["arch,score,test_accuracy", *lines]) + "\n")
    return TableEstimator(path, space)


def test_collapse_is_seen_and_the_guard_judged(table):
    found = judge([epoch_of(number, skips) for number, skips in enumerate((0, 1, 3, 6))], table.space, table, 2)
    assert [row["accuracy"] for row in found] == [60, 50, 30, 0]
    assert [row["capped_accuracy"] for row in found] == [60, 50, 40, 40]
    assert [bool(row["guard"]) for row in found] == [False, False, True, False]
    assert found[2]["guard"] == ["3 skip connections in the architecture, more than 2"]
    assert [row["epoch"] for row in found] == [1, 2, 3, 4]
    end = verdict(found)
    assert end == {
        "epochs with nothing but skip connections": 1,
        "no convolution is left": True,
        "without a guard": 0,
        "guard=cap": 40,
        "guard=stop": 40,
        "stopped after epoch": 3,
    }


def test_a_search_that_does_not_collapse_is_not_said_to(table):
    end = verdict(judge([epoch_of(0, 0), epoch_of(1, 1)], table.space, table, 2))
    assert end.pop("epochs with nothing but skip connections") == 0
    assert end == {"no convolution is left": False, "without a guard": 50, "guard=cap": 50}


def test_images_are_averaged_down_and_the_classes_stay_even():
    small = shrink(load_data("digits"), 5, 4)
    assert small.train_images.shape == (50, 4, 4, 3)
    assert small.train_images.dtype == torch.uint8
    assert small.train_labels.bincount().tolist() == [5] * 10
    whole = load_data("digits").train_images[:1].float()
    first = small.train_images[0, 0, 0, 0].float()
    assert abs(float(whole[0, :2, :2].mean()) - float(first)) <= 0.5
