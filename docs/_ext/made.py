"""A directive that puts Markdown into a page which is made from the code or its results when the pages are built.

``{made} NAME`` writes what the function of this name in :data:`MAKERS` returns; ``{measured-on} FILE`` says what a file
of results was measured on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import command_line
import package_map
import public_names
import readme_tables
import result_tables
import setting_tables
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

MAKERS: dict[str, Callable[[], str]] = {
    **result_tables.TABLES,
    "command_line": command_line.pages,
    "package_map": package_map.picture,
    "package_table": package_map.table,
    "public_names": public_names.directives,
    "routes": readme_tables.routes,
    "run_settings": setting_tables.runs,
    "spaces": setting_tables.spaces,
    "strategies_settings": setting_tables.strategies,
}


class Made(SphinxDirective):
    """Markdown that is made at build time."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in MAKERS:
            raise self.error(f"made: there is no {name!r}; expected one of {', '.join(sorted(MAKERS))}")
        return self.parse_text_to_nodes(MAKERS[name](), allow_section_headings=True)


class MeasuredOn(SphinxDirective):
    """The machine, the build and the commit of a file of results."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if not (result_tables.RESULTS / f"{name}.json").is_file():
            raise self.error(f"measured-on: there is no bench/results/{name}.json")
        return self.parse_text_to_nodes(result_tables.machine(name))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("made", Made)
    app.add_directive("measured-on", MeasuredOn)
    return {"parallel_read_safe": True}
