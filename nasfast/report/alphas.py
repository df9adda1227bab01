"""The architecture weights over time: one small chart per edge of the search cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from nasfast.kernels.primitives import PRIMITIVES
from nasfast.report.palette import css_name, state_label
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


@dataclass(frozen=True)
class Panel:
    """One edge or decision: its weights drawn, and the candidate that was kept or weighs most.

    Attributes:
        ends: Labels of both states of an edge; () of a decision, which has a name.
        share: Weight of an edge itself at the end, where the search learns one (PC-DARTS).
    """

    svg: Markup
    shown: str
    weight: float
    kept: bool = True
    name: str = ""
    ends: tuple[str, ...] = ()
    column: int = 0
    row: int = 0
    share: float | None = None


@dataclass(frozen=True)
class Grid:
    """Panels of one scale, ``span``; ``even`` is the weight of each candidate where all weigh the same."""

    panels: list[Panel]
    span: tuple[float, float]
    title: str = ""
    even: float = 0.0
    columns: int = 0


def _edge_shares(data: RunData, cell: str, edges: int) -> list[float | None]:
    betas = data.epochs[-1].get(f"betas_{cell}")
    if not isinstance(betas, list) or len(betas) != edges or not all(isinstance(b, (int, float)) for b in betas):
        return [None] * edges
    return betas


def _small_chart(
    weights: list[list[float]], primitives: Sequence[str], span: tuple[float, float], kept: str | None
) -> Markup:
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
    return Markup(
        f'<svg viewBox="0 0 {_W:.0f} {_H:.0f}" preserveAspectRatio="none" aria-hidden="true">'
        f'<line class="even" x1="0" x2="{_W:.0f}" y1="{even}" y2="{even}"/>{"".join(lines)}</svg>'
    )


def _span(values: list[float]) -> tuple[float, float]:
    """What every panel of a grid shows, with a little air."""
    low, high = min(values), max(values)
    air = max(0.06 * (high - low), 1e-4)
    return max(low - air, 0.0), high + air


def alpha_grid(data: RunData, cell: str) -> Grid | None:
    """All edges of a cell as a triangle of small charts, target by row and source by column; None without alphas."""
    matrices = history(data, cell)
    if not matrices:
        return None
    primitives = primitives_of(data, len(matrices[0][0]))
    even = 1 / len(primitives)
    span = _span([value for m in matrices for row in m for value in row] + [even])
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
        panels.append(
            Panel(
                svg=_small_chart(weights, primitives, span, name),
                shown=shown,
                weight=last[primitives.index(shown)] if shown in primitives else last[best],
                kept=name is not None,
                ends=(state_label(source, states), state_label(target, states)),
                column=source + 1,
                row=target - 1,
                share=shares[edge],
            )
        )
    title = "Normal cell" if cell == "normal" else "Reduction cell"
    return Grid(panels, span, title, even, states - 2)


def decision_grid(
    names: Sequence[str],
    values: Sequence[Sequence[str]],
    weights: Sequence[Sequence[Sequence[float]]],
    kept: Sequence[str],
) -> Grid:
    """A small chart per decision of a space.

    Args:
        names: Of the decisions; values: the candidates of each.
        weights: [epoch][decision][candidate].
        kept: The candidate that was derived for each; empty where none was yet.
    """
    span = _span([weight for epoch in weights for row in epoch for weight in row])
    panels = []
    for decision, (name, candidates) in enumerate(zip(names, values, strict=True)):
        lines = [list(epoch[decision]) for epoch in weights]
        last = lines[-1]
        shown = kept[decision] if kept else candidates[max(range(len(last)), key=lambda k: last[k])]
        svg = _small_chart(lines, candidates, span, shown)
        panels.append(Panel(svg, shown, last[candidates.index(shown)], name=name))
    return Grid(panels, span)
