"""The estimators of scikit-learn: its own checks, frames, and what comes back from disk."""

import numpy as np
import pytest
from sklearn.datasets import load_iris, load_wine
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from nasfast.automl.sklearn_estimators import TableClassifier, TableRegressor

QUICK = "3 trials"  # constant, linear, boosting


def _not_so(estimator):
    return {
        "check_sample_weight_equivalence_on_dense_data": "folds are drawn of rows, whatever these weigh",
    }


@parametrize_with_checks(
    [TableClassifier("2 trials", threads=1), TableRegressor("2 trials", threads=1)], expected_failed_checks=_not_so
)
def test_what_scikit_learn_asks_of_every_estimator(estimator, check):
    check(estimator)


def test_classes_come_back_as_what_they_were_and_from_disk_as_texts(tmp_path):
    x, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    made = TableClassifier("4 trials", threads=1).fit(x, names)
    assert (made.predict(x) == names).mean() > 0.95
    found = made.predict_proba(x)
    np.testing.assert_allclose(found.sum(1), 1)
    assert made.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert {row["family"] for row in made.leaderboard()} == {"constant", "linear", "boosting", "network"}
    made.save(tmp_path / "m")
    again = TableClassifier.load(tmp_path / "m")
    assert (again.predict_proba(x) == found).all()
    assert again.predict(x).tolist() == made.predict(x).tolist()


def test_it_goes_into_what_scikit_learn_has(tmp_path):
    x, y = load_wine(return_X_y=True)
    scores = cross_val_score(TableClassifier(QUICK, metric="accuracy", threads=1), x, y, cv=3)
    assert scores.mean() > 0.9


def test_columns_that_matter_are_found():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    y = 3 * x[:, 2] + rng.normal(size=200) * 0.1
    made = TableRegressor(QUICK, threads=1).fit(x, y)
    importance = made.feature_importance(x, y)
    assert max(importance, key=lambda name: importance[name][0]) == "x2"
    assert importance["x2"][0] > 10 * abs(importance["x0"][0])


@pytest.mark.parametrize("weights", ["all", "none of the last"])
def test_weights_count(weights):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 1))
    y = np.concatenate([x[:100, 0], -x[100:, 0]])
    weight = np.ones(200) if weights == "all" else np.repeat([1.0, 0.0], 100)
    made = TableRegressor(QUICK, threads=1).fit(x, y, sample_weight=weight)
    slope = float(np.diff(made.predict([[-1.0], [1.0]]))[0])
    assert slope > 1 if weights != "all" else abs(slope) < 0.5
