"""Contributions: against functions whose Shapley values are known, and of fitted models."""

import itertools
import math

import numpy as np
import pytest

from nasfast.automl.explain import MOST_BACKGROUND, shapley_values
from nasfast.automl.folder import load_model
from nasfast.automl.predict import prediction_table
from nasfast.automl.prepare import Prepared
from nasfast.automl.sources import Source
from nasfast.errors import RunError
from nasfast.tables import read_table
from tests.helpers.real_tables import mixed_rows

ALL = ("binary_fit", "multiclass_fit", "regression_fit", "mixed_fit")
SOURCES = (
    Source("a", "number", (0,), ()),
    Source("b", "date", (1, 2), ()),
    Source("c", "category", (), (0,)),
    Source("d", "number", (3,), ()),
)


def rows(count, seed):
    rng = np.random.default_rng(seed)
    return Prepared(rng.normal(size=(count, 4)).astype(np.float32), rng.integers(0, 3, (count, 1)).astype(np.int16))


def function(prepared):
    """Interactions of two columns and of three; the last column does nothing."""
    x, c = prepared.numbers.astype(np.float64), prepared.codes[:, 0]
    return np.stack([x[:, 0] * (c == 2) + x[:, 1] * x[:, 2], x[:, 0] * x[:, 1] + np.sin(x[:, 2]) * c], 1)


def exact(row, background):
    """By all coalitions, and all background rows."""

    def value(coalition):
        mixed = Prepared(background.numbers.copy(), background.codes.copy())
        for i in coalition:
            SOURCES[i].put(mixed, row)
        return function(mixed).mean(0)

    found = np.zeros((4, 2))
    for i in range(4):
        others = [j for j in range(4) if j != i]
        for size in range(4):
            weight = math.factorial(size) * math.factorial(3 - size) / math.factorial(4)
            for coalition in itertools.combinations(others, size):
                found[i] += weight * (value((*coalition, i)) - value(coalition))
    return found


def test_contributions_are_shapley_values():
    background, explained = rows(30, 0), rows(12, 1)
    found = shapley_values(function, explained, background, SOURCES)
    expected = np.stack([exact(explained.take(np.array([i])), background) for i in range(12)])
    np.testing.assert_allclose(found.sum(1), function(explained) - function(background).mean(0), atol=1e-9)
    assert (found[:, 3] == 0).all()
    assert np.abs(found - expected).mean() < 0.15 * np.abs(expected).mean()
    # Without a sampling error in the mean over many seeds: no column is favoured.
    many = np.mean([shapley_values(function, explained, background, SOURCES, seed) for seed in range(60)], axis=0)
    assert np.abs(many - expected).max() < 0.1 * np.abs(expected).max()


def test_one_column_takes_it_all_and_no_row_gives_none():
    background = rows(5, 0)
    found = shapley_values(function, rows(3, 1), background, SOURCES[:1])
    assert found.shape == (3, 1, 2)
    np.testing.assert_allclose(found[:, 0], function(rows(3, 1)) - function(background).mean(0))
    assert shapley_values(function, rows(0, 1), background, SOURCES).shape == (0, 4, 2)


@pytest.mark.parametrize("name", ALL)
def test_contributions_of_a_stored_model_sum_to_its_predictions(name, request):
    result = request.getfixturevalue(name)
    model = load_model(result.folder)
    some = result.problem.prepared.take(np.arange(6))
    found = model.explain_prepared(some)
    base = model.predict_prepared(model.background).mean(0)
    np.testing.assert_allclose(found.sum(1), model.predict_prepared(some) - base, rtol=1e-6, atol=1e-6)
    assert found.shape == (6, len(model.sources), model.task.outputs)
    assert (found == result.model.explain_prepared(some)).all()
    np.testing.assert_allclose(model.explain_prepared(some.take(np.array([4]))), found[4:5], rtol=1e-4, atol=1e-5)


def test_background_rows_are_of_the_table(binary_fit):
    background = load_model(binary_fit.folder).background
    table = {row.tobytes() for row in binary_fit.problem.prepared.numbers}
    assert len(background) == MOST_BACKGROUND
    assert all(row.tobytes() in table for row in background.numbers)


def test_a_model_without_background_rows_says_so(binary_fit):
    from dataclasses import replace

    with pytest.raises(RunError, match="no background rows"):
        replace(binary_fit.model, background=None).explain_prepared(binary_fit.problem.prepared)


def test_why_names_the_strongest_columns_of_the_predicted_class(mixed_fit):
    table = read_table(mixed_rows(40, seed=2)).data
    found = prediction_table(mixed_fit.model, table, explain=True).to_pydict()
    values = mixed_fit.model.explain(table)
    names = [source.name for source in mixed_fit.model.sources]
    for i, why in enumerate(found["why"]):
        own = values[i][:, mixed_fit.model.task.classes.index(found["prediction"][i])]
        parts = [part.rsplit(" ", 1) for part in why.split(", ")]
        order = [names[j] for j in np.argsort(-np.abs(own))]
        assert [name for name, _ in parts] == order[: len(parts)]
        for name, text in parts:
            assert text[0] in "+-"
            assert float(text) == pytest.approx(own[names.index(name)], rel=0.06)
    assert prediction_table(mixed_fit.model, table.slice(0, 0), explain=True).num_rows == 0


def test_why_of_a_regression_is_in_its_unit(regression_fit):
    prepared = regression_fit.problem.prepared.take(np.arange(3))
    names = [column.name for column in regression_fit.model.schema.columns]
    table = read_table({n: [str(v) for v in prepared.numbers[:, i]] for i, n in enumerate(names)}).data
    why = prediction_table(regression_fit.model, table, explain=True)["why"].to_pylist()
    assert all(len(text.split(", ")) == 3 for text in why)
    assert max(abs(float(part.rsplit(" ", 1)[1])) for text in why for part in text.split(", ")) > 5
