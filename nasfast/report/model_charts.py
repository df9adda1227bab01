"""Charts of a fitted model, from what its diagnosis has kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasfast.report.curves import Chart, Series

Diagnosis = Mapping[str, Any]
_STYLES = ("s1", "s2", "s3", "s4")
_DASHED = ("s3",)  # its green and the brown of the second line look alike to some
_DIAGONAL = "s0"


def class_charts(diagnosis: Diagnosis, classes: Sequence[str]) -> list[Chart]:
    """ROC and precision-recall curves and calibration; the largest classes where there are many."""
    largest = sorted(diagnosis.get("curves", []), key=lambda c: -c["share"])[: len(_STYLES)]
    curves = sorted(largest, key=lambda c: c["class"])
    charts = [_roc(curves, classes), _precision_recall(curves, classes)] if curves else []
    return [*charts, _calibration(diagnosis["calibration"], classes)]


def _roc(curves: Sequence[Diagnosis], classes: Sequence[str]) -> Chart:
    drawn = [
        Series(f"{classes[c['class']]} ({c['area']:.4f})", _points(c["roc"]), style, style in _DASHED, marked=False)
        for c, style in zip(curves, _STYLES, strict=False)
    ]
    chance = Series("by chance", [(0.0, 0.0), (1.0, 1.0)], _DIAGONAL, dashed=True, marked=False)
    return Chart(
        "ROC curve",
        [*drawn, chance],
        "percent",
        "false positive rate",
        caption="Upwards the true positive rate; in brackets the area below the curve.",
        x_unit="percent",
    )


def _precision_recall(curves: Sequence[Diagnosis], classes: Sequence[str]) -> Chart:
    drawn = [
        Series(
            f"{classes[c['class']]} ({c['average_precision']:.4f})",
            _points(c["precision_recall"]),
            style,
            style in _DASHED,
            marked=False,
        )
        for c, style in zip(curves, _STYLES, strict=False)
    ]
    shares = ", ".join(f"{classes[c['class']]} {100 * c['share']:.3g} %" for c in curves)
    return Chart(
        "Precision and recall",
        drawn,
        "percent",
        "recall",
        caption=f"Upwards the precision; in brackets its average. By chance it is the share of the class: {shares}.",
        x_unit="percent",
    )


def _calibration(found: Diagnosis, classes: Sequence[str]) -> Chart:
    of = f"of {classes[1]}" if found["of"] == "second class" else "of the predicted class"
    caption = (
        f"Predicted probability {of} against how often that was so, in bins of as many rows, with standard errors. "
        f"Brier score {found['brier']:.4g}, expected calibration error {found['expected_calibration_error']:.4g}; "
        f"by chance alone it would be about {found['by_chance']:.2g}."
    )
    return _compared("Calibration", found["bins"], "percent", "predicted probability", caption)


def number_charts(diagnosis: Diagnosis) -> list[Chart]:
    """Predicted against true, and the spread of errors."""
    found = diagnosis["residuals"]
    points = _points(found["points"])
    ends = [value for bin in found["bins"] for value in (bin["predicted"], bin["observed"])]
    ends += [x for x, _ in points]
    line = [(min(ends), min(ends)), (max(ends), max(ends))]
    shown = Chart(
        "True against predicted",
        [
            Series("rows", points, "s1", joined=False),
            Series("equal", line, _DIAGONAL, dashed=True, marked=False),
        ],
        "number",
        "predicted",
        caption=f"{len(points)} rows, out of fold" + (", drawn from all." if diagnosis["rows"] > len(points) else "."),
        x_unit="number",
    )
    caption = "Mean of the true values in bins of as many rows, with standard errors."
    means = _compared("Means in bins of the prediction", found["bins"], "number", "predicted", caption)
    return [shown, means, _errors(found)]


def _errors(found: Diagnosis) -> Chart:
    edges, counts = found["edges"], found["counts"]
    outline: list[tuple[float, float | None]] = [(edges[0], 0.0)]
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        outline += [(low, float(count)), (high, float(count))]
    outline.append((edges[-1], 0.0))
    caption = (
        f"True minus predicted; the mean is {found['bias']:.3g}. Half of the errors are within "
        f"{found['half_within']:.4g}, nine tenths within {found['nine_tenths_within']:.4g}. "
        "What is beyond the axis counts in the outermost bars."
    )
    return Chart(
        "Errors",
        [Series("rows", outline, "s1", marked=False)],
        "count",
        "error",
        caption=caption,
        x_unit="number",
    )


def _compared(title: str, bins: Sequence[Diagnosis], unit: str, x_label: str, caption: str) -> Chart:
    points = [(b["predicted"], b["observed"]) for b in bins]
    least, most = (0.0, 1.0) if unit == "percent" else (-math.inf, math.inf)
    errors = [
        (b["predicted"], max(b["observed"] - b["error"], least), min(b["observed"] + b["error"], most))
        for b in bins
        if b["error"] is not None
    ]
    ends = [value for point in points for value in point]
    line = [(min(ends), min(ends)), (max(ends), max(ends))]
    return Chart(
        title,
        [
            Series("observed", points, "s1", errors=errors, marked=True),
            Series("equal", line, _DIAGONAL, dashed=True, marked=False),
        ],
        unit,
        x_label,
        caption=caption,
        x_unit=unit,
    )


def _points(points: Sequence[Sequence[float]]) -> list[tuple[float, float | None]]:
    return [(x, y) for x, y in points]


@dataclass(frozen=True)
class Bar:
    """A row of a table of bars, in percent of its width.

    Attributes:
        value: As text.
        left, width: Of the bar.
        low, span: Of its interval; None: it has none.
    """

    name: str
    value: str
    left: float
    width: float
    low: float | None = None
    span: float | None = None


def bars(rows: Sequence[tuple[str, float, float, float]]) -> list[Bar]:
    """Of (name, value, low, high), from 0 to the values, on one scale."""
    start = min(0.0, *(low for _, _, low, _ in rows))
    whole = (max(0.0, *(high for *_, high in rows)) - start) or 1.0
    found = []
    for name, value, low, high in rows:
        left, right = sorted((0.0, value))
        text = _with_error(value, (high - low) / 2)
        found.append(
            Bar(
                name,
                text,
                *(100 * part / whole for part in (left - start, right - left)),
                *(100 * part / whole for part in (low - start, high - low)),
            )
        )
    return found


def _with_error(value: float, error: float) -> str:
    """As many digits as the error leaves a meaning."""
    decimals = max(1 - math.floor(math.log10(error)), 0) if error > 0 else 4
    return f"{value:.{decimals}f} ± {error:.{decimals}f}".replace("-", "−")


@dataclass(frozen=True)
class Levels:
    """The partial dependence on a category: bars of one output."""

    title: str
    rows: Sequence[Bar]
    caption: str


def dependence_charts(diagnosis: Diagnosis, classes: Sequence[str], target: str) -> list[Chart | Levels]:
    """Of the columns that were looked at."""
    found = diagnosis.get("dependence", {"columns": []})
    return [
        _levels(c, classes, target) if c["kind"] == "category" else _curve(c, classes, target) for c in found["columns"]
    ]


def _curve(column: Diagnosis, classes: Sequence[str], target: str) -> Chart:
    outputs = column["outputs"][: len(_STYLES)]
    drawn = [
        Series(
            classes[o["output"]] if classes else target,
            list(zip(column["x"], o["y"], strict=True)),
            style,
            style in _DASHED,
        )
        for o, style in zip(outputs, _STYLES, strict=False)
    ]
    return Chart(
        column["column"],
        drawn,
        "percent" if classes else "number",
        _short(column["column"]),
        x_unit="date" if column["kind"] == "date" else "number",
    )


def _levels(column: Diagnosis, classes: Sequence[str], target: str) -> Levels:
    output = column["outputs"][0]
    of = classes[output["output"]] if classes else target
    pairs = sorted(zip(column["x"], output["y"], strict=True), key=lambda pair: -pair[1])
    start, top = min(0.0, *output["y"]), max(0.0, *output["y"])
    whole = (top - start) or 1.0
    rows = []
    for name, value in pairs:
        left, right = sorted((0.0, value))
        text = f"{100 * value:.3g} %" if classes else f"{value:.4g}".replace("-", "−")
        rows.append(Bar(name, text, 100 * (left - start) / whole, 100 * (right - left) / whole))
    return Levels(column["column"], rows, f"Mean prediction of {of}.")


def _short(text: str, most: int = 48) -> str:
    """Short enough for the foot of a chart."""
    return text if len(text) <= most else text[: most - 1] + "…"
