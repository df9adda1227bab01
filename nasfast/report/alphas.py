"""The architecture weights over time: one small chart per edge of the search cell."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from nasfast.kernels.primitives import PRIMITIVES
from nasfast.report.palette import css_name, state_html
from nasfast.report.run_data import RunData
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


def _edge_shares(data: RunData, cell: str, edges: int) -> list[str]:
    """What to add to the text of each edge: its own weight at the end, where the search learns one (PC-DARTS)."""
    betas = data.epochs[-1].get(f"betas_{cell}")
    if not isinstance(betas, list) or len(betas) != edges or not all(isinstance(b, (int, float)) for b in betas):
        return [""] * edges
    return [f"<br>edge {b:.3f}" for b in betas]


def _small_chart(
    weights: list[list[float]], primitives: Sequence[str], span: tuple[float, float], kept: str | None
) -> str:
    """Lines of one edge: ``weights`` is [epoch][primitive]; the kept primitive is drawn last and stronger."""
    epochs = len(weights)
    low, high = span

    def height(value: float) -> float:
        return _H * (high - value) / (high - low)

    order = sorted(range(len(primitives)), key=lambda k: (primitives[k] == kept, weights[-1][k]))
    lines = []
    for k in order:
        points = [
            f"{_W * e / (epochs - 1) if epochs > 1 else _W / 2:.1f},{height(weights[e][k]):.1f}" for e in range(epochs)
        ]
        if epochs == 1:  # a single epoch has no line; a short dash shows its value
            y = points[0].split(",")[1]
            points = [f"{_W * 0.4:.1f},{y}", f"{_W * 0.6:.1f},{y}"]
        strong = " kept" if primitives[k] == kept else ""
        lines.append(f'<polyline class="{css_name(primitives[k])}{strong}" points="{" ".join(points)}"/>')
    even = f"{height(1 / len(primitives)):.1f}"
    return (
        f'<svg viewBox="0 0 {_W:.0f} {_H:.0f}" preserveAspectRatio="none" aria-hidden="true">'
        f'<line class="even" x1="0" x2="{_W:.0f}" y1="{even}" y2="{even}"/>{"".join(lines)}</svg>'
    )


def _span(matrices: list[Matrix]) -> tuple[float, float]:
    """What every panel of a cell shows: all its weights and the even share, with a little air."""
    values = [value for m in matrices for row in m for value in row] + [1 / len(matrices[0][0])]
    low, high = min(values), max(values)
    air = max(0.06 * (high - low), 1e-4)
    return max(low - air, 0.0), high + air


def alpha_grid(data: RunData, cell: str) -> str:
    """All edges of a cell as a triangle of small charts, target by row and source by column; "" without alphas."""
    matrices = history(data, cell)
    if not matrices:
        return ""
    primitives = primitives_of(data, len(matrices[0][0]))
    span = _span(matrices)
    kept = chosen(data.genotype, cell)
    ends = edge_ends(len(matrices[0]))
    states = ends[-1][1] + 2
    shares = _edge_shares(data, cell, len(ends))
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
            f"{_small_chart(weights, primitives, span, name)}"
            f'<p class="{css_name(shown)}"><b>{escape(shown)}</b> {value:.3f}{shares[edge]}</p></div>'
        )
    title = "Normal cell" if cell == "normal" else "Reduction cell"
    return (
        f"<h3>{title}</h3>"
        f'<p class="caption">Every panel spans {span[0]:.3f} to {span[1]:.3f}; the dotted line is the even '
        f"share {1 / len(primitives):.3f}. Framed edges were kept.</p>"
        f'<div class="triangle" style="--cols:{states - 2}">{"".join(panels)}</div>'
    )


def decision_grid(
    names: Sequence[str],
    values: Sequence[Sequence[str]],
    weights: Sequence[Sequence[Sequence[float]]],
    kept: Sequence[str],
) -> str:
    """A small chart per decision of a space.

    Args:
        names: Of the decisions; values: the candidates of each.
        weights: [epoch][decision][candidate].
        kept: The candidate that was derived for each; empty where none was yet.
    """
    flat = [weight for epoch in weights for row in epoch for weight in row]
    air = max(0.06 * (max(flat) - min(flat)), 1e-4)
    span = (max(min(flat) - air, 0.0), max(flat) + air)
    panels = []
    for decision, (name, candidates) in enumerate(zip(names, values, strict=True)):
        lines = [list(epoch[decision]) for epoch in weights]
        last = lines[-1]
        shown = kept[decision] if kept else candidates[max(range(len(last)), key=lambda k: last[k])]
        panels.append(
            f'<div class="edge-panel kept"><h4>{escape(name)}</h4>{_small_chart(lines, candidates, span, shown)}'
            f'<p class="{css_name(shown)}"><b>{escape(shown)}</b> {last[candidates.index(shown)]:.3f}</p></div>'
        )
    caption = f"Every panel spans {span[0]:.3f} to {span[1]:.3f}; the dotted line is the even share."
    return f'<p class="caption">{caption}</p><div class="decisions">{"".join(panels)}</div>'


ALPHA_CSS = (
    ".decisions{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:10px}"
    ".decisions .edge-panel{grid-column:auto;grid-row:auto}"
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
