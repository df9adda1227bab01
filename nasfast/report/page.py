"""Pages from templates: one HTML file with its style and its script inside, nothing fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nasfast.report import formats
from nasfast.report.mistakes import mistakes_of
from nasfast.report.palette import css_name, family_title, palette_css
from nasfast.report.run_data import RunData
from nasfast.report.setting import setting_of
from nasfast.utils.clock import clock
from nasfast.utils.numbers import number_text
from nasfast.utils.shown import as_utf8


@dataclass(frozen=True)
class Table:
    """A table of texts; the first column heads the rows."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def render_page(template: str, data: RunData, **content: Any) -> str:
    """The page of a run.

    Args:
        template: Its name in the folder ``templates``.
        content: What it shows besides ``data``. All but ``Markup`` is shown as text, whatever stands in it.
    """
    return render(template, data=data, setting=setting_of(data), mistakes=mistakes_of(data), **content)


def render(template: str, **content: Any) -> str:
    """A page of anything that has ``data.name`` and ``data.version``; see :func:`render_page`."""
    text = _environment().get_template(template).render(**content) + "\n"
    return as_utf8(text)  # names of files need not be


def asset(name: str) -> Markup:
    """A style sheet or a script of the folder ``templates``, to stand in a page as it is."""
    return Markup(_loader().get_source(_environment(), name)[0])


@cache
def _loader() -> PackageLoader:
    return PackageLoader("nasfast.report")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=_loader(), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters = (
        formats.percent,
        formats.fixed,
        formats.whole,
        formats.points,
        formats.short_number,
        formats.amount,
        formats.duration,
        formats.epochs,
        number_text,
        clock,
        css_name,
        family_title,
    )
    environment.filters |= {function.__name__: function for function in filters}
    environment.globals |= {"asset": asset, "palette_css": palette_css}
    return environment
