"""The architecture weights over time: one small chart per edge of the search cell."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from nasfast.report.load import RunData
from nasfast.report.palette import css_name, state_html
from nasfast.spaces.darts import PRIMITIVES
from nasfast.spaces.genotype import Genotype

Matrix = list[list[float]]
_W, _H = 100.0, 56.0


def primitives_of(data: RunData, count: int) -> list[str]:
    """Names of the ``count`` candidates of an edge: those of the configuration, else the DARTS ones, else numbers."""
    stack: list[Any] = [data.config]
    while stack:
        content = stack.pop()
        names = content.get("primitives")
        if isinstance(names, list) and len(names) == count:
            return [str(name) for name in names]
        stack.extend(value for value in content.values() if isinstance(value, dict))
    if count == len(PRIMITIVES):
        return list(PRIMITIVES)
    return [f"candidate {k}" for k in range(count)]


def history(data: RunData, cell: str) -> list[Matrix]:
    """Softmax weights [epoch][edge][primitive] of a cell, for the epochs that have them in one shape."""
    found: list[Matrix] = [row[f"alphas_{cell}"] for row in data.epochs if _is_matrix(row.get(f"alphas_{cell}"))]
    return [m for m in found if len(m) == len(found[-1]) and len(m[0]) == len(found[-1][0])]


def _is_matrix(value: Any) -> bool:
    if not isinstance(value, list) or not value or not all(isinstance(row, list) and row for row in value):
        return False
    return all(len(row) == len(value[0]) for row in value) and all(
        isinstance(v, (int, float)) for row in value for v in row
    )


def edge_ends(count: int) -> list[tuple[int, int]]:
    """(source, target) states of the edges of a search cell, in the order of the rows of its alphas."""
    ends: list[tuple[int, int]] = []
    target = 2
    while len(ends) < count:
        ends.extend((source, target) for source in range(target))
        target += 1
    return ends[:count]


def chosen(genotype: Genotype | None, cell: str) -> dict[tuple[int, int], str]:
    """(source, target) -> primitive that the derived cell kept."""
    if genotype is None:
        return {}
    pairs = genotype.normal if cell == "normal" else genotype.reduce
    return {(source, 2 + i // 2): name for i, (name, source) in enumerate(pairs)}


def _small_chart(weights: list[list[float]], primitives: Sequence[str], top: float, kept: str | None) -> str:
    """Lines of one edge: ``weights`` is [epoch][primitive]; the kept primitive is drawn last and stronger."""
    epochs = len(weights)
    order = sorted(range(len(primitives)), key=lambda k: (primitives[k] == kept, weights[-1][k]))
    lines = []
    for k in order:
        points = [
            f"{_W * e / (epochs - 1) if epochs > 1 else _W / 2:.1f},{_H * (1 - weights[e][k] / top):.1f}"
            for e in range(epochs)
        ]
        if epochs == 1:  # a single epoch has no line; a short dash shows its value
            y = points[0].split(",")[1]
            points = [f"{_W * 0.4:.1f},{y}", f"{_W * 0.6:.1f},{y}"]
        strong = " kept" if primitives[k] == kept else ""
        lines.append(f'<polyline class="{css_name(primitives[k])}{strong}" points="{" ".join(points)}"/>')
    return (
        f'<svg viewBox="0 0 {_W:.0f} {_H:.0f}" preserveAspectRatio="none" aria-hidden="true">'
        f'<line class="even" x1="0" x2="{_W:.0f}" y1="{_H * (1 - 1 / len(primitives) / top):.1f}" '
        f'y2="{_H * (1 - 1 / len(primitives) / top):.1f}"/>{"".join(lines)}</svg>'
    )


def alpha_grid(data: RunData, cell: str) -> str:
    """All edges of a cell as a triangle of small charts, target by row and source by column; "" without alphas."""
    matrices = history(data, cell)
    if not matrices:
        return ""
    primitives = primitives_of(data, len(matrices[0][0]))
    top = max(max(row) for m in matrices for row in m) * 1.05 or 1.0
    kept = chosen(data.genotype, cell)
    ends = edge_ends(len(matrices[0]))
    states = ends[-1][1] + 2
    panels = []
    for edge, (source, target) in enumerate(ends):
        weights = [m[edge] for m in matrices]
        last = weights[-1]
        best = max((k for k in range(len(last)) if primitives[k] != "none"), key=lambda k: last[k], default=0)
        name = kept.get((source, target))
        shown = name or primitives[best]
        value = last[primitives.index(shown)] if shown in primitives else last[best]
        mark = "kept" if name else "dropped"
        panels.append(
            f'<div class="edge-panel {mark}" style="--col:{source + 1};--row:{target - 1}">'
            f"<h4>{state_html(source, states)} → {state_html(target, states)}</h4>"
            f"{_small_chart(weights, primitives, top, name)}"
            f'<p class="{css_name(shown)}"><b>{escape(shown)}</b> {value:.3f}</p></div>'
        )
    title = "Normal cell" if cell == "normal" else "Reduction cell"
    return (
        f"<h3>{title}</h3>"
        f'<p class="caption">Every panel spans 0 to {top:.2f}; the dotted line is the even share '
        f"{1 / len(primitives):.3f}. Framed edges were kept.</p>"
        f'<div class="triangle" style="--cols:{states - 2}">{"".join(panels)}</div>'
    )


ALPHA_CSS = (
    ".triangle{display:grid;grid-template-columns:repeat(var(--cols),minmax(0,1fr));gap:10px}"
    ".edge-panel{grid-column:var(--col);grid-row:var(--row);border:1px solid var(--hair);border-radius:6px;"
    "padding:6px 8px;min-width:0}"
    ".edge-panel.kept{border-color:var(--ink);background:var(--card)}"
    ".edge-panel h4{margin:0 0 4px;font:12.5px var(--sans)}"
    ".edge-panel p{margin:4px 0 0;font:11px var(--mono);overflow-wrap:anywhere}"
    ".edge-panel p b{font-weight:600;color:var(--c)}.edge-panel.dropped p{color:var(--soft)}"
    ".edge-panel svg{display:block;width:100%;height:64px}"
    ".edge-panel polyline{fill:none;stroke:var(--c);stroke-width:1.5;vector-effect:non-scaling-stroke}"
    ".edge-panel .kept{stroke-width:3}"
    ".edge-panel .even{stroke:var(--rule);stroke-dasharray:2 3;vector-effect:non-scaling-stroke}"
    "@media(max-width:760px){.triangle{grid-template-columns:repeat(auto-fill,minmax(96px,1fr))}"
    ".edge-panel{grid-column:auto;grid-row:auto}}"
)
