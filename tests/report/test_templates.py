"""Pages from templates: names are text whatever stands in them, what is missing is an error, a wheel has the files."""

import tomllib
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from setuptools import Distribution

import nasfast.report
from nasfast.config.objectives import Objective
from nasfast.errors import SpaceError
from nasfast.report import blackbox, oneshot
from nasfast.report.build import build_report
from nasfast.report.page import render_page
from nasfast.report.run_data import RunData
from nasfast.runs.checkpoint import FORMAT
from nasfast.runs.folder import RunFolder
from nasfast.runs.metrics import MetricsLog
from nasfast.search.workers import TrialStore
from nasfast.search.workers.jobs import Job, Outcome
from tests.helpers.page_text import PageText
from tests.helpers.sealed import write_sealed

HOSTILE = "</title></style><script>alert(1)</script> \"double\" 'single' & {{ 7 * 7 }} {% raw %} {# no #}"
ROOT = Path(__file__).resolve().parents[2]


def no_space():
    raise SpaceError(f"unknown space {HOSTILE}")


@pytest.fixture
def search(tmp_path):
    """A search with hostile names wherever it has a name, and a trial that failed on a worker."""
    store, job = TrialStore(RunFolder(tmp_path).trials_path), Job(((0,),), None)
    store.add(job.asked[0], HOSTILE)
    store.record(Outcome(job, "crashed", f"worker {HOSTILE}", 0.0, 1.0, error=f"Traceback {HOSTILE}"), final=True)
    store.close()
    settings = {"space": HOSTILE, "strategy": HOSTILE, "seed": 0, "estimator": HOSTILE, "data": "digits"}
    settings |= {"budget": HOSTILE, "tune": []}
    epoch = {"kind": "epoch", "epoch": 0, "train_loss": 1.0}
    data = RunData(HOSTILE, tmp_path, {"nasfast": HOSTILE, "blackbox": settings}, [epoch], {HOSTILE: [epoch]})
    metrics = {"score": 1.5, "params": 5.0, "flops": 7.0, HOSTILE: 3.0}
    trial = {"kind": "trial", "number": 0, "arch": HOSTILE, "row": [0], "metrics": metrics, "violation": 0.0}
    return blackbox.Search(data, settings, [Objective("score", True)], no_space, [trial])


def assert_text(html, *expected):
    page = PageText(html)
    assert (page.tags.count("script"), page.tags.count("style")) == (1, 1)
    assert "alert" in page.text
    for text in expected:
        assert text in page.text, text
    return page


@pytest.mark.parametrize("kind", [blackbox, oneshot])
def test_names_of_a_search_are_shown_as_text(kind, search):
    page = assert_text(
        kind.render(search),
        f"nasfast run {HOSTILE}",
        f"space {HOSTILE}, strategy {HOSTILE}",
        f"budget {HOSTILE}",
        f"Written by nasfast {HOSTILE}. ",
        f"It cannot be drawn: unknown space {HOSTILE}",
        f"worker {HOSTILE}",
        f"Traceback {HOSTILE}",
    )
    if kind is oneshot:
        assert f"epoch 0: {HOSTILE}, train 1" in page.readouts


def test_names_of_a_search_for_cells_are_shown_as_text(tmp_path):
    config = {"format": FORMAT, "search": {"data": HOSTILE, "strategy": HOSTILE, "primitives": [HOSTILE, "none"]}}
    write_sealed(tmp_path / "config.json", config)
    rows = [
        {"kind": "epoch", "epoch": 0, "alphas_normal": [[0.75, 0.25]] * 2, "alpha_entropy": 0.5},
        {"kind": "retrain_epoch", "label": HOSTILE, "epoch": 0, "test_acc": 0.5},
        {"kind": "result", "label": HOSTILE, "test_acc": 0.5, "genotype": f"genotype {HOSTILE}"},
        {"kind": "guard", "epoch": 0, "reason": f"reason {HOSTILE}", "action": "mask"},
    ]
    MetricsLog(tmp_path / "metrics.jsonl").append(*rows)
    page = assert_text(
        build_report(tmp_path).read_text(encoding="utf-8"),
        f"data {HOSTILE}, strategy {HOSTILE}",
        f"{HOSTILE} 0.750",
        f"retraining time, {HOSTILE}",
        f"genotype {HOSTILE}",
        f"reason {HOSTILE}: mask",
    )
    assert f"epoch 0: {HOSTILE}, test 50 %" in page.readouts


def test_names_of_a_search_in_a_space_are_shown_as_text(tmp_path):
    config = {"format": FORMAT, "search": {"data": "digits", "space": HOSTILE, "strategy": "gdas", "epochs": 1}}
    write_sealed(tmp_path / "config.json", config)
    (tmp_path / "metrics.jsonl").touch()
    found = {label: {"arch": f"arch {HOSTILE}", "metrics": {HOSTILE: 1.0}} for label in ("derived", HOSTILE)}
    write_sealed(tmp_path / "architectures.json", {"architectures": found})
    assert_text(
        build_report(tmp_path).read_text(encoding="utf-8"),
        f"space {HOSTILE}, strategy gdas",
        f"arch {HOSTILE}",
        f"2{HOSTILE}",
        f"It cannot be drawn: {HOSTILE} is a space of your own",
    )


def test_names_of_a_comparison_are_shown_as_text(tmp_path):
    config = {"format": FORMAT, "compare": {"space": HOSTILE, "data": "digits", "seed": 0}}
    write_sealed(tmp_path / "config.json", config)
    numbers = {"count": 8, "tau": 0.5, "low": 0.1, "high": 0.9, "spearman": 0.6, "flops": 9.0, "seconds": 1.0}
    row = {"name": f"estimator {HOSTILE}", "family": HOSTILE, "uncertainty": None, **numbers}
    content = {"estimators": [row], "omitted": {HOSTILE: f"omitted {HOSTILE}"}}
    write_sealed(tmp_path / "comparison.json", content)
    assert_text(
        build_report(tmp_path).read_text(encoding="utf-8"),
        f"space {HOSTILE}, data digits",
        f"estimator {HOSTILE}: tau 0.500",
        f"{HOSTILE}: omitted {HOSTILE}",
    )


def test_what_a_template_is_not_given_is_an_error(tmp_path):
    with pytest.raises(UndefinedError, match="'subtitle' is undefined"):
        render_page("cells.html", RunData("run", tmp_path))


def test_a_wheel_holds_every_template():
    """By setuptools, from the patterns of pyproject.toml."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    build = Distribution({"packages": ["nasfast"], "package_data": patterns}).get_command_obj("build_py")
    build.ensure_finalized()
    build.analyze_manifest()
    package = Path(nasfast.report.__file__).parents[1]
    packed = {Path(file) for file in build.find_data_files("nasfast", str(package))}
    templates = {path for path in (package / "report" / "templates").rglob("*") if path.is_file()}
    assert {path.suffix for path in templates} == {".css", ".html", ".js"}
    assert templates <= packed
