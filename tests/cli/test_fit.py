"""`nasfast fit` and `nasfast predict` of tables."""

import csv
import io
import subprocess
import sys

import pytest
from click.testing import CliRunner

from nasfast.cli.app import app
from tests.helpers.real_tables import mixed_rows, tumours, write_rows

RUNNER = CliRunner()


def invoke(*arguments):
    return RUNNER.invoke(app, [str(argument) for argument in arguments])


def expect_error(message, *arguments, code=1):
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert message in lines[0]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    path = tumours(folder, rows=200)
    result = invoke(
        "fit", path, "--target", "target", "--budget", "3 trials", "--out", folder / "model", "--threads", 1
    )
    assert result.exit_code == 0, result.output
    return folder, path, result


def test_it_says_the_task_the_score_what_it_beats_and_what_comes_next(fitted):
    folder, _, result = fitted
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert "binary" in lines["task"]
    assert "roc_auc 0.9" in lines["score"]
    assert "±" in lines["score"]
    assert all(name in lines["beside"] for name in ("constant", "linear alone", "trees alone"))
    assert f"nasfast predict {folder / 'model'}" in lines["predict"]
    assert len(result.stdout.splitlines()) <= 10


def test_predictions_are_a_row_for_every_row_in_order(fitted, tmp_path):
    folder, path, _ = fitted
    result = invoke("predict", folder / "model", path, "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.output
    assert "200 rows" in result.stdout
    rows = list(csv.DictReader(io.StringIO((tmp_path / "p.csv").read_text())))
    truth = [row["target"] for row in csv.DictReader(io.StringIO(path.read_text()))]
    assert len(rows) == 200
    assert list(rows[0]) == ["prediction", "p_benign", "p_malignant"]
    assert sum(row["prediction"] == t for row, t in zip(rows, truth, strict=True)) > 190
    for row in rows:
        assert float(row["p_benign"]) + float(row["p_malignant"]) == pytest.approx(1)
        assert row["prediction"] == max(("benign", "malignant"), key=lambda name: float(row[f"p_{name}"]))


def test_a_fit_leaves_a_report_and_a_card(fitted):
    folder, _, _ = fitted
    names = sorted(path.name for path in (folder / "model").iterdir() if path.suffix != ".safetensors")
    assert set(names) - {"model.onnx"} == {"card.json", "card.md", "model.json", "report.html"}
    before = (folder / "model" / "report.html").read_text()
    (folder / "model" / "report.html").unlink()
    result = invoke("report", folder / "model")
    assert result.exit_code == 0, result.output
    assert (folder / "model" / "report.html").read_text() == before


def test_predictions_say_why(fitted, tmp_path):
    folder, path, _ = fitted
    few = tmp_path / "few.csv"
    few.write_text("\n".join(path.read_text().splitlines()[:6]) + "\n")
    result = invoke("predict", folder / "model", few, "--explain", "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO((tmp_path / "p.csv").read_text())))
    assert list(rows[0]) == ["prediction", "p_benign", "p_malignant", "why"]
    columns = path.read_text().splitlines()[0].split(",")
    for row in rows:
        parts = row["why"].split(", ")
        assert len(parts) == 3
        assert all(part.rsplit(" ", 1)[0] in columns for part in parts)


def test_a_process_of_its_own_writes_predictions_to_a_pipe(fitted):
    folder, path, _ = fitted
    command = [sys.executable, "-m", "nasfast", "predict", str(folder / "model"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 201


def test_a_timed_fit_of_a_process_predicts(tmp_path):
    path = write_rows(tmp_path / "sales.csv", mixed_rows(300))
    command = [sys.executable, "-m", "nasfast", "fit", str(path), "--target", "bought", "--budget", "25s"]
    done = subprocess.run([*command, "--out", str(tmp_path / "m")], capture_output=True, text=True, check=True)
    assert "roc_auc 0." in done.stdout
    assert invoke("predict", tmp_path / "m", path, "-o", tmp_path / "p.csv").exit_code == 0


def test_errors_are_one_line(fitted, tmp_path):
    folder, path, _ = fitted
    expect_error("did you mean 'target'", "fit", path, "--target", "tarhet", "--out", tmp_path / "m")
    expect_error("exists; choose another --out", "fit", path, "--target", "target", "--out", folder / "model")
    expect_error("must be a time or a number of trials", "fit", path, "--target", "target", "--budget", "3 gpu-hours")
    expect_error("No such file", "fit", tmp_path / "none.csv", "--target", "target", "--out", tmp_path / "m")
    expect_error("--label is for images", "predict", folder / "model", path, "--label", "best", code=2)
    assert not (tmp_path / "m").exists()
