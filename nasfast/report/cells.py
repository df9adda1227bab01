"""Drawing a cell as a self-contained SVG.

Every state of a cell has its own column, in topological order, and every operation is an arc above that row with its
name on the crown. An arc is lifted above the arcs it spans, and above any crown its label would touch; so labels
cannot overlap, whatever the cell looks like. The concatenation is drawn as thin arcs below the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from nasfast.report.page import asset
from nasfast.report.palette import css_name, family_title, palette_css, state_label

_COLUMN = 61.0  # distance between states, in SVG units
_STATE_W, _STATE_H = 43.0, 28.0
_CROWN = 25.0  # distance between two levels of labels
_LABEL_H = 17.0
_CHAR_W = 6.7  # an upper bound of the advance of the 11-unit monospaced label font
_MARGIN = 6.0
_STRAND_GAP = 2.1


@dataclass(frozen=True)
class Arc:
    """One edge from state ``source`` to state ``target``: a single primitive, or the strands of a mixed edge."""

    source: int
    target: int
    primitives: tuple[str, ...]

    @property
    def label(self) -> str:
        return self.primitives[0] if len(self.primitives) == 1 else ""

    @property
    def label_width(self) -> float:
        return len(self.label) * _CHAR_W + 12.0

    def spans(self, other: Arc) -> bool:
        return self.source <= other.source and other.target <= self.target


@dataclass(frozen=True)
class _Placed:
    arc: Arc
    x0: float
    x1: float
    level: int

    @property
    def centre(self) -> float:
        return (self.x0 + self.x1) / 2


def genotype_arcs(pairs: Iterable[tuple[str, int]]) -> list[Arc]:
    """Arcs of a derived cell given as ``(primitive, source)`` pairs, two per node in node order."""
    return [Arc(int(source), 2 + i // 2, (str(name),)) for i, (name, source) in enumerate(pairs)]


def mixed_arcs(steps: int, primitives: Sequence[str]) -> list[Arc]:
    """Arcs of a search cell: every node reads every earlier state through all ``primitives``."""
    return [Arc(source, 2 + i, tuple(primitives)) for i in range(steps) for source in range(2 + i)]


def _port_offsets(arcs: Sequence[Arc], states: int) -> dict[tuple[int, str], float]:
    """Offset of both ends of every arc on its state: arriving left, leaving right, nested so that none need cross."""
    offsets: dict[tuple[int, str], float] = {}
    for state in range(states):
        arriving = sorted((i for i, a in enumerate(arcs) if a.target == state), key=lambda i: -arcs[i].source)
        leaving = sorted((i for i, a in enumerate(arcs) if a.source == state), key=lambda i: -arcs[i].target)
        ends = [(i, "target") for i in arriving] + [(i, "source") for i in leaving]
        for place, end in enumerate(ends):
            offsets[end] = ((place + 1) / (len(ends) + 1) - 0.5) * (_STATE_W - 4)
    return offsets


def _place(arcs: Sequence[Arc], states: int) -> list[_Placed]:
    """Ends and level of every arc: the lowest level above all it spans where its label touches no other label."""
    offsets = _port_offsets(arcs, states)
    placed: list[_Placed] = []
    for i in sorted(range(len(arcs)), key=lambda i: (arcs[i].target - arcs[i].source, arcs[i].source, i)):
        arc = arcs[i]
        x0 = _state_x(arc.source) + offsets[i, "source"]
        x1 = _state_x(arc.target) + offsets[i, "target"]
        level = max((p.level + 1 for p in placed if arc.spans(p.arc)), default=0)
        while arc.label and any(_labels_touch(p, level, (x0 + x1) / 2, arc) for p in placed):
            level += 1
        placed.append(_Placed(arc, x0, x1, level))
    return placed


def _labels_touch(other: _Placed, level: int, centre: float, arc: Arc) -> bool:
    return other.level == level and abs(other.centre - centre) < (other.arc.label_width + arc.label_width) / 2 + 4


def _state_x(index: int) -> float:
    return _MARGIN + _STATE_W / 2 + index * _COLUMN


def _curve(x0: float, x1: float, base: float, crown: float) -> str:
    # A cubic whose two control points stand straight above its ends reaches 3/4 of their height.
    control = base + (crown - base) * 4 / 3
    return f"M{x0:.1f} {base:.1f}C{x0:.1f} {control:.1f} {x1:.1f} {control:.1f} {x1:.1f} {base:.1f}"


def _lines(placed: _Placed, base: float, crown: float) -> str:
    """The strand or strands of an arc, with an arrow head where it arrives."""
    primitives = placed.arc.primitives
    strands = []
    for k, name in enumerate(primitives):
        shift = (k - (len(primitives) - 1) / 2) * _STRAND_GAP
        near = shift * 0.35  # strands run closer together at the states, where many edges meet
        curve = _curve(placed.x0 + near, placed.x1 - near, base - (6 if len(primitives) == 1 else 1), crown + shift)
        strands.append(f'<path class="edge {css_name(name)}" d="{curve}"/>')
    if len(primitives) == 1:
        x, tip = placed.x1, base - 0.5
        head = f"M{x - 3.8:.1f} {tip - 7.5:.1f}L{x + 3.8:.1f} {tip - 7.5:.1f}L{x:.1f} {tip:.1f}Z"
        strands.append(f'<path class="head {css_name(primitives[0])}" d="{head}"/>')
    return "".join(strands)


def _label(placed: _Placed, crown: float) -> str:
    name, width = placed.arc.label, placed.arc.label_width
    if not name:
        return ""
    return (
        f'<g class="op {css_name(name)}"><title>{escape(f"{name}: {family_title(name)}")}</title>'
        f'<rect x="{placed.centre - width / 2:.1f}" y="{crown - _LABEL_H / 2:.1f}" width="{width:.1f}" '
        f'height="{_LABEL_H}" rx="{_LABEL_H / 2}"/>'
        f'<text x="{placed.centre:.1f}" y="{crown + 3.9:.1f}" text-anchor="middle">{escape(name)}</text></g>'
    )


def _state(index: int, label: str, inner: bool, y: float) -> str:
    x = _state_x(index)
    if not label.startswith("c_{"):
        text = escape(label)
    else:
        subscript = escape(label[3:-1].replace("-", "−"))
        text = f'<tspan font-style="italic">c</tspan><tspan dy="3.5" font-size="9.5">{subscript}</tspan>'
    return (
        f'<g class="state {"inner" if inner else "outer"}"><rect x="{x - _STATE_W / 2:.1f}" y="{y:.1f}" '
        f'width="{_STATE_W}" height="{_STATE_H}" rx="{_STATE_H / 2 if inner else 5}"/>'
        f'<text x="{x:.1f}" y="{y + 18.5:.1f}" text-anchor="middle">{text}</text></g>'
    )


def draw_arcs(arcs: Sequence[Arc], concat: Iterable[int], title: str, labels: Sequence[str] = ()) -> str:
    """SVG (without style sheet) of states and the arcs between them.

    Args:
        concat: States that are joined into the last one; none where operations lead there.
        labels: Of the states in order; by default those of a cell with two inputs.
    """
    joined = sorted({int(state) for state in concat})
    states = len(labels) or max([arc.target for arc in arcs] + joined + [1]) + 2
    texts = labels or [state_label(index, states) for index in range(states)]
    ends = {index for index, text in enumerate(texts) if text.startswith("c_{") or text in ("in", "out")}
    placed = _place(arcs, states)
    levels = max((p.level for p in placed), default=0) + 1
    base = _MARGIN + levels * _CROWN + 6  # top of the row of states; the lowest crown stands _CROWN above it
    below = base + _STATE_H
    depth = 12.0 + 7.0 * len(joined)
    width, height = 2 * _state_x(0) + (states - 1) * _COLUMN, below + depth + _MARGIN

    def crown(p: _Placed) -> float:
        return base - 8 - (p.level + 1) * _CROWN + _LABEL_H / 2

    out_x = _state_x(states - 1)
    joins = [
        _curve(_state_x(state), out_x + (len(joined) / 2 - rank) * 5, below + 1, below + depth - rank * 7.0)
        for rank, state in enumerate(joined)
    ]
    parts = [
        f'<svg class="cell" viewBox="0 0 {width:.0f} {height:.0f}" role="img" xmlns="http://www.w3.org/2000/svg">',
        f"<title>{escape(title)}</title>",
        "".join(f'<path class="join" d="{d}"/>' for d in joins),
        # Long arcs first, so that short ones, and every label, lie on top.
        "".join(_lines(p, base, crown(p)) for p in reversed(placed)),
        "".join(_state(i, texts[i], i not in ends, base) for i in range(states)),
        "".join(_label(p, crown(p)) for p in placed),
        "</svg>",
    ]
    return "".join(parts)


def cell_svg(pairs: Iterable[tuple[str, int]], concat: Iterable[int], title: str) -> str:
    """SVG of a derived cell, to be styled by the page it is put in (see ``templates/cell.css``)."""
    return draw_arcs(genotype_arcs(pairs), concat, title)


def search_cell_svg(steps: int, multiplier: int, primitives: Sequence[str], title: str) -> str:
    """SVG of a search cell: all its mixed edges, one strand per primitive."""
    return draw_arcs(mixed_arcs(steps, primitives), range(2 + steps - multiplier, 2 + steps), title)


def standalone(svg: str) -> str:
    """The same drawing as a file of its own, which follows the reader's light or dark preference."""
    style = palette_css() + asset("drawing.css") + asset("cell.css")
    return svg.replace("</title>", f"</title><style>{style}</style>", 1) + "\n"
