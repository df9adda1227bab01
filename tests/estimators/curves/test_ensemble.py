"""Extrapolation with uncertainty: the posterior, calibration, invariances, errors."""

import numpy as np
import pytest
from scipy.stats import norm

from nasfast.errors import ConfigError, DataError, ShapeError
from nasfast.estimators.curves import CurveEnsemble, Prediction
from nasfast.estimators.curves.ensemble import PRIOR
from nasfast.estimators.curves.families import family
from nasfast.estimators.curves.noise import NOISE_MODELS, NoiseModel
from nasfast.estimators.curves.posterior import NOISE_SCALE, NOISE_SHAPE, Atoms, infer
from nasfast.estimators.curves.seen import Seen, bin_curves, dips
from tests.helpers.learning_curves import naap, saturating

HORIZON = 60.0


def seen_of(curves):
    there = ~np.isnan(curves)
    return Seen(
        np.arange(1.0, curves.shape[1] + 1), np.where(there, curves, 0.0), there.astype(float), float(curves.shape[1])
    )


def test_prediction_of_one_normal_component():
    one = Prediction(np.full((1, 1, 1), 0.3), np.full((1, 1, 1), 0.1))
    assert one.mean[0, 0] == pytest.approx(0.3)
    assert one.std[0, 0] == pytest.approx(0.1)
    assert one.quantile(0.9)[0, 0] == pytest.approx(norm.ppf(0.9, 0.3, 0.1))
    assert one.probability_above(0.35)[0, 0] == pytest.approx(norm.sf(0.35, 0.3, 0.1))
    assert one.log_density(0.35)[0, 0] == pytest.approx(norm.logpdf(0.35, 0.3, 0.1))
    z = 0.5  # Gneiting, Raftery, JASA 2007, equation 21
    crps = 0.1 * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    assert one.crps(0.35)[0, 0] == pytest.approx(crps)


def test_prediction_of_a_mixture_against_draws():
    generator = np.random.default_rng(0)
    centres, scales = generator.normal(size=(2, 3, 7)), generator.uniform(0.2, 1, (2, 3, 7))
    mixture = Prediction(centres, scales)
    draws = (centres[..., None] + scales[..., None] * generator.standard_normal((2, 3, 7, 20_000))).reshape(2, 3, -1)
    np.testing.assert_allclose(mixture.mean, draws.mean(-1), atol=0.02)
    np.testing.assert_allclose(mixture.std, draws.std(-1), atol=0.02)
    for q in (0.05, 0.5, 0.9):
        np.testing.assert_allclose(mixture.quantile(q), np.quantile(draws, q, axis=-1), atol=0.04)
        np.testing.assert_allclose(mixture.cdf(mixture.quantile(q)), q, atol=1e-9)
    value = np.full((2, 3), 0.4)
    half = draws.shape[-1] // 2
    shuffled = generator.permuted(draws, axis=-1)
    crps = np.abs(draws - 0.4).mean(-1) - np.abs(shuffled[..., :half] - shuffled[..., half:]).mean(-1) / 2
    np.testing.assert_allclose(mixture.crps(value), crps, atol=0.02)


