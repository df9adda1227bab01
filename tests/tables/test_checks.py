"""What is found in a table before training: each fault is planted, and found where it is and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from nasfast.errors import ConfigError
from nasfast.tables import TableData, read_table
from nasfast.tables.checks import CheckResult, Finding, check_table
from nasfast.tables.checks.features import row_hashes
from nasfast.tables.checks.single import roc_area
from nasfast.tables.data import FilePart

ROWS = 600


def clean(rows: int = ROWS, seed: int = 0) -> dict[str, Any]:
    """A table without fault: two columns that tell something, one that tells nothing."""
    draw = np.random.default_rng(seed)
    one, noise = draw.normal(size=(2, rows))
    kind = draw.choice(["red", "green", "blue"], rows)
    score = one + (kind == "red") + draw.normal(size=rows)
    return {"one": one, "noise": noise, "kind": kind.tolist(), "y": np.where(score > 0.3, "yes", "no").tolist()}


def check(columns: dict[str, Any], target: str = "y", parts: tuple[int, ...] = (), **options: Any) -> CheckResult:
    table = read_table(columns)
    if parts:
        names = tuple(FilePart(f"file{index}", rows) for index, rows in enumerate(parts))
        table = TableData(table.data, names)
    return check_table(table, target, **options)


def found(result: CheckResult, severity: str = "", column: str | None = None) -> list[Finding]:
    return [
        f
        for f in result.findings
        if (not severity or f.severity == severity) and (column is None or f.column == column)
    ]


def said(result: CheckResult, column: str | None = None) -> str:
    return "\n".join(f"{f.severity} {f.column}: {f.text}; {f.advice}" for f in found(result, column=column))


def test_a_clean_table_has_no_findings() -> None:
    assert check(clean()).findings == ()
    table = clean()
    table["z"] = (table["one"] * 2 + np.random.default_rng(1).normal(size=ROWS)).tolist()
    assert [f.text for f in check(table, "z").findings] == []


@pytest.mark.parametrize("classes", [2, 3])
def test_the_target_again_under_another_name(classes: int) -> None:
    table = clean()
    if classes == 3:
        table["y"] = [f"{value}{index % 3 == 0}" if value == "yes" else value for index, value in enumerate(table["y"])]
    words = {name: f"w{i}" for i, name in enumerate(sorted(set(table["y"])))}
    table["answer"] = [words[value] for value in table["y"]]
    result = check(table)
    assert said(result, "answer").startswith(
        "error answer: is y again, written otherwise; leave it out: --types answer"
    )
    assert result.findings[0].column == "answer"
    assert [f.column for f in found(result, "error")] == ["answer"]


def test_the_target_again_as_numbers() -> None:
    table = clean()
    table["price"] = (table["one"] * 3 + table["noise"]).tolist()
    table["price_in_euro"] = (np.array(table["price"]) * 0.9 + 2).tolist()
    result = check(table, "price")
    assert [f.column for f in found(result, "error")] == ["price_in_euro"]
    assert "is price again" in said(result, "price_in_euro")


def test_a_column_that_tells_the_target_by_itself() -> None:
    draw = np.random.default_rng(3)
    table = clean()
    answers = np.array(table["y"]) == "yes"
    table["paid_back"] = np.where(answers, draw.uniform(5, 9, ROWS), draw.uniform(0, 4.9, ROWS)).tolist()
    table["state"] = [f"{'a' if answer else 'b'}{index % 5}" for index, answer in enumerate(answers)]
    result = check(table)
    assert {f.column for f in found(result, "error")} == {"paid_back", "state"}
    assert "ROC AUC 1.000" in said(result, "paid_back")
    table["price"] = np.exp(table["one"] * 2).tolist()
    assert [f.column for f in found(check(table, "price"), "error")] == ["one"]


def test_what_is_missing_may_tell_the_target() -> None:
    table = clean()
    draw = np.random.default_rng(4)
    table["boat"] = [float(draw.normal()) if value == "yes" else None for value in table["y"]]
    assert [f.column for f in found(check(table), "error")] == ["boat"]


def test_many_levels_do_not_tell_the_target() -> None:
    table = clean()
    table["street"] = [f"s{index % 250}" for index in range(ROWS)]
    assert found(check(table), "error") == []


def test_copies_of_rows() -> None:
    table = clean()
    doubled = {name: [*values, *values[:60]] for name, values in table.items()}
    text = said(check(doubled), "")
    assert "warning : 60 rows (9.1%) are copies of others, target included" in text
    other = {**doubled, "y": [*table["y"], *("no" if value == "yes" else "yes" for value in table["y"][:60])]}
    assert "60 rows (9.1%) have the features of another row and another target" in said(check(other), "")


def test_columns_that_say_the_same() -> None:
    table = clean()
    table["one_in_cm"] = (table["one"] * 100).tolist()
    table["colour"] = [{"red": "rot", "green": "grün", "blue": "blau"}[value] for value in table["kind"]]
    result = check(table)
    assert "says nearly the same as one" in said(result, "one_in_cm")
    assert "says nearly the same as kind" in said(result, "colour")
    assert said(result, "one") == said(result, "kind") == ""


def test_identifiers_constants_and_guesses_are_named_with_what_overrides_them() -> None:
    table = clean()
    table |= {
        "customer_id": list(range(ROWS)),
        "version": ["3.1"] * ROWS,
        "empty": [None] * ROWS,
        "when": [f"{1 + i % 12}/{1 + i % 11}/2020" for i in range(ROWS)],
        "rating": [i % 5 for i in range(ROWS)],
        "income": [99999999 if i % 60 == 0 else 1000.5 + i % 77 for i in range(ROWS)],
        "size": [f"{i / 7:.2f}" if i % 100 else "large" for i in range(ROWS)],
    }
    result = check(table)
    assert "is not used: identifier" in said(result, "customer_id")
    assert "--types customer_id=number uses it" in said(result, "customer_id")
    assert "is not used: constant: 3.1" in said(result, "version")
    assert "is not used: all values are missing" in said(result, "empty")
    assert "--types when=date:dmy" in said(result, "when")
    assert "99999999 (10 rows) far from the rest" in said(result, "income")
    assert "6 values are no number and count as missing" in said(result, "size")
    assert result.schema["rating"].alternative == "category"


def test_names_with_blanks_are_quoted_for_a_shell() -> None:
    table = clean()
    table["my id"] = list(range(ROWS))
    assert "--types 'my id=number'" in said(check(table), "my id")


def test_identifiers_that_occur_again_may_be_groups() -> None:
    table = clean()
    table["patient_id"] = [f"p{i % 100}" for i in range(ROWS)]
    assert "--group patient_id" in said(check(table), "patient_id")


def test_rows_in_the_order_of_a_date() -> None:
    table = clean()
    table["day"] = [f"{2000 + i // 300}-{1 + i // 25 % 12:02}-{1 + i % 25:02}" for i in range(ROWS)]
    assert "--time day" in said(check(table), "day")
    table["day"] = table["day"][::7] + [day for i, day in enumerate(table["day"]) if i % 7]
    assert said(check(table), "day") == ""


def test_rare_classes() -> None:
    table = clean(1000)
    table["y"] = ["yes" if i % 50 == 0 else "no" for i in range(1000)]
    text = said(check(table), "y")
    assert "imbalanced: 2.0% of the rows are yes; who always says no is right in 98.0%" in text
    table["y"] = ["maybe" if i < 3 else "yes" if i % 2 else "no" for i in range(1000)]
    assert "classes of few rows: maybe (3)" in said(check(table), "y")


def test_few_rows_and_many_columns() -> None:
    draw = np.random.default_rng(0)
    table = {f"c{i}": draw.normal(size=45).tolist() for i in range(45)} | {"y": draw.normal(size=45).tolist()}
    text = said(check(table), "")
    assert "45 rows: scores will be uncertain" in text
    assert "45 columns and 45 rows: chance alone fits them" in text


def test_skew_and_columns_that_hardly_vary() -> None:
    table = clean()
    draw = np.random.default_rng(5)
    table["loss"] = [0.0 if i % 20 else float(i) for i in range(ROWS)]
    table["income"] = np.exp(draw.normal(size=ROWS) * 3).tolist()
    result = check(table)
    assert "95.2% of its values are 0" in said(result, "loss")
    assert "very skewed" in said(result, "income")
    table["y"] = table.pop("income")
    assert "skewed: the median is" in said(check(table), "y")


def test_other_tasks_that_are_possible() -> None:
    table = clean()
    table["y"] = [i % 5 for i in range(ROWS)]
    assert "--task regression is possible too" in said(check(table), "y")


def test_files_of_one_source_do_not_drift() -> None:
    assert found(check(clean(), parts=(400, 200))) == []


def test_files_that_drift_are_named_with_the_column() -> None:
    table = clean()
    table["noise"] = [*table["noise"][:400], *(table["noise"][400:] + 3)]
    text = said(check(table, parts=(400, 200)), "")
    assert "warning : rows of file1 differ from the others" in text
    assert "look at noise (0.9" in text
    assert "file0" not in text


def test_rows_of_a_test_file_that_were_trained_on() -> None:
    table = clean()
    both = {name: [*values, *values[:50]] for name, values in table.items()}
    assert "50 of 50 rows of file1 have the features of a row before" in said(check(both, parts=(ROWS, 50)), "")


def test_a_split_column_gives_parts_too() -> None:
    table = clean()
    table["noise"] = [*table["noise"][:400], *(table["noise"][400:] + 3)]
    table["set"] = ["train"] * 400 + ["test"] * 200
    result = check(table, roles={"split": "set"})
    assert "rows of test differ from the others" in said(result, "")
    assert "set" not in [column.name for column in result.schema.columns]


def test_columns_with_a_role() -> None:
    table = clean()
    table |= {
        "every": [f"g{i}" for i in range(ROWS)],
        "three": [f"g{i % 3}" for i in range(ROWS)],
        "weight": [-1.0 if i == 7 else 2.0 + i % 3 for i in range(ROWS)],
    }
    assert "every row is a group of its own" in said(check(table, roles={"group": "every"}), "every")
    assert "3 groups: fewer than" in said(check(table, roles={"group": "three"}), "three")
    assert "error weight: 1 weights are below 0" in said(check(table, roles={"weight": "weight"}), "weight")
    assert "error kind: is no time" in said(check(table, roles={"time": "kind"}), "kind")
    assert "--split needs parts" in said(check(table, roles={"split": "every"}), "every")
    with pytest.raises(ConfigError, match=r"role must be one of group, .*did you mean group"):
        check(table, roles={"groop": "every"})


def test_groups_whose_rows_lie_in_train_and_test() -> None:
    table = clean()
    table["who"] = [f"g{i // 4}" for i in range(ROWS)]
    assert "groups lie in" not in said(check(table, parts=(400, 200), roles={"group": "who"}))
    assert "error : rows of 1 of 150 groups lie in several of file0, file1" in said(
        check(table, parts=(402, 198), roles={"group": "who"}), ""
    )
    table["set"] = ["train", "test"] * (ROWS // 2)
    assert "150 of 150 groups lie in several of train, test" in said(
        check(table, roles={"group": "who", "split": "set"}), ""
    )


def test_several_labels_and_text_are_checked_too() -> None:
    table = clean()
    table["y"] = ["a|b" if i % 3 else "b" for i in range(ROWS)]
    table["words"] = [f"we saw {i} of these things" for i in range(ROWS)]
    assert check(table).target.task == "multilabel"


def test_a_table_without_a_usable_column() -> None:
    table = {"id": list(range(ROWS)), "y": clean()["y"], "set": ["train", "test"] * (ROWS // 2)}
    result = check(table, roles={"split": "set"}, parts=(400, 200))
    assert [f.column for f in result.findings] == ["id"]
    assert result.schema.used == ()


def test_real_tables_have_no_errors() -> None:
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

    for load in (load_breast_cancer, load_diabetes, load_wine):
        data = load()
        table = {str(name): data.data[:, i] for i, name in enumerate(data.feature_names)}
        assert found(check({**table, "target": data.target}, "target"), "error") == []


def test_the_area_under_the_curve_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    draw = np.random.default_rng(0)
    positive, scores = draw.random(500) < 0.3, draw.integers(0, 20, 500) / 7
    assert roc_area(positive, scores) == pytest.approx(roc_auc_score(positive, scores))
    assert roc_area(np.ones(3, bool), scores[:3]) == 0.5


def test_hashes_of_rows_differ_where_rows_do() -> None:
    grid = np.stack(np.meshgrid(np.arange(60.0), np.arange(60.0), [0.0, 0.5, np.nan]), -1).reshape(-1, 3)
    hashes = row_hashes(list(grid.T))
    assert len(np.unique(hashes)) == len(grid)
    assert row_hashes([np.array([0.0])]) == row_hashes([np.array([-0.0])])


def test_a_file_is_checked(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a;y\n" + "".join(f"{i % 9},5;{'ab'[i % 2]}\n" for i in range(100)))
    result = check_table(read_table(tmp_path / "t.csv"), "y")
    assert result.table.data.num_rows == 100
    assert isinstance(result.table.data, pa.Table)
