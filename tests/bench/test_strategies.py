"""What the bench of the strategies computes from its searches."""

# ruff: noqa: E402

import numpy as np

from tests.helpers.require import require

require("matplotlib")  # before what imports it

from bench.strategies import beats_random, hypervolume, marks


def test_hypervolume_by_hand():
    values = np.array([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 1.0], [2.0, 0.5]])
    assert hypervolume(values, 0.0, 0.0) == 3 * 1 + 2 * 1 + 1 * 1
    assert hypervolume(values[:1], 1.0, 0.5) == 2 * 0.5
    assert hypervolume(values, 5.0, 5.0) == 0


def test_smallest_lead_is_looked_for_from_100_evaluations_up():
    random = np.zeros((4, len(marks(200))))
    other = np.ones_like(random)
    other[:, :9] = -5  # up to 90 evaluations
    other[:, 14] = 0.25  # at 150
    found = beats_random({"random": random, "other": other}, "other")
    assert (found["lead"], found["evaluations"]) == (0.25, 150)
