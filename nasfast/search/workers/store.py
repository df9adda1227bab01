"""The trials of a run in one SQLite file, each safe on disk as soon as it has ended."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from nasfast.errors import RunError
from nasfast.runs.sqlite import sqlite_errors
from nasfast.search.workers.jobs import Outcome, TrialKey

_VERSION = 2
_APPLICATION = 0x6E617366  # "nasf"
_OWN_FIDELITY = 0  # how "the estimator's own" is written

_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
CREATE TABLE trials (
  id INTEGER PRIMARY KEY,
  choices TEXT NOT NULL,
  fidelity INTEGER NOT NULL,
  arch TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('waiting', 'finished', 'failed')),
  numbers TEXT,
  UNIQUE (choices, fidelity)
);
CREATE TABLE attempts (
  trial INTEGER NOT NULL REFERENCES trials,
  number INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('finished', 'crashed', 'hung', 'lost')),
  worker TEXT NOT NULL,
  started REAL NOT NULL,
  ended REAL NOT NULL,
  error TEXT NOT NULL,
  PRIMARY KEY (trial, number)
);
"""


@dataclass(frozen=True)
class Attempt:
    """One try at a trial; see :class:`nasfast.search.workers.jobs.Outcome`."""

    state: str
    worker: str
    started: float
    ended: float
    error: str


@dataclass(frozen=True)
class Record:
    """What the store knows of a trial.

    Attributes:
        state: waiting (it has not ended), finished, or failed.
        numbers: Of a finished one.
        attempts: In order.
    """

    row: tuple[int, ...]
    fidelity: int | None
    arch: str
    state: str
    numbers: dict[str, float] | None
    attempts: tuple[Attempt, ...]

    @property
    def error(self) -> str:
        """Of the last attempt."""
        return self.attempts[-1].error if self.attempts else ""


class TrialStore:
    """Opens the file, or makes it.

    What a method has written is on disk when it returns. Another process may read the file at any time.

    Args:
        path: The file.
        wait: Seconds to wait for another process that holds a lock on it.

    Raises:
        RunError: It is no store of this version, cannot be written, or stays locked.
    """

    def __init__(self, path: Path, wait: float = 30.0) -> None:
        self.path, self._wait = path, wait
        with self._errors():
            self._connection = sqlite3.connect(path, timeout=wait, isolation_level=None)
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        with self._errors():
            self._connection.execute("PRAGMA synchronous = FULL")
            version = self._number("user_version")
            application = self._number("application_id")
            tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not tables:
            with self._errors():
                self._connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
        elif application != _APPLICATION:
            raise RunError(f"{self.path} is no store of trials")
        elif version != _VERSION:
            raise RunError(f"{self.path} is a store of version {version}; this nasfast reads version {_VERSION}")

    def _number(self, pragma: str) -> int:
        return int(self._connection.execute(f"PRAGMA {pragma}").fetchone()[0])

    def _errors(self) -> AbstractContextManager[None]:
        return sqlite_errors(self.path, self._wait)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def add(self, asked: TrialKey, arch: str) -> None:
        """A trial that waits for a worker; nothing where it is known."""
        choices, fidelity = _key(asked)
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO trials (choices, fidelity, arch, state) VALUES (?, ?, ?, 'waiting')",
                (choices, fidelity, arch),
            )

    def record(self, outcome: Outcome, final: bool) -> None:
        """How an attempt at a job has ended; each of its rows is a trial.

        Args:
            final: There will be no other attempt.
        """
        with self._transaction() as connection:
            for place, asked in enumerate(outcome.job.asked):
                self._record_one(connection, asked, outcome, place, final)

    def _record_one(
        self, connection: sqlite3.Connection, asked: TrialKey, outcome: Outcome, place: int, final: bool
    ) -> None:
        trial = connection.execute("SELECT id FROM trials WHERE choices = ? AND fidelity = ?", _key(asked)).fetchone()[
            0
        ]
        known = connection.execute("SELECT count(*) FROM attempts WHERE trial = ?", (trial,)).fetchone()[0]
        attempt = (trial, known + 1, outcome.state, outcome.worker, outcome.started, outcome.ended, outcome.error)
        connection.execute("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?)", attempt)
        if outcome.state == "finished":
            numbers = json.dumps(outcome.numbers[place])
            connection.execute("UPDATE trials SET state = 'finished', numbers = ? WHERE id = ?", (numbers, trial))
        elif final:
            connection.execute("UPDATE trials SET state = 'failed' WHERE id = ?", (trial,))

    def records(self) -> list[Record]:
        """All trials, in the order they were asked for."""
        with self._errors():
            attempts: dict[int, list[Attempt]] = {}
            for trial, *rest in self._connection.execute(
                "SELECT trial, state, worker, started, ended, error FROM attempts ORDER BY trial, number"
            ):
                attempts.setdefault(trial, []).append(Attempt(*rest))
            found = self._connection.execute("SELECT * FROM trials ORDER BY id").fetchall()
        try:
            return [
                Record(
                    tuple(json.loads(choices)),
                    None if fidelity == _OWN_FIDELITY else fidelity,
                    arch,
                    state,
                    None if numbers is None else json.loads(numbers),
                    tuple(attempts.get(trial, ())),
                )
                for trial, choices, fidelity, arch, state, numbers in found
            ]
        except ValueError as error:
            raise RunError(f"{self.path} is damaged: {error}") from error

    def close(self) -> None:
        self._connection.close()


def _key(asked: TrialKey) -> tuple[str, int]:
    row, fidelity = asked
    return json.dumps([int(choice) for choice in row]), _OWN_FIDELITY if fidelity is None else fidelity
