"""The steps of a black-box search in one session: logged, shown, saved, until it is done or its budget is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nasfast.config.budget import Budget, Meter, Spent
from nasfast.config.objectives import FIDELITY
from nasfast.runs.folder import RunFolder
from nasfast.search.blackbox.dashboard import board, note
from nasfast.search.blackbox.problem import FailedTrial
from nasfast.search.blackbox.search import BlackBoxSearch
from nasfast.search.history import Trial
from nasfast.search.workers import Running
from nasfast.utils.checkpointed_loop import CheckpointedLoop
from nasfast.utils.progress import Progress, Stage

_LOG_SECONDS = 1.0
_BOARD_SECONDS = 0.5
_SHARES = 100  # steps of a bar that shows what is spent


@dataclass
class Session:
    """A search, what it may cost, and what it has cost.

    Attributes:
        running: Trials on workers, for those who look on.
        charted: Trials go to TensorBoard too: not those of a table, of which there are thousands in a second.
        mirror: Shows the trials in a file for another program.
    """

    search: BlackBoxSearch
    budget: Budget
    meter: Meter
    running: Callable[[], Sequence[Running]] = tuple
    charted: bool = True
    mirror: Callable[[], None] = lambda: None

    def spent(self) -> Spent:
        """Until now."""
        return self.meter.spent(self.search.ended)

    def over(self) -> bool:
        """Whether nothing is left to do, or to do it with; one architecture is evaluated in any case."""
        return self.search.done() or (self.search.ended > 0 and self.budget.is_spent(self.spent()))

    def to_state(self) -> dict[str, Any]:
        """What is spent, as plain values."""
        return asdict(self.spent())

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`to_state`."""
        self.meter.before = Spent(**state)


def take_steps(run: RunFolder, session: Session, progress: Progress, every: float, save: Callable[[], None]) -> None:
    """Take the steps of a search that are left, and log its trials.

    Args:
        every: Seconds between checkpoints.
        save: Writes one; the log is complete when it is called.

    Raises:
        KeyboardInterrupt: Ctrl-C; a checkpoint was written.
    """
    search, log = session.search, _Log(run, session)

    def save_all() -> None:
        log.write(now=True)
        save()

    with _Bar(session, progress) as show, CheckpointedLoop(save_all, session.over, seconds=every) as loop:
        for _ in loop:
            log.take(search.step())
            log.write(now=False)
            show()
    if not search.done():
        progress.say(f"the budget is spent: {session.budget.text(session.spent())}")
    if search.rejected:
        progress.say(f"{search.rejected} proposals broke a constraint and were not evaluated")
    if search.failed:
        progress.say(f"{len(search.failed)} trials failed; the report has their errors")


class _Bar:
    """The bar of a search, and what updates it: how many trials have ended, or how much of a timed budget is spent."""

    def __init__(self, session: Session, progress: Progress) -> None:
        self._session = session
        self._shown = self._position()
        total, unit = (_SHARES, "%") if session.budget.timed else (session.search.evaluations, "evaluation")
        self._context = progress.stage("search", total, done=self._shown, unit=unit)
        self._drawn_at = 0.0

    def _position(self) -> int:
        session = self._session
        if not session.budget.timed:
            return session.search.ended
        return min(_SHARES, int(_SHARES * session.budget.share(session.spent())))

    def __enter__(self) -> Callable[[], None]:
        self._stage: Stage = self._context.__enter__()
        return self._show

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if kind in (None, KeyboardInterrupt):
            self._show(last=True)
        self._context.__exit__(kind, *error)

    def _show(self, last: bool = False) -> None:
        """Bring it up to date; what is shown at last stays, and nothing runs then."""
        session, position = self._session, self._position()
        spent = session.budget.text(session.spent()) if session.budget.timed else ""
        now = time.monotonic()
        if self._stage.boards and (last or now - self._drawn_at >= _BOARD_SECONDS):
            self._stage.draw(board(session.search, () if last else session.running(), spent))
            self._drawn_at = now
        self._stage.advance(position - self._shown, note(session.search, spent))
        self._shown = position


class _Log:
    """Writes trials to the run's log, and their numbers to TensorBoard; a lookup takes less time than a safe write."""

    def __init__(self, run: RunFolder, session: Session) -> None:
        self._run, self._search, self._charted = run, session.search, session.charted
        self._waiting: list[Trial | FailedTrial] = []
        self._failed = len(session.search.failed)
        self._written_at = time.monotonic()

    def take(self, new: Sequence[Trial]) -> None:
        """Trials that have just ended; those that failed are looked up."""
        self._waiting += new
        self._waiting += self._search.failed[self._failed :]
        self._failed = len(self._search.failed)

    def write(self, now: bool) -> None:
        """Write what waits, where it has waited for a while or has to be ``now``."""
        if not now and time.monotonic() - self._written_at < _LOG_SECONDS:
            return
        self._run.metrics.append(*(row_of(self._search, trial) for trial in self._waiting))
        if self._charted:
            trials = [trial for trial in self._waiting if isinstance(trial, Trial)]
            self._run.log_steps({t.number: {f"trial/{name}": v for name, v in t.metrics.items()} for t in trials})
        self._waiting, self._written_at = [], time.monotonic()


def row_of(search: BlackBoxSearch, trial: Trial | FailedTrial) -> dict[str, Any]:
    """The row of a trial in the log."""
    arch = search.problem.space.decode(trial.row)
    if isinstance(trial, FailedTrial):
        fidelity = {} if trial.fidelity is None else {FIDELITY: trial.fidelity}
        return {"kind": "failed", "arch": arch, **fidelity, "row": list(trial.row)}  # the store has its errors
    return {"kind": "trial", "number": trial.number, "arch": arch, **numbers_of(trial), "row": list(trial.row)}


def numbers_of(trial: Trial) -> dict[str, Any]:
    """Its metrics, and how far it breaks the constraints."""
    return {"metrics": trial.metrics, "violation": trial.violation}