@pytest.mark.parametrize("name", ["pow3", "hill3", "log-log-linear"])
@pytest.mark.parametrize("noise", [NoiseModel(0.0, 0.0), NoiseModel(3.0, 1.0)])
def test_evidence_against_numerical_integration(name, noise):
    """One atom: a, b and the noise's variance integrated by brute force, over the same bounds."""
    curve = saturating(1, 12, 0.02, seed=1)
    curve[0, 3] = np.nan
    seen = seen_of(curve)
    atoms = Atoms((family(name),), (family(name).grid(HORIZON)[5:6],), (noise,), HORIZON)
    posterior = infer(seen, atoms)
    there = ~np.isnan(curve[0])
    times, y = seen.times[there], curve[0, there]
    covariance = noise.drift(times, times, 1.0, 12.0) + np.diag(noise.white(times, 12.0))
    precision, log_det = np.linalg.inv(covariance), np.linalg.slogdet(covariance)[1]
    g = atoms.g(times)[0]
    kind, at_first, at_end = family(name).kind, atoms.g(np.ones(1))[0, 0], atoms.g(np.array([HORIZON]))[0, 0]
    slope, level = float(posterior.slope.squeeze()), float(posterior.level.squeeze())
    width = np.sqrt(float((posterior.rate / posterior.shape).squeeze()))
    a_width = 15 * width * max(float(posterior.level_scale.squeeze()), 1e-9)
    b_width = 15 * width * float(posterior.slope_scale.squeeze())
    a_width += b_width * abs(float(posterior.tilt.squeeze()))
    least, most = float(posterior.least.squeeze()), float(posterior.most.squeeze())
    a_axis = np.array([0.0]) if kind == "scale" else np.linspace(level - a_width, level + a_width, 401)
    b_axis = np.array([1.0]) if kind == "shift" else np.linspace(slope - b_width, slope + b_width, 401)
    a, b = np.meshgrid(a_axis, b_axis, indexing="ij")
    residual = y - a[..., None] - b[..., None] * g
    error = np.einsum("abi,ij,abj->ab", residual, precision, residual)
    # The noise's variance in closed form: a multivariate t.
    n, rate = len(y), NOISE_SHAPE * NOISE_SCALE**2
    from scipy.special import gammaln

    log = (
        NOISE_SHAPE * np.log(rate) - gammaln(NOISE_SHAPE) + gammaln(NOISE_SHAPE + n / 2)
        - (NOISE_SHAPE + n / 2) * np.log(rate + error / 2) - 0.5 * log_det - n / 2 * np.log(2 * np.pi)
    )  # fmt: skip
    log = np.where((b >= least) & (b <= most), log, -np.inf)
    density = {"affine": at_end - at_first, "scale": at_end, "shift": 1.0}[kind]
    cell = (a_axis[1] - a_axis[0] if len(a_axis) > 1 else 1.0) * (b_axis[1] - b_axis[0] if len(b_axis) > 1 else 1.0)
    expected = np.log(np.exp(log - log.max()).sum() * cell) + log.max() + np.log(density)
    # The bounds are applied to a normal instead of a t: a few percent.
    assert posterior.evidence.squeeze() == pytest.approx(expected, abs=0.1)


def test_calibration_on_curves_whose_truth_is_known():
    curves = saturating(300, 60, 0.005, seed=5)
    ensemble = CurveEnsemble().learn(saturating(100, 60, 0.005, seed=6))
    prediction = ensemble.extrapolate(curves[:, :20], [60.0])
    rank = prediction.cdf(curves[:, -1:])[:, 0]
    for level in (0.5, 0.8, 0.9):
        assert (np.abs(rank - 0.5) < level / 2).mean() == pytest.approx(level, abs=0.1)
    last = np.abs(curves[:, -1] - curves[:, 19]).mean()
    assert np.abs(prediction.median[:, 0] - curves[:, -1]).mean() < 0.5 * last


def test_real_curves_beat_the_last_seen_value_without_learning():
    curves = naap(test=True)[0]
    for seen in (9, 18, 27, 45):
        prediction = CurveEnsemble().extrapolate(curves[:, :seen], [90.0])
        error = np.abs(prediction.median[:, 0] - curves[:, -1]).mean()
        assert error < 0.85 * np.abs(curves[:, seen - 1] - curves[:, -1]).mean()


def test_learning_from_real_curves_makes_others_likelier():
    train, test = naap(test=False)[0], naap(test=True)[0]
    before = CurveEnsemble().extrapolate(test[:, :27], [90.0]).log_density(test[:, -1:]).mean()
    after = CurveEnsemble().learn(train).extrapolate(test[:, :27], [90.0]).log_density(test[:, -1:]).mean()
    assert after > before


