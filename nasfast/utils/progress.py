"""Progress with rate and time left: a bar on a terminal, a plain line now and then elsewhere (a log file, CI)."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from nasfast.utils.clock import clock
from nasfast.utils.shown import shown

_PLAIN_SECONDS = 10.0
_LOG = logging.getLogger("nasfast")


class _RateColumn(ProgressColumn):
    """Units per second, over the last moments."""

    def render(self, task: Any) -> Text:
        return Text(f"{task.speed:.1f} {task.fields['unit']}/s" if task.speed else "", style="cyan")


class _BoardProgress(RichProgress):
    """A bar with a board under it."""

    board: RenderableType | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.board is not None:
            yield self.board


class Stage:
    """One stage of work. ``advance`` is called by whoever does it, as often as they like."""

    boards = False
    """Whether :meth:`draw` draws."""

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Count ``count`` more units as done; ``note`` is a short text beside the bar (the loss, the accuracy)."""
        raise NotImplementedError

    def draw(self, board: RenderableType) -> None:
        """Draw a board under the bar, in place of the one before; nothing where ``boards`` is False."""


class _SilentStage(Stage):
    def advance(self, count: int = 1, note: str | None = None) -> None:
        pass


class _BarStage(Stage):
    boards = True

    def __init__(self, bar: _BoardProgress, task: Any) -> None:
        self._bar, self._task = bar, task

    def advance(self, count: int = 1, note: str | None = None) -> None:
        extra: dict[str, Any] = {} if note is None else {"note": note}
        self._bar.update(self._task, advance=count, **extra)

    def draw(self, board: RenderableType) -> None:
        self._bar.board = board


class _PlainStage(Stage):
    def __init__(self, name: str, total: int, done: int, unit: str) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._first = self._done = done
        self._start = self._shown = time.monotonic()
        self._note = ""

    def advance(self, count: int = 1, note: str | None = None) -> None:
        self._done += count
        self._note = self._note if note is None else note
        if time.monotonic() - self._shown >= _PLAIN_SECONDS and self._done < self._total:
            self.show()

    def show(self) -> None:
        """Print one line with the state of the stage."""
        self._shown = time.monotonic()
        seconds = self._shown - self._start
        rate = (self._done - self._first) / seconds if seconds > 0 else 0.0
        left = (self._total - self._done) / rate if rate > 0 else 0.0
        parts = [f"{self._name}: {self._done}/{self._total}"]
        if rate > 0:
            parts += [f"{rate:.1f} {self._unit}/s", f"{clock(left)} left" if left else f"took {clock(seconds)}"]
        print(shown(", ".join(parts + ([self._note] if self._note else []))), file=sys.stderr, flush=True)


class Progress:
    """Where stages report to. ``Progress(quiet=True)`` shows nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet

    @contextmanager
    def stage(self, name: str, total: int, done: int = 0, unit: str = "step") -> Iterator[Stage]:
        """Show one stage for the length of the block.

        Args:
            name: What is being done, in a few words.
            total: Units of work in all.
            done: Units that were done before (a resumed run); they do not count for the rate.
            unit: What one unit is.
        """
        if self._quiet:
            yield _SilentStage()
        elif sys.stderr.isatty():
            text, note = (TextColumn(field, markup=False) for field in ("{task.description}", "{task.fields[note]}"))
            columns = (text, BarColumn(), MofNCompleteColumn(), _RateColumn(), TimeRemainingColumn(), note)
            with _BoardProgress(*columns, console=Console(stderr=True)) as bar:
                yield _BarStage(bar, bar.add_task(name, total=total, completed=done, unit=unit, note=""))
        else:
            plain = _PlainStage(name, total, done, unit)
            yield plain
            plain.show()

    def say(self, text: str) -> None:
        """Print one line of plain information, beside the bars; the logger "nasfast" hears it in any case."""
        text = shown(text)
        _LOG.info(text)
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)
