"""Metrics, ensembles, temperatures, errors of estimates."""

import numpy as np
import pytest
from scipy.special import softmax

from nasfast.automl.calibrate import best_temperature, sharpen
from nasfast.automl.ensemble import blend, greedy_weights
from nasfast.automl.estimate import choice_optimism, standard_error
from nasfast.automl.metrics import METRICS, metric_for
from nasfast.automl.task import Task, probabilities
from nasfast.errors import ConfigError

RNG = np.random.default_rng(0)
Y2 = RNG.integers(0, 2, 300).astype(float)
P2 = np.stack([1 - Y2, Y2], 1) * 0.4 + 0.3
Y3 = RNG.integers(0, 3, 300).astype(float)
P3 = np.eye(3)[Y3.astype(int)] * 0.4 + 0.2
YR = RNG.normal(size=300) + 5
TARGETS = {"binary": (Y2, P2), "multiclass": (Y3, P3), "regression": (YR, YR[:, None] + 0.1)}


@pytest.mark.parametrize(("name", "kind"), [(m.name, kind) for m in METRICS.values() for kind in m.tasks])
def test_a_metric_is_least_where_predictions_are_right(name, kind):
    y, p = TARGETS[kind]
    metric = METRICS[name]
    worse = p[RNG.permutation(len(p))]
    assert metric.loss(y, p) < metric.loss(y, worse)
    if metric.greater_is_better:
        assert metric.shown(metric.loss(y, p)) == pytest.approx(
            1 if kind != "regression" else metric.shown(metric.loss(y, p))
        )


def test_metrics_are_for_their_tasks():
    assert metric_for(Task("binary", ("a", "b")), None).name == "roc_auc"
    with pytest.raises(
        ConfigError, match="--metric of a regression task must be one of rmse, mae, r2, rmsle, got 'mse'"
    ):
        metric_for(Task("regression"), "mse")


def test_probabilities_of_raw_outputs():
    raw = RNG.normal(size=(7, 3)) * 5
    np.testing.assert_allclose(probabilities(raw, Task("multiclass", ("a", "b", "c"))), softmax(raw, 1), rtol=1e-12)
    p = probabilities(raw[:, :1], Task("binary", ("a", "b")))
    np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp(-raw[:, 0])), rtol=1e-12)
    np.testing.assert_allclose(p.sum(1), 1)


def test_the_ensemble_takes_what_complements_and_leaves_what_does_not():
    y = RNG.normal(size=2000)
    noise = RNG.normal(size=(3, 2000))
    good, other, bad = (y + noise[i] * s for i, s in ((0, 0.5), (1, 0.5), (2, 30.0)))
    predictions = [a[:, None] for a in (good, other, bad)]
    weights, loss = greedy_weights(predictions, y, METRICS["rmse"])
    assert weights.sum() == pytest.approx(1)
    assert weights[2] == 0
    assert 0.35 < weights[0] < 0.65
    assert loss < METRICS["rmse"].loss(y, predictions[0]) * 0.8
    assert loss == pytest.approx(METRICS["rmse"].loss(y, blend(predictions, weights)))


def test_a_single_member_has_all_the_weight():
    weights, _ = greedy_weights([P2], Y2, METRICS["roc_auc"])
    assert weights.tolist() == [1.0]


def test_temperature_undoes_what_sharpened():
    logits = RNG.normal(size=(4000, 3)) * 2
    p = softmax(logits, 1)
    y = np.array([RNG.choice(3, p=row) for row in p])
    assert best_temperature(p, y) == pytest.approx(1, abs=0.1)
    assert best_temperature(sharpen(p, 0.5), y) == pytest.approx(2, abs=0.2)
    np.testing.assert_allclose(sharpen(sharpen(p, 0.5), 2), p, atol=1e-9)


def test_the_standard_error_is_that_of_a_mean():
    y = RNG.normal(size=5000)
    wrong = RNG.normal(size=5000)
    error = standard_error(y, (y + wrong)[:, None], METRICS["mae"], seed=0)
    assert error == pytest.approx(np.abs(wrong).std() / np.sqrt(5000), rel=0.25)


def test_choosing_among_noise_is_optimistic_and_one_member_is_not():
    y = RNG.integers(0, 2, 200).astype(float)
    noise = [np.stack([1 - q, q], 1) for q in RNG.random((30, 200))]
    assert choice_optimism(noise, y, METRICS["roc_auc"], seed=0) > 0.03
    assert choice_optimism(noise[:1], y, METRICS["roc_auc"], seed=0) == pytest.approx(0, abs=1e-9)
