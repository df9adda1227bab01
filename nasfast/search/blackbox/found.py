"""What a black-box search has found, as its run folder keeps it."""

from __future__ import annotations

import json
from typing import Any

from nasfast.runs.folder import RunFolder
from nasfast.search.blackbox.search import BlackBoxSearch
from nasfast.search.blackbox.session import numbers_of
from nasfast.search.history import Trial
from nasfast.utils.files import atomic_write
from nasfast.utils.sealed import sealed

FORMAT_NAME = "nasfast.architectures"


def write_found(run: RunFolder, search: BlackBoxSearch) -> None:
    """Write architectures.json: the best architecture and the front."""

    def entry(trial: Trial) -> dict[str, Any]:
        return {"arch": search.problem.space.decode(trial.row), "number": trial.number, **numbers_of(trial)}

    content = {
        "format": FORMAT_NAME,
        "version": 2,
        "space": search.problem.space.name,
        "objectives": [str(objective) for objective in search.problem.objectives],
        "best": entry(search.best()),
        "front": [entry(trial) for trial in search.front()],
    }
    atomic_write(run.architectures_path, json.dumps(sealed(content), indent=2) + "\n")


def logged_trials(run: RunFolder) -> list[Trial]:
    """The trials in a run's log."""
    with run.metrics.expected_rows():
        return [Trial.of(row) for row in run.metrics.rows() if row.get("kind") == "trial"]
