"""What the bench of the zero-cost proxies computes from scores."""

import numpy as np
import pytest

from bench.arrays import read_arrays
from bench.zero_cost import compare, misses, score
from nasfast.errors import DataError


def test_correlations_and_what_falls_short():
    accuracy = np.arange(20.0)
    noisy = accuracy.copy()
    noisy[[0, 19]] = noisy[[19, 0]]
    good, bad = compare(accuracy**3, noisy, accuracy), compare(noisy, accuracy**2, accuracy)
    assert good == pytest.approx({"own": 1.0, "stored": bad["own"], "mutual": bad["own"]})
    assert bad["stored"] == 1.0
    assert compare(noisy, None, accuracy).keys() == {"own"}
    assert misses({"good": good, "bad": bad, "alone": {"own": -1.0}}) == ["bad"]


class Interrupted:
    proxies = ("synflow",)

    def __init__(self, after):
        self.left = after

    def estimate(self, rows):
        from nasfast.estimators.base import Estimate

        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return [Estimate(float(rows.sum()), {"synflow": float(rows.sum())})]


def test_ctrl_c_leaves_what_was_scored():
    rows = np.arange(30)[:, None]
    scores, _ = score(Interrupted(12), rows)
    assert scores["synflow"].tolist() == list(range(12))
    with pytest.raises(KeyboardInterrupt):
        score(Interrupted(9), rows)


def test_file_that_lacks_an_array_is_named(tmp_path):
    np.savez(tmp_path / "t.npz", ops=np.zeros(3))
    with pytest.raises(DataError, match="expected arrays ops, acc; acc is missing"):
        read_arrays(tmp_path / "t.npz", ["ops", "acc"])
    (tmp_path / "b.npz").write_bytes(b"no")
    with pytest.raises(DataError, match="cannot be read"):
        read_arrays(tmp_path / "b.npz", ["ops"])
