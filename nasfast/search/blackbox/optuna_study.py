"""The study of a strategy that is Optuna's, in an SQLite file for ``optuna.load_study`` and Optuna's dashboard.

The file is a mirror: a search goes on from its own state. Optuna makes the tables, and they are filled here, all that
has changed in one transaction; by Optuna's own storage each trial would be several, each synced to the disk.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nasfast.errors import RunError
from nasfast.runs.sqlite import sqlite_errors
from nasfast.spaces.base import Decision
from nasfast.strategies.blackbox.multi_fidelity import ASHA, quiet_optuna
from nasfast.utils.files import atomic_write

STUDY = "nasfast"
"""Name of the study."""

_SCHEMA = 12  # version of Optuna's tables
_HINT = "nothing of the search is lost: resume it, and without this file it is written again"
_PARTS = {
    "trial_params": "param_name, param_value, distribution_json",
    "trial_values": "objective, value, value_type",
    "trial_intermediate_values": "step, intermediate_value, intermediate_value_type",
    "trial_user_attributes": "key, value_json",
}
_OTHER_PARTS = ("trial_system_attributes", "trial_heartbeats")

# A trial that is replayed after a stop keeps the times that it had.
_PUT_TRIAL = """
INSERT INTO trials (trial_id, number, study_id, state, datetime_start, datetime_complete) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (trial_id) DO UPDATE SET state = excluded.state, datetime_complete =
CASE WHEN excluded.datetime_complete IS NULL THEN NULL ELSE coalesce(datetime_complete, excluded.datetime_complete) END
"""


class StudyFile:
    """Writes the trials of a strategy: decisions as parameters, the score at each rung, states, texts.

    Steps of intermediate values are epochs. User attributes: "arch", the text of the architecture; "epochs", those of
    its last estimate.

    Args:
        path: The file; it is made where it is missing.
        strategy: After its ``init``.
        wait: Seconds to wait for another process that holds a lock on the file.
    """

    def __init__(self, path: Path, strategy: ASHA, wait: float = 30.0) -> None:
        self.path, self.strategy, self._wait = path, strategy, wait
        self._distributions = [(d.name, _distribution(d)) for d in strategy.space.decisions]

    def write(self) -> None:
        """Bring the file up to date, or leave it as it was.

        Raises:
            RunError: It is damaged, no study of Optuna's, of another version, locked, or cannot be written.
        """
        if not self.path.exists():
            # SQLite would roll the journal of a file that was removed back onto the new one.
            self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
            atomic_write(self.path, _empty_study())
        with (
            sqlite_errors(self.path, self._wait, _HINT),
            closing(sqlite3.connect(self.path, timeout=self._wait, isolation_level=None)) as connection,
        ):
            connection.execute("BEGIN IMMEDIATE")
            self._update(connection, self._study_of(connection))
            connection.execute("COMMIT")
        self.strategy.forget_changes()

    def _study_of(self, connection: sqlite3.Connection) -> int:
        version = connection.execute("SELECT schema_version FROM version_info").fetchone()
        if version != (_SCHEMA,):
            found = version[0] if version else "none"
            raise RunError(f"{self.path} has Optuna's tables of version {found}; this nasfast writes version {_SCHEMA}")
        study = connection.execute("SELECT study_id FROM studies WHERE study_name = ?", (STUDY,)).fetchone()
        if study is None:
            raise RunError(f"{self.path} cannot be used: it holds no study {STUDY!r}; {_HINT}")
        return int(study[0])

    def _update(self, connection: sqlite3.Connection, study: int) -> None:
        known = dict(connection.execute("SELECT number, trial_id FROM trials WHERE study_id = ?", (study,)))
        changed, count = self.strategy.changed_trials()
        later = [(trial,) for number, trial in known.items() if number >= count]
        for table in (*_PARTS, *_OTHER_PARTS, "trials"):
            connection.executemany(f"DELETE FROM {table} WHERE trial_id = ?", later)
        free = connection.execute("SELECT coalesce(max(trial_id), 0) + 1 FROM trials").fetchone()[0]
        rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _PARTS}
        for trial in changed:
            place = known.get(trial.number)
            if place is None:
                place, free = free, free + 1
            times = _utc(trial.datetime_start), _utc(trial.datetime_complete)
            connection.execute(_PUT_TRIAL, (place, trial.number, study, trial.state.name, *times))
            for table, parts in self._parts(trial).items():
                rows[table] += [(place, *part) for part in parts]
        places = [(known[trial.number],) for trial in changed if trial.number in known]
        for table, columns in _PARTS.items():
            connection.executemany(f"DELETE FROM {table} WHERE trial_id = ?", places)
            marks = ", ".join("?" * (columns.count(",") + 2))
            connection.executemany(f"INSERT INTO {table} (trial_id, {columns}) VALUES ({marks})", rows[table])

    def _parts(self, trial: Any) -> dict[str, list[tuple[Any, ...]]]:
        """Rows of each table, without the trial's id."""
        strategy = self.strategy
        row = [trial.params[name] for name, _ in self._distributions]
        scores = [(strategy.epochs_of(step), value) for step, value in sorted(trial.intermediate_values.items())]
        texts = {"arch": strategy.space.decode(row)} | ({"epochs": scores[-1][0]} if scores else {})
        return {
            "trial_params": [(name, float(trial.params[name]), text) for name, text in self._distributions],
            "trial_values": [(place, value, "FINITE") for place, value in enumerate(trial.values or ())],
            "trial_intermediate_values": [(epochs, value, "FINITE") for epochs, value in scores],
            "trial_user_attributes": [(key, json.dumps(value)) for key, value in texts.items()],
        }


def _distribution(decision: Decision) -> str:
    """A decision as Optuna writes it; values that it does not take are their text."""
    from optuna.distributions import CategoricalDistribution, distribution_to_json

    plain = (bool, int, float, str, type(None))
    values = [value if isinstance(value, plain) else str(value) for value in decision.values]
    return str(distribution_to_json(CategoricalDistribution(values)))


def _utc(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def _empty_study() -> bytes:
    """The content of a file with a study without trials, as the installed Optuna makes it."""
    import optuna
    from sqlalchemy.pool import StaticPool

    with closing(sqlite3.connect(":memory:")) as memory, quiet_optuna():
        kept_open = {"creator": lambda: memory, "poolclass": StaticPool}
        storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs=kept_open)
        optuna.create_study(storage=storage, study_name=STUDY, direction="maximize")
        storage.remove_session()
        return memory.serialize()
