"""The parts of a report, each a function from the run's data to HTML; an absent part says what is missing."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from nasfast.report.alphas import alpha_grid, history, primitives_of
from nasfast.report.cells import cell_svg
from nasfast.report.curves import Chart, Series, line_chart
from nasfast.report.palette import css_name, family_title
from nasfast.report.run_data import Row, RunData, flatten, number

_LABEL_STYLE = {"derived": "s1", "random": "s2"}
_ENVIRONMENT_KEYS = ("environment", "env", "system")


def percent(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def count(value: float | None) -> str:
    """1234567 as 1.23 M."""
    if value is None:
        return "–"
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {suffix}"
    return f"{value:.0f}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def memory(value: float | None) -> str:
    return "–" if value is None else f"{value / 2**20:,.0f} MiB"


def section(identifier: str, title: str, lead: str, body: str) -> str:
    lead_html = f'<p class="lead">{lead}</p>' if lead else ""
    return f'<section id="{identifier}"><h2>{escape(title)}</h2>{lead_html}{body}</section>'


def absent(text: str) -> str:
    return f'<p class="absent">{text}</p>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of HTML cells; on a narrow screen it stays whole because cells wrap."""
    header = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(f"<tr><th>{row[0]}</th>" + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows)
    return f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"


def leaderboard(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose last column are architectures, which wrap; numbers do not, and on a narrow screen it scrolls."""
    return f'<div class="leaders">{table(head, rows)}</div>'


def _total(rows: Iterable[Row], key: str) -> float | None:
    values = [value for row in rows if (value := number(row, key)) is not None]
    return sum(values) if values else None


def _largest(rows: Iterable[Row], key: str) -> float | None:
    return max((value for row in rows if (value := number(row, key)) is not None), default=None)


def _mean(rows: Iterable[Row], key: str) -> float | None:
    values = [value for row in rows if (value := number(row, key)) is not None]
    return sum(values) / len(values) if values else None


def figure(value: str, label: str, note: str = "", style: str = "") -> str:
    """A large number with what it is."""
    note_html = f"<small>{escape(note)}</small>" if note else ""
    return f'<div class="figure {style}"><b>{escape(value)}</b><span>{escape(label)}</span>{note_html}</div>'


def headline(data: RunData) -> str:
    """The result in a sentence and a few large numbers."""
    derived, random = data.result("derived", "test_acc"), data.result("random", "test_acc")
    epochs = len(data.epochs)
    figures = []
    if derived is not None:
        figures.append(figure(percent(derived), "test accuracy, derived", f"test error {percent(1 - derived)}", "main"))
    if random is not None:
        figures.append(figure(percent(random), "test accuracy, random genotype", f"test error {percent(1 - random)}"))
    if derived is not None and random is not None:
        figures.append(figure(f"{100 * (derived - random):+.2f} points".replace("-", "−"), "derived against random"))
    params = data.result("derived", "params")
    if params is not None:
        figures.append(figure(count(params), "parameters, derived"))
    if epochs:
        note = f"{epochs} epoch{'s' if epochs != 1 else ''}"
        figures.append(figure(duration(_total(data.epochs, "seconds")), "search time", note))
    if derived is None:
        state = (
            f"The search has logged {epochs} epoch{'s' if epochs != 1 else ''}" if epochs else "Nothing was logged yet"
        )
        command = f"nasfast retrain {shlex.quote(str(data.path))}"
        figures.append(
            absent(f"{state}; the derived network has not been retrained. To do so: <code>{escape(command)}</code>")
        )
    return f'<div class="figures">{"".join(figures)}</div>'


def legend(names: Iterable[str]) -> str:
    """The colours of operations and what they are."""
    items = "".join(
        f'<li class="{css_name(name)}"><i></i><code>{escape(name)}</code> '
        f"<span>{escape(family_title(name))}</span></li>"
        for name in dict.fromkeys(names)
    )
    return f'<ul class="legend">{items}</ul>'


def cells(data: RunData) -> str:
    """Both derived cells, drawn."""
    genotype = data.genotype
    if genotype is None:
        return section("cells", "The cells", "", absent("No genotype was derived yet (genotype.json is missing)."))
    drawn = []
    for title, pairs, concat in (
        ("Normal cell", genotype.normal, genotype.normal_concat),
        ("Reduction cell", genotype.reduce, genotype.reduce_concat),
    ):
        drawn.append(f"<figure><figcaption>{title}</figcaption>{cell_svg(pairs, concat, title)}</figure>")
    lead = (
        "Each numbered state adds the operations that arrive at it; <i>c</i><sub>k−2</sub> and <i>c</i><sub>k−1</sub> "
        "are the two cells before. The thin arcs below are the states joined into the output <i>c</i><sub>k</sub>."
    )
    names = [name for name, _ in (*genotype.normal, *genotype.reduce)]
    return section("cells", "The cells", lead, f'<div class="pair">{"".join(drawn)}</div>{legend(sorted(set(names)))}')


def alphas(data: RunData) -> str:
    """Architecture weights of every edge over the epochs."""
    grids = [grid for cell in ("normal", "reduce") if (grid := alpha_grid(data, cell))]
    lead = "The softmax weight of every candidate on every edge, over the epochs of the search."
    if not grids:
        return section("alphas", "Architecture weights", "", absent("No architecture weights were logged."))
    matrices = history(data, "normal") or history(data, "reduce")
    names = primitives_of(data, len(matrices[-1][0]))
    body = "".join(f'<div class="grid-block">{grid}</div>' for grid in grids)
    return section("alphas", "Architecture weights", lead, legend(names) + body)


def series(rows: Sequence[Row], key: str, name: str, style: str, dashed: bool = False) -> Series:
    """A number of the rows over their epochs."""
    points = [(x, number(row, key)) for row in rows if (x := number(row, "epoch")) is not None]
    return Series(name, points, style, dashed)


def _retrain_series(data: RunData, key: str, name: str, dashed: bool) -> list[Series]:
    spare = iter(("s3", "s4") * len(data.retrain))
    styles = {label: _LABEL_STYLE.get(label) or next(spare) for label in data.retrain}
    return [series(rows, key, f"{label}, {name}", styles[label], dashed) for label, rows in data.retrain.items()]


def curves(data: RunData) -> str:
    """Losses, accuracies, entropy and skip counts."""
    if not data.epochs and not data.retrain:
        return section("curves", "Curves", "", absent("No epoch was logged."))
    e = data.epochs
    marks = guard_marks(data)
    charts: list[Chart] = []
    if e:
        charts += [
            Chart("Search: loss", [series(e, "train_loss", "train", "s1"), series(e, "valid_loss", "valid", "s2")]),
            Chart(
                "Search: accuracy",
                [series(e, "train_acc", "train", "s1"), series(e, "valid_acc", "valid", "s2")],
                "percent",
            ),
            Chart(
                "Entropy of the architecture weights",
                [series(e, "alpha_entropy", "entropy", "s3")],
                marks=marks,
                caption="1 where all candidates weigh the same, 0 where one has all the weight.",
            ),
            Chart(
                "Skip connections in the derived cells",
                [series(e, "skip_normal", "normal", "s1"), series(e, "skip_reduce", "reduction", "s2")],
                "count",
                marks=marks,
            ),
        ]
    charts += retrain_charts(data)
    drawn = f'<div class="charts">{"".join(line_chart(chart) for chart in charts)}</div>'
    missing = "" if data.retrain else absent("The derived network has not been retrained: no retraining curves yet.")
    return section("curves", "Curves", "", drawn + missing + guards(data))


def guard_marks(data: RunData) -> list[tuple[float, str]]:
    """Where the collapse guard stepped in, for a chart over the epochs."""
    return [
        (at, f"{guard.get('reason', '')}: {guard.get('action', '')}")
        for guard in data.guards
        if (at := number(guard, "epoch")) is not None
    ]


def retrain_charts(data: RunData) -> list[Chart]:
    """Losses and accuracies of what was retrained; none where nothing was."""
    if not data.retrain:
        return []
    losses = _retrain_series(data, "train_loss", "train", True) + _retrain_series(data, "test_loss", "test", False)
    accuracies = _retrain_series(data, "test_acc", "test", False)
    return [Chart("Retraining: loss", losses), Chart("Retraining: test accuracy", accuracies, "percent")]


def guards(data: RunData) -> str:
    """What the collapse guard saw and did."""
    if not data.guards:
        return '<p class="caption">The collapse guard never stepped in.</p>' if data.epochs else ""
    rows = [[escape(str(g.get(key, "–"))) for key in ("epoch", "reason", "action")] for g in data.guards]
    return f"<h3>Collapse guard</h3>{table(['epoch', 'reason', 'action'], rows)}"


def comparison(data: RunData) -> str:
    """The derived network beside a random one retrained the same way."""
    title = "Against a random genotype"
    if not data.results:
        return section("comparison", title, "", absent("Neither network has been retrained yet."))
    labels = sorted(data.results, key=lambda label: (label != "derived", label))
    rows = [
        ["test accuracy", *(percent(data.result(label, "test_acc")) for label in labels)],
        ["test error", *(percent(_error(data, label)) for label in labels)],
        ["test loss", *(_plain(data.result(label, "test_loss")) for label in labels)],
        ["parameters", *(count(data.result(label, "params")) for label in labels)],
        ["retraining time", *(duration(data.result(label, "seconds")) for label in labels)],
    ]
    body = table(["", *(escape(label) for label in labels)], rows)
    if "random" not in data.results:
        body += absent("No random genotype was retrained, so there is nothing to compare with.")
    return section("comparison", title, "", body)


def genotypes(data: RunData) -> str:
    """The genotypes as text, in the form published ones are printed in."""
    texts = {"derived": str(data.genotype)} if data.genotype is not None else {}
    texts |= {label: text for label, row in data.results.items() if (text := str(row.get("genotype", "")))}
    if not texts:
        return ""
    items = "".join(f"<dt>{escape(k)}</dt><dd><code>{escape(text)}</code></dd>" for k, text in texts.items())
    return f'<dl class="genotypes">{items}</dl>'


def _error(data: RunData, label: str) -> float | None:
    accuracy = data.result(label, "test_acc")
    return None if accuracy is None else 1 - accuracy


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def cost(data: RunData) -> str:
    """What the run took."""
    if not data.epochs and not data.results:
        return section("cost", "Cost", "", absent("Nothing was measured yet."))
    speed = _mean(data.epochs, "images_per_second")
    rows = [
        ["search time", duration(_total(data.epochs, "seconds"))],
        ["search epochs", str(len(data.epochs))],
        ["images per second, search", "–" if speed is None else f"{speed:,.0f}"],
        ["peak memory, search", memory(_largest(data.epochs, "peak_memory_bytes"))],
    ]
    for label, row in data.results.items():
        rows.append([f"retraining time, {escape(label)}", duration(number(row, "seconds"))])
    return section("cost", "Cost", "", table(["", ""], rows))


def reproduce_command(data: RunData) -> str:
    """The command that makes this run again: as it was given where the run recorded it, else from its config.json."""
    command = data.config.get("command")
    if isinstance(command, list) and command:
        return shlex.join(str(part) for part in command)
    if isinstance(command, str) and command:
        return command
    if "compare" in data.config:
        return "nasfast compare " + " ".join(_as_options(data.config["compare"]))
    return shlex.join(["nasfast", "search", "--config", str(data.path / "config.json"), "--out", f"{data.name}-again"])


def _as_options(settings: dict[str, Any]) -> list[str]:
    """Settings as they are given on the command line."""
    texts = []
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, list):
            texts += [f"{flag} {shlex.quote(str(item))}" for item in value]
        elif isinstance(value, bool):
            texts += [flag] if value else []
        elif value != "":
            texts.append(f"{flag} {shlex.quote(str(value))}")
    return texts


def setting(data: RunData) -> str:
    """Configuration, environment and the command to do it again."""
    environment: dict[str, Any] = {}
    config = dict(data.config)
    for key in _ENVIRONMENT_KEYS:
        if isinstance(config.get(key), dict):
            environment |= config.pop(key)
    config.pop("command", None)
    kinds = ("search", "blackbox", "oneshot", "compare")
    search = next((found for kind in kinds if (found := config.pop(kind, None))), None)
    config = {key: config[key] for key in config if key not in ("format", "nasfast")} | (
        search if isinstance(search, dict) else {}
    )

    def listing(content: dict[str, Any]) -> str:
        return "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in flatten(content))

    body = f"<h3>Command</h3><pre>{escape(reproduce_command(data))}</pre>"
    if environment:
        body += f'<h3>Environment</h3><dl class="facts">{listing(environment)}</dl>'
    body += f'<h3>Configuration</h3><dl class="facts">{listing(config)}</dl>'
    if data.notes:
        notes = "".join(f"<li>{escape(note)}</li>" for note in data.notes)
        body += f"<h3>What could not be read</h3><ul>{notes}</ul>"
    return section("setting", "Setting", "", body)