def test_uncertainty_falls_as_more_is_seen():
    curves = naap(test=True)[0]
    stds = [CurveEnsemble().extrapolate(curves[:, :seen], [90.0]).std.mean() for seen in (9, 27, 63, 81)]
    assert stds == sorted(stds, reverse=True)


def test_percent_and_shares_give_the_same():
    curves = naap(test=True)[0][:4, :27]
    share = CurveEnsemble().extrapolate(curves, [60.0, 90.0])
    percent = CurveEnsemble(bounds=(0, 100)).extrapolate(100 * curves, [60.0, 90.0])
    np.testing.assert_allclose(percent.centres, 100 * share.centres, rtol=1e-6)
    np.testing.assert_allclose(percent.scales, 100 * share.scales, rtol=1e-6)


def test_errors_as_negatives():
    curves = naap(test=True)[0][:4, :27]
    share = CurveEnsemble().extrapolate(curves, [90.0])
    negative = CurveEnsemble(bounds=(-1.0, 0.0)).extrapolate(-(1 - curves), [90.0])
    np.testing.assert_allclose(negative.median, share.median - 1, atol=1e-6)


def test_a_curve_does_not_depend_on_others_or_on_the_order():
    curves = naap(test=True)[0][:, :27]
    together = CurveEnsemble().extrapolate(curves, [90.0])
    alone = CurveEnsemble().extrapolate(curves[3:4], [90.0])
    np.testing.assert_allclose(alone.median[0], together.median[3], rtol=1e-7)
    np.testing.assert_allclose(
        CurveEnsemble().extrapolate(curves[::-1], [90.0]).median[::-1], together.median, rtol=1e-7
    )


def test_same_seed_same_bits_and_seeds_agree():
    curves = naap(test=True)[0][:4, :27]
    one, again, other = (CurveEnsemble(seed=seed).extrapolate(curves, [90.0]) for seed in (1, 1, 2))
    assert (one.centres == again.centres).all()
    assert (one.scales == again.scales).all()
    assert (one.centres != other.centres).any()
    assert (np.abs(one.mean - other.mean) < 0.2 * one.std).all()


def test_missing_values_are_no_values():
    curves = naap(test=True)[0][:3, :20].copy()
    padded = np.concatenate([curves, np.full((3, 3), np.nan)], 1)
    ensemble = CurveEnsemble(("pow3", "weibull"))
    # Trailing NaN: the same curve, seen for less long than it could have been.
    short, long = (ensemble.extrapolate(c, [90.0]).median for c in (curves, padded))
    np.testing.assert_allclose(short, long, atol=0.01)
    curves[1, 5:9] = np.nan
    whole = ensemble.extrapolate(curves[[0, 2]], [90.0]).median
    np.testing.assert_allclose(ensemble.extrapolate(curves, [90.0]).median[[0, 2]], whole, rtol=1e-9)
    assert np.isfinite(ensemble.extrapolate(curves, [90.0]).centres).all()


def test_dips_of_a_cyclic_learning_rate_are_found_and_rises_are_not():
    curves = naap(test=True)[0]
    found = dips(curves)
    assert found[:, 30::3].mean() > 0.8  # epochs 31, 34 ...: the learning rate was raised before them
    assert found[:, 31::3].mean() < 0.05
    assert found[:, 32::3].mean() < 0.05
    assert not dips(saturating(50, 60, 0.0, seed=0)).any()
    assert not dips(np.array([[0.1, 0.2, 0.15]])).any()


def test_bins_keep_means_and_counts():
    curves = saturating(3, 90, 0.01, seed=2)
    curves[1, 70] = np.nan
    seen = bin_curves(curves, np.arange(1.0, 91), 32)
    assert len(seen.times) <= 32
    assert seen.counts.sum(1).tolist() == [90, 89, 90]
    np.testing.assert_allclose((seen.values * seen.counts).sum(1), np.nansum(curves, 1))


