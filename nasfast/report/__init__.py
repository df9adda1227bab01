"""The report of a run: one self-contained HTML file that opens offline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasfast.utils.lazy import lazy_names

if TYPE_CHECKING:
    from nasfast.report.architectures import architecture_svg
    from nasfast.report.build import build_report
    from nasfast.report.cells import cell_svg, search_cell_svg, standalone

__all__ = [
    "architecture_svg",
    "build_report",
    "cell_svg",
    "search_cell_svg",
    "standalone",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "architecture_svg": "nasfast.report.architectures",
        "build_report": "nasfast.report.build",
        "cell_svg": "nasfast.report.cells",
        "search_cell_svg": "nasfast.report.cells",
        "standalone": "nasfast.report.cells",
    },
)
