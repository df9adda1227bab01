"""The study of a strategy that is Optuna's, in a journal file for ``optuna.load_study`` and Optuna's dashboard.

The file is a mirror: a search goes on from its own state. What has happened since the file was last written goes
through Optuna's storage in memory, and what that has logged is appended at once, synced to the disk once.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from optuna import Study, create_study, load_study
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import OptunaError
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.trial import FrozenTrial, create_trial

from nasfast.errors import RunError
from nasfast.runs.mark import End, Mark
from nasfast.spaces.base import Decision
from nasfast.strategies.blackbox.multi_fidelity import ASHA, quiet_optuna
from nasfast.utils.files import atomic_write

STUDY = "nasfast"
"""Name of the study."""

_HINT = "nothing of the search is lost: resume it, and without this file it is written again"
_DAMAGES = (OptunaError, ValueError, KeyError, TypeError, AttributeError, AssertionError)


class StudyFile:
    """Writes the trials of a strategy: decisions as parameters, the score at each rung, states, texts.

    Steps of intermediate values are epochs. User attributes: "arch", the text of the architecture; "epochs", those of
    its last estimate. The first :meth:`write` makes the file anew, with the times that trials had in it.

    Args:
        path: The file; it is made where it is missing. No one else writes to it.
        strategy: After its ``init``.
    """

    def __init__(self, path: Path, strategy: ASHA) -> None:
        self.path, self.strategy = path, strategy
        self._distributions = {decision.name: _distribution(decision) for decision in strategy.space.decisions}
        self._mirror: _Mirror | None = None
        self._mark, self._end = Mark(path), End()

    def write(self) -> None:
        """Bring the file up to date.

        Raises:
            RunError: It is damaged, no study of Optuna's, or cannot be written.
        """
        mirror, self._mirror = self._mirror, None  # of a file that could not be written, nothing is known
        with quiet_optuna():
            if mirror is None or not self.path.exists():
                mirror = _Mirror()
                self._update(mirror, self._read())
                self._replace(mirror.take_lines())
            else:
                self._update(mirror, [])
                self._append(mirror.take_lines())
        self._mirror = mirror

    def _read(self) -> list[FrozenTrial]:
        """The trials in the file; none where it is missing."""
        if not self.path.exists():
            return []
        self._check()
        try:
            storage = JournalStorage(JournalFileBackend(str(self.path)))
            return load_study(study_name=STUDY, storage=storage).get_trials(deepcopy=False)
        except _DAMAGES as error:
            raise RunError(f"{self.path} cannot be used: it holds no study {STUDY!r} that is whole; {_HINT}") from error
        except OSError as error:
            raise RunError(f"{self.path} cannot be used: {error.strerror}; {_HINT}") from error

    def _check(self) -> None:
        """Raise RunError where the file is not as it was written; its end may be newer than its mark."""
        mark = self._mark.read()
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise RunError(f"{self.path} cannot be used: {error.strerror}; {_HINT}") from error
        if mark is None or len(content) < mark.position or _end_of(content[: mark.position]) != mark:
            raise RunError(f"{self.path} is damaged: its checksum does not fit; {_HINT}")

    def _replace(self, lines: bytes) -> None:
        self._mark.lower(End())  # so much is true of the old file and of the new one
        atomic_write(self.path, lines)
        self._end = _end_of(lines)
        self._mark.lower(self._end)

    def _append(self, lines: bytes) -> None:
        if not lines:
            return
        try:
            with self.path.open("ab") as file:
                others = file.tell() != self._end.position  # another program has added to it, such as notes
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            end = End(self._end.position + len(lines), zlib.crc32(lines, self._end.crc))
            self._end = _end_of(self.path.read_bytes()) if others else end
            self._mark.write(self._end)
        except OSError as error:
            raise RunError(f"{self.path} cannot be used: {error.strerror}; {_HINT}") from error

    def _update(self, mirror: _Mirror, before: list[FrozenTrial]) -> None:
        known, trials = mirror.study.get_trials(deepcopy=False), self.strategy.trials()
        for old, trial in zip(known, trials, strict=False):
            if not old.state.is_finished():
                mirror.go_on(old, self._shown(trial))
        for number in range(len(known), len(trials)):
            shown = self._shown(trials[number])
            if number < len(before):
                shown.datetime_start = before[number].datetime_start
                if shown.state.is_finished():
                    shown.datetime_complete = before[number].datetime_complete or shown.datetime_complete
            mirror.study.add_trial(shown)

    def _shown(self, trial: FrozenTrial) -> FrozenTrial:
        """As the file has it: values in place of choices, epochs in place of the pruner's steps."""
        strategy = self.strategy
        scores = {strategy.epochs_of(step): value for step, value in sorted(trial.intermediate_values.items())}
        row = [trial.params[name] for name in self._distributions]
        shown = create_trial(
            state=trial.state,
            values=trial.values,
            params={name: d.choices[trial.params[name]] for name, d in self._distributions.items()},
            distributions=dict(self._distributions),
            user_attrs={"arch": strategy.space.decode(row)} | ({"epochs": max(scores)} if scores else {}),
            intermediate_values=scores,
        )
        shown.datetime_start, shown.datetime_complete = trial.datetime_start, trial.datetime_complete
        return shown


def _end_of(content: bytes) -> End:
    return End(len(content), zlib.crc32(content))


class _Mirror:
    """The study as the file has it, and what was done to it since."""

    def __init__(self) -> None:
        self._log = _Log()
        self._storage = JournalStorage(self._log)
        self.study: Study = create_study(storage=self._storage, study_name=STUDY, direction="maximize")
        self._id = self._storage.get_study_id_from_name(STUDY)

    def go_on(self, old: FrozenTrial, new: FrozenTrial) -> None:
        """What a trial that was running has come to."""
        place = self._storage.get_trial_id_from_study_id_trial_number(self._id, old.number)
        for epochs in sorted(new.intermediate_values.keys() - old.intermediate_values.keys()):
            self._storage.set_trial_intermediate_value(place, epochs, new.intermediate_values[epochs])
            self._storage.set_trial_user_attr(place, "epochs", epochs)
        if new.state.is_finished():
            self._storage.set_trial_state_values(place, new.state, new.values)

    def take_lines(self) -> bytes:
        """What was logged since the last time, as Optuna writes it to a file."""
        logs = self._log.take()
        if not logs:
            return b""
        with TemporaryDirectory() as folder:
            file = Path(folder) / "journal"
            JournalFileBackend(str(file)).append_logs(logs)
            return file.read_bytes()


class _Log(BaseJournalBackend):
    """Keeps what a storage logs, in memory. A storage reads only what it has not read yet."""

    def __init__(self) -> None:
        self._logs: list[dict[str, Any]] = []
        self._taken = 0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        yield from self._logs[log_number_from - self._taken :]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._logs += logs

    def take(self) -> list[dict[str, Any]]:
        logs, self._logs = self._logs, []
        self._taken += len(logs)
        return logs


def _distribution(decision: Decision) -> CategoricalDistribution:
    """A decision as Optuna has it; values that it does not take are their text."""
    plain = (bool, int, float, str, type(None))
    values = [value if isinstance(value, plain) else str(value) for value in decision.values]
    if len(set(values)) < len(values):  # Optuna takes 1, 1.0 and True for the same
        values = [str(value) for value in values]
    return CategoricalDistribution(values)
