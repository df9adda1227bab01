"""A table in, a model out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nasfast.automl.folder import load_model
from nasfast.automl.members import linear as linear_module
from nasfast.automl.members.boosting import BoostingSettings, fit_boosting
from nasfast.automl.members.linear import fit_linear
from nasfast.automl.metrics import METRICS
from nasfast.automl.trials import Trial
from nasfast.errors import ConfigError, DataError
from nasfast.tables import read_table
from tests.automl.conftest import fit
from tests.helpers.real_tables import mixed_rows, tumours

ALL = ("binary_fit", "multiclass_fit", "regression_fit", "mixed_fit")


@pytest.mark.parametrize("name", ALL)
def test_every_family_is_better_than_a_constant_and_the_ensemble_than_each(name, request):
    result = request.getfixturevalue(name)
    losses = {c.family: loss for c, loss in zip(result.found.candidates, result.found.losses, strict=True)}
    assert set(losses) == {"constant", "linear", "boosting", "network"}
    for family in ("linear", "boosting", "network"):
        assert losses[family] < losses["constant"]
    assert result.found.loss <= min(losses.values()) + 1e-9
    assert result.found.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("name", ALL)
def test_out_of_fold_predictions_are_probabilities_of_rows_the_member_has_not_seen(name, request):
    result = request.getfixturevalue(name)
    for candidate in result.found.candidates:
        assert np.isfinite(candidate.oof).all()
        if result.problem.task.classes:
            np.testing.assert_allclose(candidate.oof.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_the_stored_model_predicts_the_same_bits(name, request):
    result = request.getfixturevalue(name)
    stored = load_model(result.folder)
    prepared = result.problem.prepared
    assert (stored.predict_prepared(prepared) == result.model.predict_prepared(prepared)).all()
    assert stored.schema == result.model.schema
    assert stored.about == result.model.about


def test_a_network_s_folds_see_no_row_that_judges_them(binary_fit):
    """Targets turned over in one fold's rows that judge it change no weight of that fold's network."""
    from nasfast.automl.network.encoding import Encoding
    from nasfast.automl.network.settings import NetworkSettings
    from nasfast.automl.network.training import NetworkTraining

    problem, settings = binary_fit.problem, NetworkSettings(members=2, width=16, dropout=0.0)
    turned = problem.y.copy()
    turned[problem.folds[0].valid] = 1 - turned[problem.folds[0].valid]
    weights = []
    for y in (problem.y, turned):
        own = replace(problem, y=y)
        encoding = Encoding.of(own.prepared, binary_fit.model.preparation, 8)
        training = NetworkTraining(own, METRICS["log_loss"], settings, encoding, seed=3)
        for _ in range(5):
            training._step(1.0)
        weights.append([p.detach().clone() for p in training.network.parameters()])
    for before, after in zip(*weights, strict=True):
        assert torch.equal(before[0], after[0])
    assert any(not torch.equal(before[1], after[1]) for before, after in zip(*weights, strict=True))


def test_trials_give_the_same_bits_and_a_replay_too(tmp_path):
    path = tumours(tmp_path, rows=200)
    one, two = (fit([path], "target", tmp_path / name, "3 trials", replay=()) for name in ("a", "b"))
    prepared = one.problem.prepared
    expected = one.model.predict_prepared(prepared)
    assert (two.model.predict_prepared(prepared) == expected).all()
    trials = [Trial.from_json(t) for t in one.model.about["trials"]]
    again = fit([path], "target", tmp_path / "c", "1h", replay=trials)
    assert (again.model.predict_prepared(prepared) == expected).all()


def test_a_timed_fit_is_replayed_bit_for_bit(tmp_path):
    path = tumours(tmp_path, rows=200)
    timed = fit([path], "target", tmp_path / "a", "8s", replay=())
    again = fit(
        [path], "target", tmp_path / "b", "8s", replay=[Trial.from_json(t) for t in timed.model.about["trials"]]
    )
    prepared = timed.problem.prepared
    assert (again.model.predict_prepared(prepared) == timed.model.predict_prepared(prepared)).all()
    assert [t.name for t in again.found.trials] == [t.name for t in timed.found.trials]


def test_prediction_takes_what_tables_do_in_real_life(mixed_fit):
    model = mixed_fit.model
    rows = mixed_rows(50, seed=1)
    expected = model.predict(read_table(rows).data)
    turned = {name: rows[name] for name in ("bought", "since", "city", "age")} | {"more": ["x"] * 50}
    assert (model.predict(read_table(turned).data) == expected).all()
    without = model.predict(read_table({"age": rows["age"], "since": rows["since"]}).data)
    assert np.isfinite(without).all()
    assert (without != expected).any()
    strange = {
        "age": ["", "1e9", "old", "-5"],
        "city": ["Bern", "Paris", "", "bern "],
        "since": ["", "never", "2024-01-01", "x"],
    }
    found = model.predict(read_table(strange).data)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(1), 1)
    one = model.predict(read_table({name: values[:1] for name, values in rows.items()}).data)
    np.testing.assert_allclose(one, expected[:1], atol=1e-6)


def test_groups_and_weights_are_used(tmp_path):
    rows = mixed_rows(300)
    rows["who"] = [f"person {i % 40}" for i in range(300)]
    rows["count"] = ["1" if i % 2 else "3" for i in range(300)]
    result = fit(rows, "bought", tmp_path / "m", group="who", weight="count")
    assert not {"who", "count"} & {c.name for c in result.model.schema.columns}
    who = np.array([i % 40 for i in range(300)])
    for fold in result.problem.folds:
        assert not set(who[fold.train]) & set(who[fold.valid])
    assert np.unique(result.problem.weight).tolist() == [0.5, 1.5]


@pytest.mark.parametrize("family", ["linear", "boosting"])
def test_a_fold_sees_no_target_of_the_rows_that_judge_it(family, binary_fit):
    def held_out(problem):
        if family == "linear":
            return fit_linear(problem, METRICS["log_loss"], None, tried=1).oof
        return fit_boosting(problem, METRICS["log_loss"], BoostingSettings(max_iter=8), "b", None).oof

    problem = binary_fit.problem
    rows = problem.folds[0].valid
    turned = problem.y.copy()
    turned[rows] = 1 - turned[rows]
    before, after = held_out(problem), held_out(replace(problem, y=turned))
    assert (before[rows] == after[rows]).all()
    assert (before != after).any()


def test_time_goes_on_where_a_fold_has_one_class(tmp_path):
    """No forest grows there; networks and linear models do."""
    rows = mixed_rows(200)
    rows["step"] = [str(i) for i in range(200)]
    rows["bought"] = ["no"] * 60 + rows["bought"][60:]
    result = fit(rows, "bought", tmp_path / "m", "9s", replay=(), time="step")
    families = [t.family for t in result.found.trials]
    assert families.count("boosting") <= 1
    assert len(families) < 60
    assert np.isfinite(result.model.predict(result.table)).all()
    assert [len(f.valid) > 0 and f.train.max() < f.valid.min() for f in result.problem.folds] == [True] * 8


def test_rows_that_weigh_nothing_are_not_there(tmp_path):
    rows = mixed_rows(200)
    counted = {name: values[:150] for name, values in rows.items()} | {"w": ["2"] * 150}
    none = {"w": ["2"] * 150 + ["0"] * 50}
    rows["bought"][150:] = ["yes"] * 50
    one = fit(counted, "bought", weight="w")
    two = fit(rows | none, "bought", weight="w")
    assert (one.model.predict(one.table) == two.model.predict(one.table)).all()


def test_a_rare_class_that_a_sample_has_not_is_no_error(binary_fit, monkeypatch):
    monkeypatch.setattr(linear_module, "_MOST_ROWS", 2)
    candidate = fit_linear(binary_fit.problem, METRICS["log_loss"], None, tried=1)
    assert np.isfinite(candidate.oof).all()
    np.testing.assert_allclose(candidate.oof.sum(1), 1)


def test_errors_name_what_is_wrong():
    rows = mixed_rows(60)
    with pytest.raises(DataError, match="did you mean 'bought'"):
        fit(rows, "bougth")
    with pytest.raises(DataError, match="hwo"):
        fit(rows, "bought", group="hwo")
    with pytest.raises(DataError, match="--weight 'age'"):
        fit(rows, "bought", weight="age")
    with pytest.raises(ConfigError, match="--group and --time say both"):
        fit(rows, "bought", group="city", time="since")
    with pytest.raises(ConfigError, match="must be a time or a number of trials"):
        fit(rows, "bought", budget="2 cpu-hours")
    with pytest.raises(DataError, match="--time 'age' must hold numbers or dates in every row"):
        fit(rows, "bought", time="age")
    with pytest.raises(ConfigError, match="--metric of a binary task must be one of"):
        fit(rows, "bought", metric="rmse")
    with pytest.raises(DataError, match="no column but 'bought' can be used"):
        fit({"bought": rows["bought"], "same": ["1"] * 60}, "bought")
