"""The trials of a run in one SQLite file, each safe on disk as soon as it has ended."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from nasfast.errors import RunError
from nasfast.runs.sqlite import sqlite_errors
from nasfast.search.workers.jobs import Outcome, TrialKey

_VERSION = 3
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
  checksum TEXT NOT NULL,
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
  checksum TEXT NOT NULL,
  PRIMARY KEY (trial, number)
);
CREATE TABLE totals (trials INTEGER NOT NULL, attempts INTEGER NOT NULL);
INSERT INTO totals VALUES (0, 0);
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

    What a method has written is on disk when it returns. Another process may read the file at any time. Each row has a
    checksum, and the file says how many there are.

    Args:
        path: The file.
        wait: Seconds to wait for another process that holds a lock on it.

    Raises:
        RunError: It is no store of this version, damaged, cannot be written, or stays locked.
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
        elif (found := self._integrity()) != "ok":
            raise self._damaged(found)

    def _number(self, pragma: str) -> int:
        return int(self._connection.execute(f"PRAGMA {pragma}").fetchone()[0])

    def _integrity(self) -> str:
        with self._errors():
            return str(self._connection.execute("PRAGMA integrity_check(1)").fetchone()[0])

    def _damaged(self, how: str) -> RunError:
        return RunError(f"{self.path} is damaged: {' '.join(how.split())}; restore it from a copy")

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
        key = _key(asked)
        with self._transaction() as connection:
            if connection.execute("SELECT 1 FROM trials WHERE choices = ? AND fidelity = ?", key).fetchone():
                return
            number = connection.execute("UPDATE totals SET trials = trials + 1 RETURNING trials").fetchone()[0]
            row = (number, *key, arch, "waiting", None)
            connection.execute("INSERT INTO trials VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, _checksum(row)))

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
        key = _key(asked)
        trial, arch = connection.execute(
            "SELECT id, arch FROM trials WHERE choices = ? AND fidelity = ?", key
        ).fetchone()
        known = connection.execute("SELECT count(*) FROM attempts WHERE trial = ?", (trial,)).fetchone()[0]
        attempt = (trial, known + 1, outcome.state, outcome.worker, outcome.started, outcome.ended, outcome.error)
        connection.execute("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*attempt, _checksum(attempt)))
        connection.execute("UPDATE totals SET attempts = attempts + 1")
        finished = outcome.state == "finished"
        if finished or final:
            state, numbers = ("finished", json.dumps(outcome.numbers[place])) if finished else ("failed", None)
            checksum = _checksum((trial, *key, arch, state, numbers))
            connection.execute(
                "UPDATE trials SET state = ?, numbers = ?, checksum = ? WHERE id = ?", (state, numbers, checksum, trial)
            )

    def records(self) -> list[Record]:
        """All trials, in the order they were asked for.

        Raises:
            RunError: It is damaged: a row is missing, or not as it was written.
        """
        trials, tried = self._checked()
        attempts: dict[int, list[Attempt]] = {}
        for trial, _, *rest in tried:
            attempts.setdefault(trial, []).append(Attempt(*rest))
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
                for trial, choices, fidelity, arch, state, numbers in trials
            ]
        except ValueError as error:
            raise self._damaged(str(error)) from error

    def _checked(self) -> tuple[list[Any], list[Any]]:
        """The rows of trials and of attempts, without their checksums."""
        tables = []
        with self._errors():
            self._connection.execute("BEGIN")  # so that all is of one moment
            try:
                totals = self._connection.execute("SELECT trials, attempts FROM totals").fetchall()
                for query in ("trials ORDER BY id", "attempts ORDER BY trial, number"):
                    tables.append(self._connection.execute(f"SELECT * FROM {query}").fetchall())
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        if totals != [tuple(map(len, tables))]:
            raise self._damaged("rows are missing")
        for *row, checksum in itertools.chain(*tables):
            if checksum != _checksum(row):
                raise self._damaged("a checksum does not fit")
        trials, attempts = ([row[:-1] for row in table] for table in tables)
        return trials, attempts

    def check_log(self, logged: Iterable[Mapping[str, Any]]) -> None:
        """Make sure that the trials in a run's log have ended here.

        Args:
            logged: Rows of the log.

        Raises:
            RunError: One has not: the file is damaged, or another.
        """
        ended = {record.row for record in self.records() if record.state != "waiting"}
        for row in logged:
            if row.get("kind") in ("trial", "failed") and tuple(row["row"]) not in ended:
                raise self._damaged(f"it does not have the trial of {row['arch']}, which the run's log has")

    def close(self) -> None:
        self._connection.close()


def _checksum(row: Iterable[Any]) -> str:
    return blake2b(json.dumps(list(row)).encode(), digest_size=8).hexdigest()


def _key(asked: TrialKey) -> tuple[str, int]:
    row, fidelity = asked
    return json.dumps([int(choice) for choice in row]), _OWN_FIDELITY if fidelity is None else fidelity
