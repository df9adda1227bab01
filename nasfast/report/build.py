"""The report of a run: one self-contained HTML file that opens offline."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nasfast.automl.names import is_model
from nasfast.errors import NasfastError, RunError
from nasfast.report import blackbox, comparison, gradient, oneshot
from nasfast.report.run_data import load_run
from nasfast.runs.folder import RunFolder
from nasfast.utils.files import atomic_write

Page = Callable[[Path, dict[str, Any]], str]


def build_report(run_folder: str | os.PathLike[str] | RunFolder) -> Path:
    """Write ``report.html`` into a run folder, or the folder of a model of a table, and return its path.

    What the run does not have yet (no retraining, no genotype) is named in the page.

    Raises:
        RunError: There is no run folder, its config.json cannot be read, or the report cannot be written.
    """
    path = run_folder.path if isinstance(run_folder, RunFolder) else Path(run_folder)
    if is_model(path):
        # What a model of a table is made of takes seconds to load, which the end of a search need not wait for.
        from nasfast.report.model import build_model_report

        return build_model_report(path)
    run = RunFolder.open(path, lock=False)
    config = run.read_config()
    page = next((page for key, page in _PAGES.items() if key in config), _gradient_page)
    atomic_write(run.report_path, _made(page, path, config))
    return Path(run.report_path)


def _made(page: Page, path: Path, config: dict[str, Any]) -> str:
    """The page. It is made of files alone, so what it trips over stands in one of them."""
    try:
        return page(path, config)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        if isinstance(error, NasfastError):
            raise
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise RunError(f"{path}: config.json, the log or the architectures are damaged: {what}") from error


def _gradient_page(path: Path, config: dict[str, Any]) -> str:
    """Of a search by gradients, of a space or of cells; as much of it as there is where config.json is damaged."""
    settings = config.get("search", {})
    if isinstance(settings, dict) and settings.get("space", "") not in ("", "darts"):
        return gradient.render_space(gradient.SpaceRun(path))
    return gradient.render_cells(load_run(path))


_PAGES: dict[str, Page] = {
    "search": _gradient_page,
    "blackbox": lambda path, config: blackbox.render(blackbox.load_search(path, config)),
    "oneshot": lambda path, config: oneshot.render(oneshot.load_search(path, config)),
    "compare": comparison.render,
}
"""By the key of the run's settings in config.json; see :mod:`nasfast.search.kinds`."""
