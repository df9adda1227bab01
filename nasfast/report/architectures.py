"""Drawing an architecture of any search space."""

from __future__ import annotations

from typing import Any

from nasfast.report.cells import Arc, draw_arcs
from nasfast.spaces.base import Picture, Space


def picture_svg(picture: Picture) -> str:
    """SVG of one picture, to be styled by the page it is put in (see :data:`nasfast.report.cells.CELL_CSS`)."""
    arcs = [Arc(source, target, (name,)) for name, source, target in picture.arcs]
    return draw_arcs(arcs, picture.joined, picture.title, picture.states)


def architecture_svg(space: Space, row: Any) -> list[str]:
    """SVGs of an architecture, one per picture of the space (a normal and a reduction cell are two)."""
    return [picture_svg(picture) for picture in space.picture(row)]
