"""Trees as arrays predict what scikit-learn's models predict, and damaged arrays are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load, save
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)

from nasfast.automl.prepare import Prepared
from nasfast.automl.trees import Trees
from nasfast.errors import ConfigError, RunError, ShapeError

# scikit-learn takes quantiles of infinite numbers, too.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")

EXACT = {"rtol": 1e-12, "atol": 1e-12}
LEVELS = (4, 40)


def together(data: Prepared) -> NDArray[np.float64]:
    """What scikit-learn is given."""
    return np.concatenate([data.numbers, data.codes], axis=1, dtype=np.float64)


def rows(count: int, seed: int, *, unseen: bool = False) -> Prepared:
    """Three numbers, with missing and infinite ones, and two categories; if unseen, of all codes there can be."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(count, 3)).astype(np.float32)
    numbers[rng.random(numbers.shape) < 0.1] = np.nan
    numbers[rng.random(numbers.shape) < 0.02] = np.inf
    numbers[rng.random(numbers.shape) < 0.02] = -np.inf
    numbers[:, 2] = np.round(numbers[:, 2])  # values that lie exactly on each other
    most = (256, 256) if unseen else LEVELS
    return Prepared(numbers, np.stack([rng.integers(0, n, count) for n in most], axis=1).astype(np.int16))


def score_of(data: Prepared, seed: int) -> NDArray[np.float64]:
    """What a target is made from: numbers and categories count, missing ones too."""
    effects = np.random.default_rng(seed).normal(size=256)
    known = np.nan_to_num(data.numbers.astype(np.float64), nan=1.5, posinf=2, neginf=-2)
    return known[:, 0] * known[:, 1] + known[:, 2] + 2 * effects[data.codes[:, 1]] + effects[data.codes[:, 0]]


def target(data: Prepared, classes: int) -> NDArray[Any]:
    score = score_of(data, 7)
    if not classes:
        return 1e4 + 1e3 * score
    return np.digitize(score, np.quantile(score, np.linspace(0, 1, classes + 1)[1:-1]))


def mask(data: Prepared) -> NDArray[np.bool_]:
    return np.array([False] * data.numbers.shape[1] + [True] * data.codes.shape[1])


def boosted(data: Prepared, classes: int, **settings: Any) -> Any:
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    settings = {
        "max_iter": 12,
        "random_state": 0,
        "early_stopping": False,
        "categorical_features": mask(data),
    } | settings
    return kind(**settings).fit(together(data), target(data, classes))


def raw_of(model: Any, data: Prepared) -> NDArray[np.float64]:
    found = model.decision_function(together(data)) if hasattr(model, "classes_") else model.predict(together(data))
    return found.reshape(len(data.numbers), -1)


@pytest.mark.parametrize("classes", [0, 2, 5])
@pytest.mark.parametrize("unseen", [False, True])
def test_boosting_gives_the_numbers_of_scikit_learn(classes: int, unseen: bool) -> None:
    model = boosted(rows(2000, 1), classes)
    trees = Trees.of(model)
    assert (trees.category_set >= 0).sum() > 10
    assert trees.missing_left.any()
    new = rows(12_000 if classes < 5 else 1500, 2, unseen=unseen)
    np.testing.assert_allclose(trees.raw(new), raw_of(model, new), **EXACT)
    if classes:
        np.testing.assert_allclose(trees.probabilities(new), model.predict_proba(together(new)), **EXACT)


def test_the_first_iterations_alone() -> None:
    data = rows(800, 1)
    model = boosted(data, 3)
    for iterations, expected in enumerate(model.staged_decision_function(together(data)), 1):
        np.testing.assert_allclose(Trees.of(model, iterations).raw(data), expected, **EXACT)
    none = Trees.of(model, 0)
    np.testing.assert_array_equal(none.raw(data), np.tile(none.baseline, (800, 1)))
    for wrong in (-1, 13):
        with pytest.raises(ConfigError, match="iterations must be from 0 to 12"):
            Trees.of(model, wrong)


def test_numbers_alone_and_categories_alone() -> None:
    data = rows(800, 1)
    numbers = replace(data, codes=data.codes[:, :0])
    model = HistGradientBoostingRegressor(max_iter=5).fit(together(numbers), target(data, 0))
    np.testing.assert_allclose(Trees.of(model).raw(numbers), raw_of(model, numbers), **EXACT)
    codes = replace(data, numbers=data.numbers[:, :0])
    model = HistGradientBoostingRegressor(max_iter=5, categorical_features=mask(codes))
    model.fit(together(codes), target(data, 0))
    np.testing.assert_allclose(Trees.of(model).raw(codes), raw_of(model, codes), **EXACT)


