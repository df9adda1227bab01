"""The report of a fitted model: it says what the model's folder has, names are text, and nothing is cut off."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from nasfast.automl.folder import load_model, save_model
from nasfast.report.build import build_report
from nasfast.report.curves import Chart, Series, format_value
from nasfast.report.model import render_model, score_text
from nasfast.report.model_charts import bars
from tests.automl.conftest import QUICK, fit
from tests.helpers.cut_off import CUT_OFF
from tests.helpers.devtools import Page, open_page
from tests.helpers.page_text import PageText
from tests.helpers.real_tables import diabetes, mixed_rows, wines
from tests.helpers.require import require

HOSTILE = "</title></style><script>alert(1)</script> \"double\" 'single' & {{ 7 * 7 }} {# no #}"


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tables = {
        "binary": (mixed_rows(300), "bought"),
        "multiclass": ([wines(folder)], "target"),
        "regression": ([diabetes(folder)], "target"),
    }
    return {name: fit(table, target, folder / name) for name, (table, target) in tables.items()}


@pytest.mark.parametrize("name", ["binary", "multiclass", "regression"])
def test_it_says_what_is_known_of_the_model(fits, name):
    result = fits[name]
    path = build_report(result.folder)
    assert path == result.folder / "report.html"
    page = PageText.read(path)
    about = result.model.about
    assert "nasfast model report" in page.text
    assert "search report" not in page.text
    assert result.model.target.reason in page.text
    assert f"{score_text(about['score'], None)}{about['metric']}" in page.text
    for column in result.model.schema.columns:
        assert column.reason in page.text
    for candidate in about["leaderboard"]:
        assert candidate["name"] in page.text
    assert f"nasfast predict {result.folder}" in page.text
    assert about["data"]["blake2b"] in page.text
    assert page.addresses == ["data:,"]
    expected = ["True against predicted", "Errors"] if name == "regression" else ["ROC curve", "Calibration"]
    assert all(title in page.text for title in expected)


def test_what_is_read_out_is_what_was_measured(fits):
    result = fits["binary"]
    page = PageText.read(build_report(result.folder))
    matrix = result.model.about["diagnosis"]["confusion"]["counts"]
    assert all(str(n) in page.text for line in matrix for n in line)
    age = next(c for c in result.model.about["diagnosis"]["dependence"]["columns"] if c["column"] == "age")
    first = f"age {format_value(age['x'][0], 'number')}: yes {100 * age['outputs'][0]['y'][0]:.4g} %"
    assert first in page.readouts
    assert any(said.startswith("since 20") for said in page.readouts)  # a date, not a number of days


def changed_board(result, without, network_weight):
    """The model with other numbers of what it would be without networks."""
    about = dict(result.model.about)
    board = about["diagnosis"]["board"]
    found = board["without"]["network"] | without
    board = board | {"without": board["without"] | {"network": found}}
    about["diagnosis"] = about["diagnosis"] | {"board": board}
    about["leaderboard"] = [
        row | {"weight": network_weight if row["family"] == "network" else 0.0} for row in about["leaderboard"]
    ]
    about["optimism"] = 0.001
    return PageText(render_model(replace(result.model, about=about), result.folder)).text


def test_it_says_whether_networks_help(fits):
    result = fits["binary"]
    large = changed_board(result, {"behind": 0.03, "behind_error": 0.002}, 0.4)
    assert "40 % of the weight; without them the model is 0.0300 ± 0.0020 worse, which is more than chance" in large
    small = changed_board(result, {"behind": 0.004, "behind_error": 0.002}, 0.4)  # luck of choosing is in it
    assert "0.0040 ± 0.0020 worse, which may be chance" in small
    assert "Networks do not help on this table" in changed_board(result, {}, 0.0)


def test_what_there_was_no_time_for_is_named(fits):
    result = fits["binary"]
    cut = {k: v for k, v in result.model.about["diagnosis"].items() if k not in ("importance", "dependence", "board")}
    model = replace(result.model, about={**result.model.about, "diagnosis": cut})
    text = PageText(render_model(model, result.folder)).text
    assert "There was no time to measure it" in text
    assert "There was no time to compute it" in text
    assert "There was no time to tell how sure the scores are" in text


def test_a_fit_that_was_interrupted_has_a_page(fits, tmp_path):
    save_model(replace(fits["regression"].model, about={}), tmp_path)
    text = PageText.read(build_report(tmp_path)).text
    assert "The fit was interrupted" in text
    assert "How to predict" in text
    assert not load_model(tmp_path).about


def test_names_are_shown_as_text(tmp_path):
    rows = mixed_rows(160)
    renamed = {f"{name} {HOSTILE}": values for name, values in rows.items()}
    target, city = f"bought {HOSTILE}", f"city {HOSTILE}"
    renamed[target] = [f"{v} {HOSTILE}" for v in renamed[target]]
    renamed[city] = [f"{v} {HOSTILE}" for v in renamed[city]]
    result = fit(renamed, target, tmp_path / "m", replay=QUICK[:3])
    page = PageText.read(build_report(result.folder))
    assert (page.tags.count("script"), page.tags.count("style")) == (1, 1)
    assert page.tags.count("title") == 1 + page.tags.count("svg")
    for text in (f"of bought {HOSTILE}", f"Rome {HOSTILE}", f"age {HOSTILE}", f"yes {HOSTILE}"):
        assert text in page.text


def test_charts_take_dates_shares_errors_and_loose_points():
    chart = Chart(
        "t",
        [Series("a", [(18262, 0.5), (19000, 0.75)], "s1", joined=False, errors=[(18262, 0.25, 1.0)])],
        "percent",
        "day",
        x_unit="date",
    )
    assert "day 2020-01-01: a 50 %" in chart.readout
    assert "day 2022-01-08: a 75 %" in chart.readout
    assert ">100%<" in chart.svg  # the error is inside
    assert 'class="error s1"' in chart.svg
    assert 'class="line s1"' not in chart.svg
    assert format_value(2932896, "date") == "9999-12-31"
    wide = Chart("t", [Series("a", [(0, 1.0), (5e9, 2.0)], "s1")], x_label="x", x_unit="number").svg
    assert ">4,000,000,000<" in wide


def test_scores_have_the_digits_that_tell_them_apart():
    assert score_text(0.98765, 0.00123) == "0.9877 ± 0.0012"
    assert score_text(54.0307, 1.6) == "54.03 ± 1.60"
    assert score_text(23687.2, 512.0) == "23,687 ± 512"
    assert score_text(0.5, None) == score_text(0.5, float("nan")) == "0.5000"


def test_bars_share_a_scale_and_have_their_zero_inside():
    one, two = bars([("a", 0.3, 0.2, 0.4), ("b", -0.05, -0.1, 0.0)])
    assert one.left == pytest.approx(20)
    assert one.left + one.width == pytest.approx(80)
    assert (two.left, two.width) == (pytest.approx(10), pytest.approx(10))
    assert (two.low, two.span) == (0, pytest.approx(20))
    assert one.value == "0.30 ± 0.10"
    assert two.value == "−0.050 ± 0.050"
    assert bars([("a", 0.0, 0.0, 0.0)])[0].width == 0


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with open_page(require("chromium")) as opened:
        yield opened


@pytest.mark.parametrize("width", [1400, 1200, 400])
@pytest.mark.parametrize("name", ["binary", "multiclass", "regression"])
def test_nothing_is_cut_off_in_a_browser(page, fits, name, width):
    page.errors.clear()
    page.requests.clear()
    page.show(build_report(fits[name].folder), width, 900, dark=width == 1400)
    assert page.evaluate(CUT_OFF) == []
    assert page.errors == []
    assert {address.split(":")[0] for address in page.requests} <= {"file", "data"}
