"""One ONNX file that predicts as the model does, by onnxruntime alone."""

import json
import subprocess
import sys

import numpy as np
import pytest

from nasfast.automl.export import export_onnx, onnx_model
from nasfast.errors import ExportError
from nasfast.tables import read_table
from tests.automl.conftest import fit
from tests.helpers.real_tables import mixed_rows

pytestmark = [pytest.mark.needs("onnx"), pytest.mark.needs("onnxruntime")]


@pytest.mark.parametrize("name", ["binary_fit", "multiclass_fit", "regression_fit", "mixed_fit"])
def test_it_predicts_the_rows_of_training(name, request, tmp_path):
    result = request.getfixturevalue(name)
    assert len(result.model.members) >= 1
    assert export_onnx(result.model, tmp_path / "model.onnx", result.table) < 1e-4


def test_every_kind_of_member_is_in_it(mixed_fit, tmp_path):
    from dataclasses import replace

    members = tuple((c.name, 0.25, c.model) for c in mixed_fit.found.candidates)
    assert {model.kind for _, _, model in members} == {"constant", "linear", "boosting", "network"}
    model = replace(mixed_fit.model, members=members, temperature=0.7)
    strange = mixed_rows(60, seed=3)
    strange["city"][:5] = ["Paris", "", "bern", "Oslo", "NA"]
    strange["since"][:3] = ["", "2024-02-29", "1999-12-31"]
    strange["age"][:3] = ["", "1e30", "-7"]
    assert export_onnx(model, tmp_path / "model.onnx", read_table(strange).data) < 1e-4


def test_texts_are_read_the_same(tmp_path):
    rng = np.random.default_rng(0)
    words = ["great", "happy", "smooth", "broken", "angry", "slow", "Été", "noisy"]
    rows = 240
    texts = [" ".join(rng.choice(words, 6)) + f", order {i}!" for i in range(rows)]
    data = {"review": texts, "stars": ["up" if "great" in t or "happy" in t else "down" for t in texts]}
    result = fit(data, "stars", types={"review": "text"})
    assert [c.kind for c in result.model.schema.columns] == ["text"]
    assert export_onnx(result.model, tmp_path / "model.onnx", result.table) < 1e-4


def test_a_process_without_nasfast_predicts_texts_and_gaps(mixed_fit, tmp_path):
    export_onnx(mixed_fit.model, tmp_path / "model.onnx", mixed_fit.table)
    script = (
        "import json, sys, numpy as np, onnxruntime\n"
        "s = onnxruntime.InferenceSession(sys.argv[1])\n"
        "text = lambda *v: np.array(v, object)[:, None]\n"
        "x = {'age': np.array([[31], [np.nan]], np.float32), 'city': text('Rome', '')}\n"
        "x['since'] = text('2021-05-01', '')\n"
        "names, p = s.run(['prediction', 'probabilities'], x)\n"
        "assert 'nasfast' not in sys.modules\n"
        "print(json.dumps([names.tolist(), p.tolist()]))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    rows = {"age": ["31", ""], "city": ["Rome", ""], "since": ["2021-05-01", ""]}
    expected = mixed_fit.model.predict(read_table(rows).data)
    names, p = json.loads(done.stdout)
    np.testing.assert_allclose(p, expected, atol=1e-5)
    assert names == [("no", "yes")[i] for i in expected.argmax(1)]


def test_a_graph_that_predicts_otherwise_is_not_written(mixed_fit, tmp_path, monkeypatch):
    from nasfast.automl import export

    monkeypatch.setattr(export, "largest_difference", lambda *_: 0.01)
    with pytest.raises(ExportError, match=r"predicts otherwise than the model, by 0\.01"):
        export_onnx(mixed_fit.model, tmp_path / "model.onnx", mixed_fit.table)
    assert not (tmp_path / "model.onnx").exists()


def test_inputs_are_the_columns_that_are_used(mixed_fit):
    graph = onnx_model(mixed_fit.model).graph
    assert sorted(i.name for i in graph.input) == ["age", "city", "since"]


def test_columns_may_have_the_names_of_outputs(tmp_path):
    data = mixed_rows(120)
    data = {"prediction": data["age"], "probabilities": data["city"], "y": data["bought"]}
    result = fit(data, "y")
    assert export_onnx(result.model, tmp_path / "model.onnx", result.table) < 1e-4


def test_predictions_that_are_no_numbers_are_not_written(mixed_fit, tmp_path, monkeypatch):
    from nasfast.automl import export

    monkeypatch.setattr(export, "largest_difference", lambda *_: float("nan"))
    with pytest.raises(ExportError, match="predicts otherwise"):
        export_onnx(mixed_fit.model, tmp_path / "model.onnx", mixed_fit.table)