def test_a_fold_without_one_of_the_classes() -> None:
    data = rows(1500, 1)
    y = target(data, 4)
    for seen in ([0, 1, 3], [1, 3]):
        kept = np.isin(y, seen)
        model = HistGradientBoostingClassifier(max_iter=5, categorical_features=mask(data))
        model.fit(together(data)[kept], y[kept])
        trees = Trees.of(model)
        assert trees.raw(data).shape[1] == (3 if len(seen) == 3 else 1)
        np.testing.assert_allclose(trees.probabilities(data), model.predict_proba(together(data)), **EXACT)


def test_categories_that_have_gaps_and_start_late() -> None:
    data = rows(1500, 1)
    data = replace(data, codes=(data.codes * 6 + 5).astype(np.int16))
    model = boosted(data, 2)
    every = replace(rows(256 * 3, 3), codes=np.tile(np.arange(256, dtype=np.int16)[:, None], (3, 2)))
    np.testing.assert_allclose(Trees.of(model).raw(every), raw_of(model, every), **EXACT)


def test_forests_give_the_numbers_of_scikit_learn() -> None:
    data = rows(600, 1)
    finite = replace(data, numbers=np.where(np.isinf(data.numbers), np.float32(9), data.numbers))
    new = rows(300, 2)
    new = replace(new, numbers=np.where(np.isinf(new.numbers), np.float32(9), new.numbers))
    for model in (
        RandomForestClassifier(9, random_state=0),
        ExtraTreesClassifier(9, random_state=0, min_samples_leaf=3),
    ):
        model.fit(together(finite), target(data, 3))
        trees = Trees.of_forest(model, codes=2)
        np.testing.assert_allclose(trees.probabilities(new), model.predict_proba(together(new)), **EXACT)
    model = ExtraTreesRegressor(9, random_state=0).fit(together(finite), target(data, 0))
    np.testing.assert_allclose(Trees.of_forest(model, codes=2).raw(new)[:, 0], model.predict(together(new)), **EXACT)


def test_no_rows() -> None:
    data = rows(400, 1)
    empty = Prepared(data.numbers[:0], data.codes[:0])
    trees = Trees.of(boosted(data, 3, max_iter=2))
    assert trees.raw(empty).shape == trees.probabilities(empty).shape == (0, 3)


def test_models_that_cannot_be_read_are_named() -> None:
    data = rows(400, 1)
    x, y = together(data), np.exp(score_of(data, 7) / 10)
    numbers = np.nan_to_num(x, posinf=9, neginf=-9)
    with pytest.raises(ConfigError, match=r"expected a HistGradientBoosting model .* got GradientBoosting"):
        Trees.of(GradientBoostingClassifier(n_estimators=2).fit(numbers, target(data, 2)))
    with pytest.raises(ConfigError, match="not fitted"):
        Trees.of(HistGradientBoostingClassifier())
    with pytest.raises(ConfigError, match=r"loss of a regression must be one of squared_error, .* got 'poisson'"):
        Trees.of(HistGradientBoostingRegressor(loss="poisson", max_iter=2).fit(x, y))
    first = np.array([True, False, False, False, False])
    with pytest.raises(ConfigError, match="categorical features must stand after all numbers"):
        Trees.of(HistGradientBoostingRegressor(categorical_features=first, max_iter=2).fit(np.abs(numbers).round(), y))
    with pytest.raises(ConfigError, match="expected a fitted RandomForest or ExtraTrees"):
        Trees.of_forest(RandomForestClassifier())
    with pytest.raises(ConfigError, match="whole numbers from 0 to 255"):
        Trees.of(boosted(replace(data, codes=(data.codes - 1).astype(np.int16)), 2, max_iter=2))


@pytest.mark.parametrize("name", ["_baseline_prediction", "_preprocessor", "is_categorical_"])
def test_a_scikit_learn_that_keeps_trees_otherwise(name: str) -> None:
    model = boosted(rows(400, 1), 2, max_iter=2)
    delattr(model, name)
    with pytest.raises(ConfigError, match=rf"trees of scikit-learn .* cannot be read: they have no '{name}'"):
        Trees.of(model)


def test_a_scikit_learn_whose_nodes_have_other_fields() -> None:
    model = boosted(rows(400, 1), 2, max_iter=2)
    tree = model._predictors[0][0]
    tree.nodes = tree.nodes[["value", "left", "right"]]
    with pytest.raises(ConfigError, match="they have no 'feature_idx'"):
        Trees.of(model)


