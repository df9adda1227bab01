"""The learned regressor, and early termination."""

import json

import numpy as np
import pytest

from nasfast.errors import ConfigError, DataError, ShapeError
from nasfast.estimators.curves import CurveEnsemble, CurveRegressor, CurveStopper
from tests.helpers.learning_curves import naap, saturating

KINDS = ("svr", "bayesian")


@pytest.mark.parametrize("kind", KINDS)
def test_regressor_on_curves_whose_truth_is_known(kind):
    train, test = (saturating(count, 40, 0.004, seed) for count, seed in ((120, 1), (80, 2)))
    found = CurveRegressor(kind).fit(train).predict(test[:, :15])
    error = np.abs(found.median[:, 0] - test[:, -1])
    assert error.mean() < 0.35 * np.abs(test[:, 14] - test[:, -1]).mean()
    rank = found.cdf(test[:, -1:])[:, 0]
    for level in (0.5, 0.8, 0.9):
        assert (np.abs(rank - 0.5) < level / 2).mean() == pytest.approx(level, abs=0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_regressor_uses_the_features(kind):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(80, 2))
    curves = saturating(80, 20, 0.001, seed=0)
    curves[:, -1] = curves[:, 9] + 0.05 * features[:, 0]  # nothing in the first ten values tells
    train, test = slice(0, 60), slice(60, 80)
    with_features = CurveRegressor(kind).fit(curves[train], features[train]).predict(curves[test, :10], features[test])
    without = CurveRegressor(kind).fit(curves[train]).predict(curves[test, :10])
    error, blind = (np.abs(p.median[:, 0] - curves[test, -1]).mean() for p in (with_features, without))
    assert error < 0.5 * blind


@pytest.mark.parametrize("kind", KINDS)
def test_regressor_is_the_same_again_and_fills_gaps(kind):
    train, features = naap(test=False)
    test, others = naap(test=True)
    one, two = (CurveRegressor(kind, seed=3).fit(train, features).predict(test[:, :18], others) for _ in range(2))
    assert (one.centres == two.centres).all()
    straight = np.tile(np.linspace(0.1, 0.5, 18), (1, 1))
    gap = straight.copy()
    gap[0, 5:8] = np.nan  # on a straight line, interpolation is exact
    model = CurveRegressor(kind).fit(train)
    np.testing.assert_allclose(model.predict(gap).median, model.predict(straight).median, rtol=1e-6)


def test_errors_of_a_regressor():
    curves = saturating(12, 20, 0.01, seed=0)
    with pytest.raises(ConfigError, match='kind must be "svr" or "bayesian"'):
        CurveRegressor("forest")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="a regressor predicts after fit"):
        CurveRegressor().predict(curves)
    with pytest.raises(DataError, match="at least 10 finished trials, got 9"):
        CurveRegressor().fit(curves[:9])
    with pytest.raises(DataError, match="curve 2 has no last value"):
        CurveRegressor().fit(np.where((np.arange(12) == 2)[:, None] & (np.arange(20) == 19), np.nan, curves))
    with pytest.raises(ShapeError, match=r"features must be \[12, F\]"):
        CurveRegressor().fit(curves, np.ones((11, 2)))
    model = CurveRegressor("bayesian").fit(curves, np.ones((12, 2)))
    with pytest.raises(ShapeError, match="partial must have 3 to 19 columns, got 20"):
        model.predict(curves, np.ones((12, 2)))
    with pytest.raises(ShapeError, match=r"features must be \[K, 2\] as in fit"):
        model.predict(curves[:, :10])


def watched(curves, last=None, **settings):
    """A stopper that has seen whole curves, and the number of epochs it allowed of one more."""
    stopper = CurveStopper(curves.shape[1], **settings)
    for trial, curve in enumerate(curves):
        for epoch, value in enumerate(curve, 1):
            stopper.observe(trial, epoch, float(value))
    if last is None:
        return stopper
    for epoch, value in enumerate(last, 1):
        stopper.observe("next", epoch, float(value))
        if stopper.should_stop("next"):
            return epoch
    return len(last)


def test_the_hopeless_stops_and_the_best_does_not():
    curves = naap(test=True)[0]
    order = np.argsort(curves[:, -1])
    middle, worst, best = curves[order[len(order) // 2]], curves[order[0]], curves[order[-1]]
    assert watched(middle[None], worst) < 60
    assert watched(middle[None], best) == 90


def test_nothing_stops_before_there_is_an_incumbent_or_the_first_epoch():
    curve = naap(test=True)[0][0]
    stopper = CurveStopper(90, first_epoch=20)
    for epoch in range(1, 30):
        stopper.observe("a", epoch, 0.01)
        assert not stopper.should_stop("a")
    assert stopper.incumbent is None
    assert stopper.probability("a") == 1
    assert watched(curve[None], np.full(90, 0.1), first_epoch=20) == 20


def test_probability_is_the_ensembles():
    curves = naap(test=True)[0]
    stopper = watched(curves[:1])
    for epoch, value in enumerate(curves[1, :18], 1):
        stopper.observe("b", epoch, float(value))
    expected = CurveEnsemble().extrapolate(curves[1:2, :18], [90.0]).probability_above(curves[0, -1])
    assert stopper.probability("b") == pytest.approx(float(expected[0, 0]), rel=1e-9)


def test_state_is_plain_and_goes_on_with_the_same_decisions():
    curves = naap(test=False)[0][:12]  # over ten: the prior was learned anew
    stopper = watched(curves, bound=0.1, seed=4)
    for epoch, value in enumerate(naap(test=True)[0][0, :20], 1):
        stopper.observe("c", epoch, float(value))
    before = stopper.probability("c")
    again = CurveStopper.from_state(json.loads(json.dumps(stopper.state())))
    assert again.probability("c") == before
    assert again.state() == stopper.state()
    assert (again.bound, again.seed, again.incumbent) == (0.1, 4, curves[:, -1].max())


def test_errors_of_a_stopper():
    stopper = CurveStopper(20)
    stopper.observe("a", 3, 0.5)
    stopper.observe("a", 3, 0.5)  # a trial that is run again
    for call, message in (
        (lambda: stopper.observe("a", 21, 0.5), "trial a: epoch must be 1 to 20, got 21"),
        (lambda: stopper.observe("a", 4, float("nan")), "trial a, epoch 4: expected a finite value, got nan"),
        (lambda: stopper.observe("a", 3, 0.6), "trial a, epoch 3: observed 0.5 before, now 0.6"),
        (lambda: stopper.probability("a"), "trial a: 1 epochs observed, expected at least 3"),
    ):
        with pytest.raises(DataError, match=message):
            call()
    for arguments in ({"bound": 0.0}, {"bound": 1.0}, {"first_epoch": 2}, {"first_epoch": 20}):
        with pytest.raises(ConfigError, match=f"{next(iter(arguments))} must be"):
            CurveStopper(20, **arguments)
