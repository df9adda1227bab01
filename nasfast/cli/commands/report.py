"""``nasfast report``."""

from __future__ import annotations

from nasfast.cli.arguments import RunArgument
from nasfast.cli.errors import one_line_errors


@one_line_errors
def report(run: RunArgument) -> None:
    """Write the report of a run, as far as it has come."""
    from nasfast import api

    print(api.build_report(run))
