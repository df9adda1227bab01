"""The model card, and where a model comes from."""

import json

import numpy as np
import pyarrow as pa
import pytest

from nasfast.automl.card import card_text, model_card
from nasfast.automl.folder import load_model, save_model
from nasfast.automl.provenance import split_text, table_digest
from nasfast.tables import read_table
from tests.automl.conftest import fit
from tests.helpers.real_tables import mixed_rows

ALL = ("binary_fit", "multiclass_fit", "regression_fit", "mixed_fit")


@pytest.mark.parametrize("name", ALL)
def test_the_card_says_what_the_model_is(name, request):
    result = request.getfixturevalue(name)
    card = json.loads((result.folder / "card.json").read_text())
    about = load_model(result.folder).about
    low, high = card["metric"]["interval"]
    assert low < card["metric"]["score"] == about["score"] < high
    assert (high - low) / 2 == pytest.approx(1.96 * about["standard_error"])
    assert card["metric"]["judged"].startswith("8 folds")
    assert set(card["families"]) == {"constant", "linear", "boosting", "network"}
    assert [c["rows"] for c in card["classes"]] == about["class_rows"]
    assert sum(m["weight"] for m in card["members"]) == pytest.approx(1)
    assert [c["name"] for c in card["columns"]] == [c.name for c in result.model.schema.columns]
    assert {"nasfast", "python", "torch", "scikit-learn"} <= set(card["versions"])
    text = (result.folder / "card.md").read_text(encoding="utf-8")
    assert text == card_text(card)
    assert card["data"]["blake2b"] in text
    assert f"**{card['metric']['score']:.4g}**" in text


def test_limits_name_classes_with_few_rows_and_what_the_folder_holds(tmp_path):
    rows = mixed_rows(200)
    rows["bought"] = ["rare" if i % 20 == 0 else v for i, v in enumerate(rows["bought"])]
    limits = " ".join(model_card(fit(rows, "bought").model)["limits"])
    assert "'rare' (10)" in limits
    assert "holds 100 rows of the table" in limits
    assert "independent" in limits
    rows["who"] = [f"person {i % 40}" for i in range(200)]
    grouped = model_card(fit(rows, "bought", group="who").model)
    assert "independent" not in " ".join(grouped["limits"])
    assert "rows of one 'who' together" in grouped["metric"]["judged"]


def test_names_are_text_in_markdown(mixed_fit):
    card = json.loads((mixed_fit.folder / "card.json").read_text())
    card["columns"][0]["name"] = "a|b\n# <b>[x](y)`"
    card["task"]["target"] = "t`*"
    text = card_text(card)
    assert "| a\\|b \\# \\<b\\>\\[x\\](y)\\` |" in text
    assert "# Model of t\\`\\*" in text


def test_another_model_takes_the_card_away(binary_fit, mixed_fit, tmp_path):
    save_model(mixed_fit.model, tmp_path)
    made = {"card.md", "card.json", "report.html", "model.onnx"}
    for name in made:
        (tmp_path / name).write_text("of the model before")
    save_model(binary_fit.model, tmp_path, made=["model.onnx"])
    assert made & {p.name for p in tmp_path.iterdir()} == {"model.onnx"}
    save_model(binary_fit.model, tmp_path)
    assert not made & {p.name for p in tmp_path.iterdir()}


def test_the_checksum_of_data_is_of_what_stands_in_them():
    rows = mixed_rows(40)
    table = read_table(rows).data
    whole = table_digest(table)
    assert table_digest(pa.concat_tables([table.slice(0, 7), table.slice(7)])) == whole
    assert table_digest(read_table(mixed_rows(40)).data) == whole
    for name in rows:
        changed = {key: list(values) for key, values in rows.items()}
        changed[name][11] = changed[name][11] + "1"
        assert table_digest(read_table(changed).data) != whole
        changed[name][11] = None
        assert table_digest(read_table(changed).data) != whole
    assert table_digest(table.rename_columns(["a", *table.column_names[1:]])) != whole
    # Texts that are the same one after the other, but not cell by cell, and a value against none.
    assert len({table_digest(pa.table({"a": v})) for v in (["ab", "c"], ["a", "bc"], ["abc", ""], ["abc", None])}) == 4
    numbers = ([1, 0], [1, None], [1.0, 0.0], [1.0, float("nan")])
    assert len({table_digest(pa.table({"a": v})) for v in numbers}) == 4


def test_how_rows_were_split_is_said(regression_fit):
    from dataclasses import replace

    problem = regression_fit.problem
    assert split_text(problem, {}) == "8 folds"
    assert "rows of one 'who' together" in split_text(problem, {"group": "who"})
    assert "later than those" in split_text(problem, {"time": "when"})
    one = replace(problem, folds=problem.folds[:1])
    assert split_text(one, {}) == "13% of the rows held out"


def test_a_checksum_takes_every_kind_of_time():
    moments = np.array(["2024-01-01T00:00:00.000000001", "NaT"], "datetime64[ns]")
    columns = {
        "ns": pa.array(moments),
        "day": pa.array([None, 3], pa.date32()),
        "clock": pa.array([1, 2], pa.time64("ns")),
        "short": pa.array([1, 2], pa.time32("s")),
        "span": pa.array([1, None], pa.duration("us")),
        "true": pa.array([True, None]),
    }
    assert len({table_digest(pa.table({"a": values})) for values in columns.values()}) == len(columns)
