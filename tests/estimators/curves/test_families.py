"""Families of learning curves: formulas, derivatives, least-squares fits."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from nasfast.errors import ConfigError, DataError, ShapeError
from nasfast.estimators.curves import DISTINCT, FAMILIES, fit_family
from tests.helpers.learning_curves import naap, saturating

TIMES = np.arange(1.0, 31.0)
NAMES = list(FAMILIES)


def some_theta(name, count=5, horizon=90.0):
    """Points well within the bounds."""
    family = FAMILIES[name]
    low, high = family.bounds(horizon)
    share = np.random.default_rng(0).uniform(0.3, 0.7, (count, len(low)))
    log = [p.log for p in family.theta]
    with np.errstate(invalid="ignore", divide="ignore"):
        geometric = np.exp(np.log(low) + share * (np.log(high) - np.log(low)))
    return np.where(log, geometric, low + share * (high - low)) if len(low) else np.zeros((count, 0))


PUBLISHED = {
    "pow3": lambda t, a, b, alpha: a - b * t**-alpha,
    "pow4": lambda t, a, b, alpha, s: a - (b ** (-1 / alpha) * t + s * b ** (-1 / alpha)) ** -alpha,
    "log-power": lambda t, a, b, k, c: b / (1 + (t / np.exp(k)) ** c),
    "hill3": lambda t, a, b, k, e: b * t**e / (k**e + t**e),
    "mmf": lambda t, a, b, half, d: (a + b) - b / (1 + (t / half) ** d),
    "weibull": lambda t, a, b, scale, d: (a + b) - b * np.exp(-((t / scale) ** d)),
    "janoschek": lambda t, a, b, k, d: (a + b) - b * np.exp(-k * t**d),
    "exp3": lambda t, a, b, scale: (a + b) - np.exp(-t / scale + np.log(b)),
    "ilog2": lambda t, a, b: a - b / np.log(t + 1),
    "log2": lambda t, a, b: a + b * np.log(t),
    "log-log-linear": lambda t, a, b, s: np.log(s * np.exp(a) * np.log(t) + np.exp(a)),
    "vapor-pressure": lambda t, a, b, p, c: np.exp(np.log(b) - p / t + c * np.log(t)),
}


def parameters(name):
    theta = some_theta(name)
    kind = FAMILIES[name].kind
    a, b = (0.0 if kind == "scale" else 0.4), (1.0 if kind == "shift" else 0.3)
    return np.concatenate([np.tile([a, b], (len(theta), 1)), theta], 1)


@pytest.mark.parametrize("name", NAMES)
def test_formula_is_the_published_one(name):
    found = FAMILIES[name].value(TIMES, parameters(name))
    expected = [PUBLISHED[name](TIMES, *row) for row in parameters(name)]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_jacobian_against_finite_differences(name):
    family, points = FAMILIES[name], parameters(name)
    found = family.jacobian(TIMES, points)
    for i in range(points.shape[1]):
        step = 1e-6 * np.maximum(np.abs(points[:, i]), 1e-3)
        up, down = points.copy(), points.copy()
        up[:, i] += step
        down[:, i] -= step
        expected = (family.value(TIMES, up) - family.value(TIMES, down)) / (2 * step[:, None])
        if (i == 0 and family.kind == "scale") or (i == 1 and family.kind == "shift"):
            expected = np.zeros_like(expected)  # no parameter of this family
        np.testing.assert_allclose(found[..., i], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_families_rise_and_stay_finite_on_their_whole_grid(name):
    family = FAMILIES[name]
    grid = family.grid(1000.0)
    low, high = family.bounds(1000.0)
    slack = 1e-9 * np.abs(high)
    assert (grid >= low - slack).all()
    assert (grid <= high + slack).all()
    g = family.g(np.geomspace(1, 1000, 50), grid)
    assert np.isfinite(g).all()
    assert (np.diff(g) >= 0).all()


def test_what_is_not_distinct_is_the_same_function():
    assert {"log-power", "janoschek"} == set(FAMILIES) - set(DISTINCT)
    hill = FAMILIES["hill3"].g(TIMES, np.array([[np.exp(1.5), 0.7]]))
    np.testing.assert_allclose(FAMILIES["log-power"].g(TIMES, np.array([[1.5, -0.7]])), hill)
    weibull = FAMILIES["weibull"].g(TIMES, np.array([[20.0, 0.7]]))
    np.testing.assert_allclose(FAMILIES["janoschek"].g(TIMES, np.array([[20.0**-0.7, 0.7]])), weibull)


@pytest.mark.parametrize("name", NAMES)
def test_fit_is_as_good_as_scipy_from_many_starts(name):
    family = FAMILIES[name]
    curves = naap(test=False)[0][:3, :30].copy()
    curves[1, 4:7] = np.nan
    found = fit_family(name, curves, horizon=90.0)
    low, high = family.bounds(90.0)
    fixed = {"scale": 0, "shift": 1, "affine": -1}[family.kind]
    free = [i for i in range(2 + len(low)) if i != fixed]
    bottom, top = np.r_[-np.inf, -np.inf, low][free], np.r_[np.inf, np.inf, high][free]
    for k in range(len(curves)):
        there = ~np.isnan(curves[k])

        def residual(x, k=k, there=there):
            point = np.array([[0.0, 1.0, *low]])
            point[0, free] = x
            return family.value(TIMES[there], point)[0] - curves[k, there]

        starts = [np.r_[0.5, 0.3, theta][free] for theta in some_theta(name, 4)]
        best = min(least_squares(residual, x, bounds=(bottom, top), xtol=1e-12, ftol=1e-12).cost for x in starts)
        assert found.error[k] ** 2 * there.sum() <= 2 * best * (1 + 1e-6)
        np.testing.assert_allclose(found.value(TIMES)[k, there] - curves[k, there], residual(found.parameters[k, free]))


def test_fit_finds_the_truth_without_noise():
    curves = saturating(20, 40, 0.0, seed=3)
    found = fit_family("pow3", curves)
    assert found.error.max() < 1e-7
    np.testing.assert_allclose(found.value(np.arange(1.0, 41)), curves, atol=1e-6)


def test_fit_of_a_curve_does_not_depend_on_others():
    curves = naap(test=False)[0][:6, :20]
    together = fit_family("weibull", curves).parameters
    np.testing.assert_allclose(fit_family("weibull", curves[2:3]).parameters, together[2:3], rtol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("pow5", np.ones((1, 5))), ConfigError, "no family of learning curves 'pow5'; there are pow3"),
        (("pow3", np.ones(5)), ShapeError, r"curves must be \[K, T\], got shape \[5\]"),
        (("pow3", np.ones((1, 5)), np.arange(4.0)), ShapeError, r"times must be \[5\].*got \[4\]"),
        (("pow3", np.ones((1, 5)), np.array([1.0, 2, 2, 3, 4])), DataError, "times must be positive, finite and incre"),
        (("pow3", np.array([[1.0, np.inf, 1, 1]])), DataError, "curve 0 has an infinite value"),
        (
            ("pow3", np.array([[1.0, 1, 1], [np.nan, 1, 1]])),
            DataError,
            "curve 1 has 2 values that are not NaN, expected",
        ),
        (("pow3", np.ones((1, 5)), None, 0.5), ConfigError, "horizon must be finite and at least the first time"),
    ],
)
def test_errors_of_a_fit(arguments, error, message):
    with pytest.raises(error, match=message):
        fit_family(*arguments)
