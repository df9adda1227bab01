"""The bench of learning curves: its data, its scores, and what it concludes."""

# ruff: noqa: E402

import numpy as np
import pytest

from tests.helpers.learning_curves import SLICE, naap
from tests.helpers.require import require

require("matplotlib")  # before what imports it

from bench import curve_mcmc
from bench.curve_data import FEWEST_ANCHORS, Curves, folds, read_lcdb, read_naap
from bench.curve_methods import Scores, score_last
from bench.curve_stopping import by_median, by_probability, predictions
from bench.curves import ENSEMBLE, LAST, verdicts
from nasfast.errors import DataError
from nasfast.estimators.curves import CurveEnsemble, Prediction


def test_splits_share_no_curve():
    train, test = read_naap(SLICE)
    assert (train[0].values == naap(test=False)[0]).all()
    assert (test[0].values == naap(test=True)[0]).all()
    halves = read_lcdb(SLICE)
    assert all(halves)
    rows = [{tuple(row[~np.isnan(row)]) for group in half for row in group.values} for half in halves]
    assert not rows[0] & rows[1]
    for group in halves[0] + halves[1]:
        assert len(group.times) >= FEWEST_ANCHORS
        assert group.times[0] == 1
        assert not np.isnan(group.values[:, -1]).any()


def test_folds_test_every_curve_once():
    own = read_naap(SLICE)
    found = folds(own, 3)
    everything = np.concatenate([part[0].values for part in own])
    tested = np.concatenate([test[0].values for _, test in found])
    assert sorted(map(tuple, tested)) == sorted(map(tuple, everything))
    for train, test in found:
        assert len(train[0].values) + len(test[0].values) == len(everything)
        assert not set(map(tuple, train[0].values)) & set(map(tuple, test[0].values))
        assert len(test[0].features) == len(test[0].values)


def test_scores_of_two_parts_are_those_of_all():
    prediction, truth = Prediction(np.zeros((4, 1, 1)), np.ones((4, 1, 1))), np.array([0.0, 0.5, -1.0, 2.0])
    whole, first = Scores(), Scores()
    whole.add(prediction, truth)
    first.add(Prediction(prediction.centres[:1], prediction.scales[:1]), truth[:1])
    second = Scores(seconds=2.0)
    second.add(Prediction(prediction.centres[1:], prediction.scales[1:]), truth[1:])
    first.merge(second)
    assert first.summary() == pytest.approx(whole.summary() | {"seconds": 2.0})


def test_a_file_of_another_kind(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(DataError, match=r"other\.npz: expected arrays test_acc.*; features is missing"):
        read_naap(tmp_path / "other.npz")
    with pytest.raises(DataError, match=r"none\.npz cannot be read"):
        read_lcdb(tmp_path / "none.npz")


def test_scores_by_hand():
    scores = Scores()
    scores.add(Prediction(np.zeros((4, 1, 1)), np.ones((4, 1, 1))), np.array([0.0, 0.5, -1.0, 2.0]))
    found = scores.summary()
    assert found["mae"] == pytest.approx(3.5 / 4)
    # A normal's central intervals end at 0.67, 1.28 and 1.64.
    assert (found["coverage_50"], found["coverage_80"], found["coverage_90"]) == (50, 75, 75)
    assert found["miscoverage"] == pytest.approx((0 + 5 + 15) / 3)


def test_last_seen_value_has_the_spread_of_training_curves():
    times = np.arange(1.0, 5)
    train = Curves(np.array([[0, 1, 1, 2.0], [0, 1, 1, 4]]), times, np.zeros((2, 0)))
    test = Curves(np.array([[0, 1, 5, 6.0]]), times, np.zeros((1, 0)))
    plain = score_last([train], [test], 0.75, shifted=False)
    assert plain.error[0].tolist() == [1]
    spread = np.sqrt((1 + 9) / 2)
    assert plain.log[0][0] == pytest.approx(-0.5 / spread**2 - np.log(spread) - 0.5 * np.log(2 * np.pi))
    assert score_last([train], [test], 0.75, shifted=True).error[0].tolist() == [1]  # 5 + 2 against 6


def test_verdict_takes_the_best_single_family_of_each_measure():
    def row(value):
        return {0.5: {"curves": 40, "mae": value, "crps": value, "log_score": -value, "miscoverage": value}}

    summaries = {
        ENSEMBLE: row(2.0),
        LAST: row(3.0),
        "pow3, Bayesian": row(2.5),
        "pow4, least squares": {0.5: {"mae": 1.0}},
    }
    found = verdicts(summaries)
    assert (found["mae"]["best single family"], found["mae"]["beats best single"]) == ("pow4, least squares", False)
    assert (found["crps"]["best single family"], found["crps"]["beats best single"]) == ("pow3, Bayesian", True)
    assert found["log_score"]["beats best single"]
    assert all(v["beats last"] for v in found.values())
    assert [measure for measure, v in found.items() if not v["judged"]] == ["miscoverage"]
    summaries[ENSEMBLE][0.5]["curves"] = 440
    assert all(v["judged"] for v in verdicts(summaries).values())


def test_early_termination_saves_more_with_a_higher_bound():
    curves = naap(test=True)[0][:6]
    orders = np.stack([np.random.default_rng(i).permutation(6) for i in range(4)])
    ahead = predictions(CurveEnsemble(("pow4", "weibull")), curves)
    never, some, most = (by_probability(ahead, curves, bound, orders) for bound in (0.0, 0.1, 0.6))
    assert (never.saved, never.regret, never.found) == (0, 0, 1)
    assert 0 < some.saved < most.saved
    assert by_median(curves, orders).saved > 0


def test_sampler_finds_a_normal_distribution():
    mean, std = np.array([1.0, -2.0]), np.array([0.5, 3.0])
    start = np.random.default_rng(0).standard_normal((3, 20, 2))
    points = curve_mcmc.sample(lambda x: -0.5 * (((x - mean) / std) ** 2).sum(-1), start, 2000, 4000, seed=1)
    np.testing.assert_allclose(points.mean(1), np.tile(mean, (3, 1)), atol=0.4)
    np.testing.assert_allclose(points.std(1), np.tile(std, (3, 1)), rtol=0.15)


def test_markov_chain_and_grid_agree_on_one_family():
    """The same model by two ways; the chain's prior is even in a and b, which 30 values make no difference to."""
    times = np.arange(1.0, 31)
    curves = 0.8 - 0.5 * times**-0.7 + 0.01 * np.random.default_rng(2).standard_normal((2, 30))
    chain = curve_mcmc.extrapolate(("pow3",), curves, 40.0, steps=1500, walkers=40, seed=0)
    grid = CurveEnsemble(("pow3",), prior="even").extrapolate(curves, [40.0])
    np.testing.assert_allclose(grid.median, chain.median, atol=0.006)