def test_family_probabilities_find_the_family():
    times = np.arange(1.0, 41)
    power, exponential = 0.9 - 0.5 * times**-0.6, 0.9 - 0.5 * np.exp(-times / 6)
    noise = 0.001 * np.random.default_rng(0).standard_normal((2, 40))
    found = CurveEnsemble(("pow3", "exp3"), prior="even").family_probabilities(np.stack([power, exponential]) + noise)
    np.testing.assert_allclose(found.sum(1), 1)
    assert found[0, 0] > 0.99
    assert found[1, 1] > 0.99


def test_many_targets_and_no_curves():
    curves = naap(test=True)[0][:2, :27]
    every = CurveEnsemble().extrapolate(curves, np.arange(28.0, 91))
    assert every.mean.shape == (2, 63)
    last = CurveEnsemble().extrapolate(curves, 90.0)
    np.testing.assert_allclose(every.median[:, -1], last.median[:, 0], rtol=1e-9)
    assert CurveEnsemble().extrapolate(np.zeros((0, 9)), [20.0]).mean.shape == (0, 1)


def test_shipped_prior_is_whole_and_normal():
    with np.load(PRIOR, allow_pickle=False) as file:
        families = [name for name in file.files if name != "surprise"]
        total = sum(float(file[name].sum()) for name in families)
        assert all((file[name] >= 0).all() for name in families)
        assert all(len(file[name]) == len(NOISE_MODELS) for name in families)
        assert CurveEnsemble().surprise == float(file["surprise"])
    assert 0 < CurveEnsemble().surprise < 0.2
    assert total == pytest.approx(1, abs=1e-4)
    assert CurveEnsemble(("pow3",)).weights.sum() == pytest.approx(1)


CURVES = np.linspace(0.1, 0.5, 10)[None]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: CurveEnsemble(()), ConfigError, "families must be one or more different names"),
        (lambda: CurveEnsemble("pow3"), ConfigError, "families must be one or more different names, got 'pow3'"),
        (lambda: CurveEnsemble(bounds=(1, 0)), ConfigError, "bounds must be two finite numbers, the lower first"),
        (lambda: CurveEnsemble(prior="flat"), ConfigError, 'prior must be "learned" or "even", got \'flat\''),
        (lambda: CurveEnsemble(("janoschek",)), ConfigError, 'no learned prior for janoschek; use prior="even"'),
        (lambda: CurveEnsemble(draws=1), ConfigError, "draws must be at least 2, got 1"),
        (lambda: CurveEnsemble().extrapolate(CURVES, []), DataError, "targets must be one or more finite times"),
        (lambda: CurveEnsemble().extrapolate(CURVES, [0.5]), DataError, "targets must be .* from 1 up"),
        (lambda: CurveEnsemble().extrapolate(CURVES, [20], horizon=15), ConfigError, "horizon must be finite and no"),
        (lambda: CurveEnsemble().extrapolate(CURVES[:, :2], [20]), DataError, "curve 0 has 2 values that are not NaN"),
        (
            lambda: CurveEnsemble().extrapolate(100 * CURVES, [20]),
            DataError,
            "curve 0 has the value 10, expected 0 to 1",
        ),
        (lambda: CurveEnsemble().learn(np.zeros((0, 5))), DataError, "expected at least one finished curve"),
        (lambda: CurveEnsemble().learn(CURVES[:, :3]), DataError, "curve 0 has 3 values .* at least 4"),
        (lambda: CurveEnsemble().learn(CURVES, smoothing=0), ConfigError, "smoothing must be positive"),
        (lambda: CurveEnsemble().extrapolate(CURVES, [20]).quantile(1.0), ConfigError, "q must be between 0 and 1"),
        (lambda: CurveEnsemble().extrapolate(CURVES, [20]).cdf(np.zeros((2, 1))), ShapeError, r"a number or \[1, 1\]"),
        (lambda: Prediction(np.zeros((1, 1, 1)), np.zeros((1, 1, 1))), ConfigError, "scales finite and positive"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
