"""What is said of a model: by out-of-fold predictions, whose truth is known where the table was made for it."""

import json

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score

from nasfast.automl.diagnosis.calibration import calibration, equal_bins
from nasfast.automl.diagnosis.curves import MOST_POINTS, class_curves, confusion, thinned
from nasfast.automl.diagnosis.diagnose import diagnose
from nasfast.automl.diagnosis.held_out import HeldOut
from nasfast.automl.diagnosis.importance import permutation_importance
from nasfast.automl.diagnosis.labels import Labels
from nasfast.automl.diagnosis.residuals import residuals
from nasfast.automl.diagnosis.slices import LEAST_ROWS, worst_slices
from nasfast.automl.diagnosis.timer import Timer
from nasfast.automl.members.base import Candidate
from nasfast.automl.prepare import CodeSource, NumberSource, Preparation, Prepared
from nasfast.automl.sources import Source

ALL = ("binary_fit", "multiclass_fit", "regression_fit", "mixed_fit")
MEMBERS = ("linear", "boosting", "network")


def diagnosis_of(result):
    return result.model.about["diagnosis"]


def oof_of(result):
    return result.found, result.problem, result.problem.judged()


@pytest.mark.parametrize("name", ALL)
def test_held_out_predictions_are_the_out_of_fold_ones(name, request):
    found, problem, judged = oof_of(request.getfixturevalue(name))
    for candidate in found.candidates:
        if candidate.family in MEMBERS:
            held_out = HeldOut.of(problem, [(1.0, candidate.model)], 1.0, judged)
            np.testing.assert_allclose(
                held_out.predict(held_out.prepared), candidate.oof[judged], rtol=2e-5, atol=2e-6, err_msg=candidate.name
            )


