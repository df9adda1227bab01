"""What a fit has tried so far, on disk, so that one that was stopped goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from nasfast.automl.folder import checksum, read_arrays
from nasfast.automl.members.base import Candidate
from nasfast.automl.members.load import load_member
from nasfast.automl.names import is_model
from nasfast.automl.problem import Problem
from nasfast.automl.trials import Trial
from nasfast.errors import RunError
from nasfast.utils.files import atomic_write
from nasfast.utils.sealed import read_sealed, sealed

_FOLDER, _OOF, _MEMBER, _BEGUN = "work", "oof", "member/", "fit.json"


@dataclass(frozen=True)
class Begun:
    """What a fit began with: files of the table and their digest, settings, trials of an earlier fit."""

    files: tuple[str, ...]
    settings: dict[str, Any]
    digest: str
    replay: tuple[Trial, ...]


class Work:
    """The candidates of a fit that is not over, in the folder of its model.

    Args:
        folder: Of the model.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / _FOLDER

    def begin(
        self, files: Sequence[str], settings: Mapping[str, Any], digest: str, replay: Sequence[Trial] = ()
    ) -> None:
        """Keep what is fitted and how, so that the fit can go on.

        Args:
            files: Of the table; none where it was in memory.
            digest: Of the table.
            replay: What is tried, where that is an earlier fit's.

        Raises:
            RunError: It cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        tried = [trial.to_json() for trial in replay]
        content = {"files": list(files), "settings": dict(settings), "digest": digest, "replay": tried}
        atomic_write(self._folder / _BEGUN, json.dumps(sealed(content), indent=1))

    def begun(self) -> Begun:
        """What a fit that was stopped had begun with.

        Raises:
            RunError: There is none, or its table was in memory.
        """
        path = self._folder / _BEGUN
        if not path.is_file():
            done = " (it is finished)" if is_model(self._folder.parent) else ""
            raise RunError(f"{self._folder.parent} holds no fit that was stopped{done}; --resume goes on with one")
        content = read_sealed(path, "a fit of `nasfast fit`", RunError)
        if not content["files"]:
            raise RunError(f"{self._folder.parent} was fitted to a table in memory: it cannot go on from files")
        tried = tuple(Trial.from_json(trial) for trial in content["replay"])
        return Begun(tuple(content["files"]), content["settings"], content["digest"], tried)

    def add(self, number: int, trial: Trial, candidate: Candidate | None, spent: float) -> None:
        """Keep a trial and what came of it.

        Args:
            spent: Seconds of the budget until now.

        Raises:
            RunError: It cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        described: dict[str, Any] = {"trial": trial.to_json(), "spent": spent, "candidate": None}
        if candidate is not None:
            member = candidate.model.to_arrays()
            arrays = {_OOF: candidate.oof} | {f"{_MEMBER}{k}": np.ascontiguousarray(a) for k, a in member.items()}
            content = save(arrays)
            atomic_write(self._folder / f"{number}.safetensors", content)
            described["candidate"] = {
                "kind": candidate.model.kind,
                "settings": dict(candidate.model.settings()),
                "seconds": candidate.seconds,
                "notes": dict(candidate.notes),
                "arrays": checksum(content),
            }
        atomic_write(self._folder / f"{number}.json", json.dumps(sealed(described)))

    def load(self, problem: Problem) -> tuple[list[tuple[Trial, Candidate | None]], float]:
        """The trials in their order, and the seconds that they had spent.

        Raises:
            RunError: A file is damaged, or of other rows.
        """
        found: list[tuple[Trial, Candidate | None]] = []
        spent = 0.0
        while (path := self._folder / f"{len(found)}.json").is_file():
            content = read_sealed(path, "a trial of `nasfast fit`", RunError)
            trial, spent = Trial.from_json(content["trial"]), float(content["spent"])
            found.append((trial, self._candidate(len(found), trial, content["candidate"], problem)))
        return found, spent

    def _candidate(self, number: int, trial: Trial, described: Any, problem: Problem) -> Candidate | None:
        if described is None:
            return None
        path = self._folder / f"{number}.safetensors"
        arrays = read_arrays(path, described["arrays"])
        oof = arrays.pop(_OOF)
        if oof.shape != (len(problem.y), problem.task.outputs):
            raise RunError(f"{path} is of a table of {len(oof)} rows with a target, this one has {len(problem.y)}")
        member = {key.removeprefix(_MEMBER): a for key, a in arrays.items()}
        model = load_member(described["kind"], member, described["settings"], problem.task)
        return Candidate(trial.name, trial.family, model, oof, described["seconds"], described["notes"])

    def remove(self) -> None:
        """When the fit is over."""
        shutil.rmtree(self._folder, ignore_errors=True)
