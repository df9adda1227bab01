"""The report of a run: one self-contained HTML file that opens offline."""

from __future__ import annotations

from nasfast.report.architectures import architecture_svg
from nasfast.report.build import build_report
from nasfast.report.cells import cell_svg, search_cell_svg, standalone

__all__ = ["architecture_svg", "build_report", "cell_svg", "search_cell_svg", "standalone"]