def test_held_out_predictions_of_some_rows_are_those_of_all(binary_fit):
    found, problem, judged = oof_of(binary_fit)
    model = next(c.model for c in found.candidates if c.family == "network")
    some = judged[problem.folds[0].valid[:5]]
    one = HeldOut.of(problem, [(1.0, model)], 1.0, some)  # other folds have no row among them
    whole = HeldOut.of(problem, [(1.0, model)], 1.0, judged)
    np.testing.assert_allclose(one.predict(one.prepared), whole.predict(whole.prepared)[some], atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_it_is_small_json_without_a_number_that_json_lacks(name, request):
    text = json.dumps(diagnosis_of(request.getfixturevalue(name)), allow_nan=False)
    assert len(text) < 60_000


def test_confusion_matrix_and_areas_are_those_of_scikit_learn(multiclass_fit):
    found, problem, judged = oof_of(multiclass_fit)
    y, p = problem.y[judged].astype(int), found.candidates[1].oof[judged]
    assert confusion(y, p)["counts"] == confusion_matrix(y, p.argmax(1)).tolist()
    curves = class_curves(y, p)
    assert [c["class"] for c in curves] == [0, 1, 2]
    for c in curves:
        assert c["area"] == pytest.approx(roc_auc_score(y == c["class"], p[:, c["class"]]), rel=1e-5)
        assert c["roc"][0] == [0, 0]
        assert c["roc"][-1] == [1, 1]
        assert c["precision_recall"][-1][0] == 1
        assert max(len(c["roc"]), len(c["precision_recall"])) <= MOST_POINTS


def test_a_thinned_curve_has_the_area_of_the_whole():
    rng = np.random.default_rng(0)
    y = rng.random(5000) < 0.3
    p = np.clip(0.3 + 0.2 * rng.normal(size=5000) + 0.3 * y, 0, 1)
    (curve,) = class_curves(y.astype(float), np.stack([1 - p, p], 1))
    points = np.array(curve["roc"])
    assert len(points) <= MOST_POINTS
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(roc_auc_score(y, p), abs=2e-3)
    assert thinned(np.arange(3.0), np.arange(3.0)) == [[0, 0], [1, 1], [2, 2]]


def test_many_classes_are_told_by_their_most_frequent_confusions():
    y = np.repeat(np.arange(40.0), 5)
    p = np.eye(40)[y.astype(int)]
    p[:4] = np.eye(40)[7]
    assert confusion(y, p) == {"pairs": [[0, 7, 4]]}
    assert class_curves(y, p) == []


def test_calibration_tells_a_model_that_is_too_sure_from_one_that_is_right():
    rng = np.random.default_rng(1)
    p = rng.random(20_000)
    y = (rng.random(20_000) < p).astype(float)
    right = calibration(y, np.stack([1 - p, p], 1))
    assert right["brier"] == pytest.approx(((p - y) ** 2).mean(), rel=1e-5)
    assert right["expected_calibration_error"] < 2 * right["by_chance"]
    assert sum(b["rows"] for b in right["bins"]) == 20_000
    sharp = p**3 / (p**3 + (1 - p) ** 3)
    wrong = calibration(y, np.stack([1 - sharp, sharp], 1))
    assert wrong["expected_calibration_error"] > 0.05 > 5 * right["by_chance"]


def test_equal_values_share_a_bin():
    values = np.array([0.0] * 70 + [1.0] * 30)
    assert [len(part) for part in equal_bins(values)] == [70, 30]
    assert [len(part) for part in equal_bins(np.zeros(9))] == [9]


def test_residuals_know_bias_and_every_row():
    rng = np.random.default_rng(2)
    y = rng.normal(size=1000)
    found = residuals(y, y - 0.5, seed=3)
    assert found["bias"] == pytest.approx(0.5)
    assert found["mae"] == pytest.approx(0.5)
    assert found["r2"] == pytest.approx(1 - 0.25 / y.var(), rel=1e-5)
    assert sum(found["counts"]) == 1000
    assert len(found["points"]) == 300
    assert found == residuals(y, y - 0.5, seed=3)
    assert found["points"] != residuals(y, y - 0.5, seed=4)["points"]


def made_table(rows, seed):
    """Two numbers and a category, of which nothing follows."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(rows, 2)).astype(np.float32)
    prepared = Prepared(numbers, rng.integers(0, 5, (rows, 1)).astype(np.int16))
    preparation = Preparation((NumberSource("x"), NumberSource("z")), (CodeSource("city", ("Bern", "Oslo", "Rome")),))
    sources = (
        Source("x", "number", (0,), ()),
        Source("z", "number", (1,), ()),
        Source("city", "category", (), (0,)),
    )
    return prepared, sources, Labels(preparation), rng


def test_a_slice_in_which_the_model_fails_is_found_by_name():
    prepared, sources, labels, rng = made_table(600, 4)
    losses = rng.exponential(size=600)
    losses[prepared.codes[:, 0] == 3] += 1.0
    losses[prepared.numbers[:, 1] > np.quantile(prepared.numbers[:, 1], 0.75)] += 0.8
    found = worst_slices(losses, prepared, sources, labels)
    assert {s["column"] for s in found["found"]} == {"z", "city"}
    named = {s["column"]: s for s in found["found"]}
    assert named["city"]["slice"] == "Oslo"
    assert named["city"]["loss"] > named["city"]["rest"] + 3 * named["city"]["error"]
    assert " to " in named["z"]["slice"]
    assert named["z"]["rows"] == 150
    assert found["tested"] == 4 + 4 + 5


def test_where_there_is_nothing_to_find_slices_are_rarely_found():
    """One table in twenty may have one; without the correction more than every second table has."""
    wrong = 0
    for seed in range(100):
        prepared, sources, labels, rng = made_table(300, seed)
        wrong += bool(worst_slices(rng.exponential(size=300), prepared, sources, labels)["found"])
    assert wrong <= 10


def test_missing_values_are_a_slice_and_small_ones_are_left_out():
    prepared, sources, labels, rng = made_table(400, 5)
    prepared.numbers[:40, 0] = np.nan
    prepared.codes[:, 0] = np.where(np.arange(400) < LEAST_ROWS - 1, 2, 3)
    losses = rng.exponential(size=400)
    losses[:40] += 3
    found = worst_slices(losses, prepared, sources, labels)
    assert [(s["column"], s["slice"], s["rows"]) for s in found["found"]] == [("x", "missing", 40)]


class Known:
    """A model that is known: probabilities by the first number alone."""

    def predict_held_out(self, prepared, folds):
        p = 1 / (1 + np.exp(-3 * prepared.numbers[:, 0].astype(float)))
        return np.stack([1 - p, p], 1)


@pytest.fixture
def known(binary_fit):
    """Its problem, with targets that the model of the first number knows."""
    from dataclasses import replace

    prepared, sources, _, rng = made_table(len(binary_fit.problem.y), 6)
    y = (rng.random(len(prepared)) < 1 / (1 + np.exp(-3 * prepared.numbers[:, 0]))).astype(float)
    problem = replace(binary_fit.problem, prepared=prepared, y=y)
    return problem, sources, lambda rows: HeldOut.of(problem, [(1.0, Known())], 1.0, rows)


def test_importance_is_of_the_column_that_matters(known, binary_fit):
    problem, sources, of_rows = known
    found = permutation_importance(of_rows, problem.judged(), sources, binary_fit.metric, 0, Timer(None))
    first, *others = found["columns"]
    assert first["name"] == "x"
    assert first["low"] > 0.2
    assert all(c["mean"] == c["low"] == c["high"] == 0 for c in others)
    assert found["repeats"] == 5
    assert found["not_measured"] == 0


def test_importance_keeps_its_time(known, binary_fit):
    problem, sources, of_rows = known
    assert permutation_importance(of_rows, problem.judged(), sources, binary_fit.metric, 0, Timer(0.0)) is None
    found = permutation_importance(of_rows, problem.judged(), sources, binary_fit.metric, 0, Timer(1e3))
    assert found["repeats"] == 5


@pytest.mark.parametrize("name", ALL)
def test_a_diagnosis_is_the_same_again(name, request):
    result = request.getfixturevalue(name)
    found, problem, judged = oof_of(result)
    p = np.full((len(judged), problem.task.outputs), 1 / problem.task.outputs)
    one, two = (diagnose(found, problem, result.model, result.metric, p, None) for _ in range(2))
    assert one == two


def test_without_time_what_is_cheap_is_said_all_the_same(binary_fit):
    found, problem, judged = oof_of(binary_fit)
    p = found.candidates[1].oof[judged]
    quick = diagnose(found, problem, binary_fit.model, binary_fit.metric, p, 0.0)
    assert set(quick) == {"rows", "confusion", "curves", "calibration", "slices"}


def test_importance_and_dependence_of_a_fit_are_of_its_columns(mixed_fit):
    found = diagnosis_of(mixed_fit)
    assert {c["name"] for c in found["importance"]["columns"]} == {"age", "city", "since"}
    curves = {c["column"]: c for c in found["dependence"]["columns"]}
    assert curves["city"]["kind"] == "category"
    assert set(curves["city"]["x"]) <= {"Bern", "Oslo", "Rome", "Lima", "missing", "rare or unseen"}
    by_city = dict(zip(curves["city"]["x"], curves["city"]["outputs"][0]["y"], strict=True))
    assert by_city["Rome"] > by_city["Bern"] > by_city["Oslo"]  # as the table was made
    age = curves["age"]
    assert age["x"] == sorted(age["x"])
    assert len(age["x"]) <= 30
    assert age["outputs"][0]["y"][-1] > age["outputs"][0]["y"][0]
    assert curves["since"]["kind"] == "date"


@pytest.mark.parametrize("name", ALL)
def test_families_are_told_apart_from_all_together(name, request):
    result = request.getfixturevalue(name)
    board = diagnosis_of(result)["board"]
    assert set(board["families"]) == {"constant", "linear", "boosting", "network"}
    constant = board["families"]["constant"]
    assert constant["behind"] > 3 * constant["behind_error"]
    assert set(board["without"]) == {"boosting", "network"}
    for family, without in board["without"].items():  # nothing is lost with what has no weight
        if not result.found.share(family):
            assert abs(without["behind"]) < 1e-5
        assert without["candidates"] == 2
    assert set(board["errors"]) == {c.name for c in result.found.candidates}
    assert all(isinstance(c, Candidate) for c in result.found.candidates)
