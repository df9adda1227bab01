"""The report of a run: one self-contained HTML file that opens offline."""

from __future__ import annotations

import os
from pathlib import Path

from nasfast.report import blackbox, comparison, oneshot
from nasfast.report import gradient as space
from nasfast.report.page import render
from nasfast.report.run_data import load_run
from nasfast.runs.folder import RunFolder
from nasfast.utils.files import atomic_write


def build_report(run_folder: str | os.PathLike[str] | RunFolder) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    What the run does not have yet (no retraining, no genotype) is named in the page.

    Raises:
        RunError: There is no run folder, its config.json cannot be read, or the report cannot be written.
    """
    path = run_folder.path if isinstance(run_folder, RunFolder) else Path(run_folder)
    run = RunFolder.open(path, lock=False)
    config = run.read_config()
    if "blackbox" in config:
        page = blackbox.render(blackbox.load_search(path, config))
    elif "oneshot" in config:
        page = oneshot.render(oneshot.load_search(path, config))
    elif "compare" in config:
        page = comparison.render(path, config)
    elif config.get("search", {}).get("space", "") not in ("", "darts"):
        page = space.render(space.SpaceRun(path))
    else:
        page = render(load_run(path))
    atomic_write(run.report_path, page)
    return Path(run.report_path)