def test_tables_of_other_columns_are_refused() -> None:
    data = rows(400, 1)
    trees = Trees.of(boosted(data, 2, max_iter=2))
    with pytest.raises(ShapeError, match="grown on 3 numbers and 2 codes, got 2 and 2"):
        trees.raw(replace(data, numbers=data.numbers[:, :2]))
    with pytest.raises(ShapeError, match="codes must be from 0 to 255, got -1 to"):
        trees.raw(replace(data, codes=(data.codes - 1).astype(np.int16)))


def test_arrays_survive_a_file() -> None:
    data = rows(1000, 1)
    for trees in (Trees.of(boosted(data, 3)), Trees.of(boosted(data, 0, max_iter=1)), Trees.of(boosted(data, 2), 0)):
        again = Trees.from_arrays(load(save(trees.to_arrays())))
        np.testing.assert_array_equal(again.raw(data), trees.raw(data))


def damages() -> dict[str, tuple[str, Any]]:
    """Names of damages: the message, and what is done to the arrays."""

    def put(name: str, at: Any, value: Any) -> Any:
        def change(arrays: dict[str, NDArray[Any]]) -> None:
            arrays[name] = arrays[name].copy()
            arrays[name][at] = value

        return change

    return {
        "absent": ("array 'left' is missing", lambda a: a.pop("left")),
        "unknown": ("array 'more' is not known", lambda a: a.update(more=a["left"])),
        "type": ("left must be int32", lambda a: a.update(left=a["left"].astype(np.int64))),
        "length": ("right must be int32", lambda a: a.update(right=a["right"][:-1])),
        "axes": ("value must be float64", lambda a: a.update(value=a["value"][:, 0])),
        "scalar": ("offsets must be int64", lambda a: a.update(output=a["output"][0])),
        "circle": ("left must be a later node", put("left", 0, 0)),
        "other tree": ("right must be a later node", put("right", 0, 10_000)),
        "negative": ("left must be a later node", put("left", 0, -2)),
        "half a leaf": ("right must be a later node", put("left", 0, -1)),
        "shared": ("left and right must be every node but a root once", put("right", 0, 1)),
        "feature": ("feature must be below 5", put("feature", 0, 5)),
        "negative feature": ("feature must be below 5", put("feature", 0, -1)),
        "set": ("category_set must be from -1", put("category_set", 0, 10_000)),
        "set of a number": ("category_set must be -1 at", lambda a: a.update(feature=np.zeros_like(a["feature"]))),
        "set of a leaf": (
            "category_set must be -1 at leaves",
            lambda a: a.update(category_set=np.where(a["left"] == -1, 0, a["category_set"]).astype(np.int32)),
        ),
        "threshold": ("threshold must be numbers", put("threshold", 0, np.nan)),
        "value": ("value must be finite", put("value", (0, 0), np.inf)),
        "baseline": ("baseline must be finite", put("baseline", 0, np.nan)),
        "output": ("output must be one of 3", put("output", 0, 3)),
        "offsets": ("offsets must be rising from 0", put("offsets", 0, 1)),
        "offsets fall": ("offsets must be rising from 0", put("offsets", 1, 10_000)),
        "counts": ("features must be counts", put("features", 0, -1)),
        "no output": ("at least one output", lambda a: a.update(baseline=a["baseline"][:0])),
    }


@pytest.fixture(scope="module")
def three_classes() -> Trees:
    return Trees.of(boosted(rows(1000, 1), 3, max_iter=4))


@pytest.mark.parametrize("name", damages())
def test_damaged_arrays_are_refused(name: str, three_classes: Trees) -> None:
    message, change = damages()[name]
    arrays = three_classes.to_arrays()
    change(arrays)
    with pytest.raises(RunError, match=message):
        Trees.from_arrays(arrays)


def test_whatever_is_damaged_is_refused_or_can_be_walked(three_classes: Trees) -> None:
    rng = np.random.default_rng(5)
    data, refused = rows(50, 3, unseen=True), 0
    for _ in range(300):
        arrays = {name: array.copy() for name, array in three_classes.to_arrays().items()}
        array = arrays[list(arrays)[rng.integers(len(arrays))]]
        bits = array.reshape(-1).view(np.uint8)
        at = rng.integers(bits.size)
        bits[at] = bits[at] ^ 1 if array.dtype == np.bool_ else rng.integers(256)
        try:
            assert Trees.from_arrays(arrays).raw(data).shape == (50, 3)
        except (RunError, ShapeError):
            refused += 1
    assert refused > 50
