"""The report: what it says, that it is safe to open, and that nothing of it is cut off in a browser."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nasfast.errors import NasfastError, RunError
from nasfast.kernels.primitives import PRIMITIVES
from nasfast.report import cell_svg, search_cell_svg, standalone
from nasfast.report.build import build_report
from nasfast.report.cells import Arc, _place, genotype_arcs, mixed_arcs
from nasfast.report.curves import nice_ticks, tick_labels
from nasfast.runs.checkpoint import FORMAT
from nasfast.runs.metrics import MetricsLog
from nasfast.spaces.genotype import Genotype
from tests.helpers.cut_off import CUT_OFF
from tests.helpers.devtools import Page, open_page
from tests.helpers.page_text import PageText
from tests.helpers.require import require
from tests.helpers.sealed import write_sealed

NORMAL = (
    ("sep_conv_3x3", 0),
    ("sep_conv_3x3", 1),
    ("sep_conv_5x5", 0),
    ("dil_conv_5x5", 1),
    ("sep_conv_3x3", 1),
    ("skip_connect", 0),
    ("skip_connect", 0),
    ("dil_conv_3x3", 2),
)
REDUCE = (
    ("max_pool_3x3", 0),
    ("max_pool_3x3", 1),
    ("skip_connect", 2),
    ("max_pool_3x3", 1),
    ("avg_pool_3x3", 0),
    ("skip_connect", 2),
    ("skip_connect", 2),
    ("max_pool_3x3", 1),
)
GENOTYPE = Genotype(NORMAL, (2, 3, 4, 5), REDUCE, (2, 3, 4, 5))
HOSTILE = "<script>alert(1)</script> \"quoted\" & 'x'"


def _softmax(values: list[float], scale: float) -> list[float]:
    powers = [math.exp(v * scale) for v in values]
    return [p / sum(powers) for p in powers]


def _search_rows(epochs: int) -> list[dict[str, Any]]:
    rng = random.Random(0)
    scores = {cell: [[rng.gauss(0, 1) for _ in PRIMITIVES] for _ in range(14)] for cell in ("normal", "reduce")}
    rows: list[dict[str, Any]] = []
    for epoch in range(epochs):
        t = epoch / max(epochs, 1)
        rows.append(
            {
                "kind": "epoch",
                "epoch": epoch,
                "step": 20 * epoch,
                "train_loss": 2.3 * math.exp(-2 * t),
                "train_acc": 1 - 0.9 * math.exp(-3 * t),
                "valid_loss": 2.3 * math.exp(-1.7 * t) if epoch != 3 else None,
                "valid_acc": 1 - 0.9 * math.exp(-2.5 * t),
                "alpha_entropy": 1 - 0.001 * t,
                "skip_normal": int(3 * t),
                "skip_reduce": int(4 * t),
                "alphas_normal": [_softmax(edge, t) for edge in scores["normal"]],
                "alphas_reduce": [_softmax(edge, t) for edge in scores["reduce"]],
                "lr": 0.025,
                "seconds": 3.25,
                "images_per_second": 423.5,
                "peak_memory_bytes": 300 * 2**20,
            }
        )
    rows.append({"kind": "guard", "epoch": 6, "reason": f"3 skips, cap 2 {HOSTILE}", "action": "skips masked"})
    return rows


def _retrain_rows(label: str, accuracy: float) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {
            "kind": "retrain_epoch",
            "label": label,
            "epoch": epoch,
            "train_loss": 2.2 * math.exp(-epoch / 4),
            "train_acc": 1 - 0.9 * math.exp(-epoch / 3),
            "test_loss": 2.2 * math.exp(-epoch / 5),
            "test_acc": 1 - 0.9 * math.exp(-epoch / 4),
            "lr": 0.02,
            "seconds": 1.5,
        }
        for epoch in range(12)
    ]
    result = {"test_acc": accuracy, "test_loss": 0.08, "params": 3349342, "genotype": str(GENOTYPE), "seconds": 18.0}
    return [*rows, {"kind": "result", "label": label, **result}]


def make_run(path: Path, epochs: int = 9, retrained: bool = True, genotype: bool = True) -> Path:
    """A run folder as a search leaves it, with the parts asked for."""
    path.mkdir(parents=True)
    config = {
        "format": FORMAT,
        "nasfast": "0.1.0",
        "search": {"data": "digits", "strategy": "darts", "seed": 7, "note": HOSTILE, "primitives": list(PRIMITIVES)},
        "environment": {"torch": "2.14.1", "device": "cpu", "threads": 2, "platform": "a-rather-long-word" * 6},
    }
    write_sealed(path / "config.json", config)
    rows = _search_rows(epochs) if epochs else []
    if retrained:
        rows += _retrain_rows("derived", 0.9861) + _retrain_rows("random", 0.9722)
    MetricsLog(path / "metrics.jsonl").append(*rows)
    if genotype:
        GENOTYPE.save(path / "genotype.json")
    return path


def _read(run: Path) -> PageText:
    return PageText.read(build_report(run))


def test_report_states_the_result_and_the_setting(tmp_path: Path) -> None:
    text = _read(make_run(tmp_path / "digits-run")).text
    for expected in ("98.61 %", "97.22 %", "+1.39 points", "1.39 %", "3.35 M", "300 MiB", "424", "29.2 s", "2.14.1"):
        assert expected in text
    assert str(GENOTYPE) in text
    assert "Collapse guard" in text


def test_report_fetches_nothing_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run<i>&")
    page = _read(run)
    html = (run / "report.html").read_text(encoding="utf-8")
    assert page.addresses == ["data:,"]
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)", html)
    assert page.tags.count("script") == 1
    assert HOSTILE in page.text  # shown as text, from the configuration and from the guard
    assert "run<i>&" in page.text


def test_report_without_retraining_says_so(tmp_path: Path) -> None:
    text = _read(make_run(tmp_path / "r", retrained=False)).text
    assert "has not been retrained" in text
    assert f"nasfast retrain {tmp_path / 'r'}" in text


def test_report_of_an_empty_run_says_what_is_missing(tmp_path: Path) -> None:
    text = _read(make_run(tmp_path / "r", epochs=0, retrained=False, genotype=False)).text
    for expected in ("Nothing was logged yet", "No genotype was derived yet", "No architecture weights were logged"):
        assert expected in text


def test_report_of_a_log_whose_last_row_is_being_written(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "epoch", "epo')
    assert "98.61 %" in _read(run).text


@pytest.mark.parametrize("name", ["metrics.jsonl", "genotype.json"])
def test_report_of_a_damaged_run_is_one_line(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / "r")
    content = (run / name).read_text()
    (run / name).write_text(content.replace("sep_conv_3x3", "sep_conv_5x5").replace("0.9861", "0.9961"))
    with pytest.raises(NasfastError, match=rf"{name}.* is damaged: its checksum does not fit; restore it from a copy"):
        build_report(run)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"kind": "epoch", "epoch": {}, "seconds": 1.0}, "unhashable type"),
        ({"kind": "retrain_epoch", "label": "derived", "epoch": [1]}, "unhashable type"),
    ],
)
def test_report_of_a_log_with_values_of_another_type_is_one_line(tmp_path: Path, row: Any, message: str) -> None:
    run = make_run(tmp_path / "r")
    MetricsLog(run / "metrics.jsonl").append(row)
    with pytest.raises(RunError, match=f"the log or the architectures are damaged: {message}"):
        build_report(run)


def test_report_needs_a_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder"):
        build_report(tmp_path / "absent")
    assert not list(tmp_path.iterdir())


def _all_inputs(steps: int) -> list[tuple[str, int]]:
    rng = random.Random(steps)
    return [("conv_7x1_1x7", rng.randrange(2 + node)) for node in range(steps) for _ in range(2)]


@pytest.mark.parametrize("pairs", [NORMAL, REDUCE, _all_inputs(4), _all_inputs(7), [("avg_pool_3x3", 0)] * 8])
def test_labels_of_a_cell_never_touch(pairs: list[tuple[str, int]]) -> None:
    placed = _place(genotype_arcs(pairs), len(pairs) // 2 + 3)
    assert len(placed) == len(pairs)
    for i, a in enumerate(placed):
        for b in placed[:i]:
            apart = abs(a.centre - b.centre) >= (a.arc.label_width + b.arc.label_width) / 2
            assert a.level != b.level or apart
            if a.arc.spans(b.arc):
                assert a.level > b.level


def test_cell_drawings_hold_every_edge() -> None:
    assert cell_svg(NORMAL, range(2, 6), "t").count('class="op ') == len(NORMAL)
    assert mixed_arcs(2, ["a", "b"]) == [Arc(s, t, ("a", "b")) for t in (2, 3) for s in range(t)]
    drawing = search_cell_svg(4, 4, PRIMITIVES, "search cell")
    assert drawing.count('class="edge ') == 14 * len(PRIMITIVES)
    assert drawing.count('class="join"') == 4
    assert "prefers-color-scheme:dark" in standalone(drawing)


@pytest.mark.parametrize(("low", "high", "whole"), [(0, 1, False), (3, 3, True), (0.4, 0.4, False), (0, 7, True)])
def test_ticks_cover_the_values(low: float, high: float, whole: bool) -> None:
    ticks = nice_ticks(low, high, whole=whole)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 9
    assert not whole or all(t == int(t) for t in ticks)


def test_tick_labels_tell_the_ticks_apart() -> None:
    assert tick_labels([0.9985, 0.999, 0.9995], "number") == ["0.9985", "0.9990", "0.9995"]
    assert tick_labels([0.0, 0.25, 0.5], "percent") == ["0%", "25%", "50%"]
    assert tick_labels([0.0, 2.5, 5.0], "number") == ["0.0", "2.5", "5.0"]


def test_edge_weights_of_partial_channels_are_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", epochs=0)
    row = _search_rows(1)[0] | {"betas_normal": [0.5, 0.25] + [0.125] * 12}
    MetricsLog(run / "metrics.jsonl").append(row)
    text = _read(run).text
    assert "edge 0.250" in text
    assert text.count("edge 0.125") == 12


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with open_page(require("chromium")) as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1400, 820, 380])
@pytest.mark.parametrize("content", ["full", "search-only", "empty"])
def test_nothing_is_cut_off_in_a_browser(page: Page, tmp_path: Path, content: str, width: int, dark: bool) -> None:
    run = make_run(
        tmp_path / "a-run",
        epochs=0 if content == "empty" else 9,
        retrained=content == "full",
        genotype=content != "empty",
    )
    report = build_report(run)
    page.errors.clear()
    page.requests.clear()
    page.show(report, width, 900, dark)
    assert page.evaluate("innerWidth") == width
    assert page.evaluate(CUT_OFF) == []
    assert page.errors == []
    assert {address.split(":")[0] for address in page.requests} <= {"file", "data"}


def test_pointing_at_a_chart_reads_out_its_values(page: Page, tmp_path: Path) -> None:
    page.show(build_report(make_run(tmp_path / "a-run")), 1400, 900)
    chart = "document.querySelector('figure.chart')"
    page.evaluate(f"{chart}.scrollIntoView()")
    box = page.evaluate(f"{chart}.querySelector('svg').getBoundingClientRect().toJSON()")
    page.hover(box["left"] + box["width"] * 0.97, box["top"] + box["height"] / 2)
    text = page.evaluate(f"{chart}.querySelector('output').textContent")
    assert text == "epoch 8: train 0.3887, valid 0.5075"
    assert page.errors == []


def test_the_check_for_cut_off_content_can_fail(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(
        '<body><div style="width:120px;white-space:nowrap">a line of text that is far too long for its box</div>'
        '<svg viewBox="0 0 50 20" width="50"><text x="30" y="10">outside</text></svg>'
        "<script>missing()</script></body>"
    )
    page.errors.clear()
    page.show(broken, 380, 600)
    problems = " ".join(page.evaluate(CUT_OFF))
    assert "overflows: DIV" in problems
    assert "outside its drawing: text" in problems
    assert any("missing is not defined" in error for error in page.errors)
    page.errors.clear()
