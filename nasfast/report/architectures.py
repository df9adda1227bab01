"""Drawing an architecture of any search space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from nasfast.report.cells import Arc, draw_arcs
from nasfast.spaces.base import Picture, Space


@dataclass(frozen=True)
class Drawing:
    """An architecture as a page shows it.

    Attributes:
        text: Of the architecture; "" where there is none yet.
        pictures: Titles and SVGs.
        operations: Those in the pictures.
        problem: Why there are no pictures.
    """

    text: str = ""
    pictures: Sequence[tuple[str, Markup]] = ()
    operations: Sequence[str] = ()
    problem: str = ""


def drawing(space: Space, row: Any, text: str) -> Drawing:
    pictures = space.picture(row)
    operations = sorted({name for picture in pictures for name, _, _ in picture.arcs})
    return Drawing(text, [(picture.title, Markup(picture_svg(picture))) for picture in pictures], operations)


def picture_svg(picture: Picture) -> str:
    """SVG of one picture, to be styled by the page it is put in (see ``templates/cell.css``)."""
    arcs = [Arc(source, target, (name,)) for name, source, target in picture.arcs]
    return draw_arcs(arcs, picture.joined, picture.title, picture.states)


def architecture_svg(space: Space, row: Any) -> list[str]:
    """SVGs of an architecture, one per picture of the space (a normal and a reduction cell are two)."""
    return [picture_svg(picture) for picture in space.picture(row)]
