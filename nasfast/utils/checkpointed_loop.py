"""A loop over steps that can be stopped after any of them, and goes on from its last checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from nasfast.utils.interrupt import deferred_interrupt


class CheckpointedLoop:
    """Turns to take a step each, with a checkpoint after those where one is due::

        with CheckpointedLoop(save, over, seconds=60) as loop:
            for _ in loop:
                take_step()

    One is due ``seconds`` after the last one, after every ``steps``, where the step says so, at the end, and on Ctrl-C
    or SIGTERM: these wait for the end of the step, and the loop then raises KeyboardInterrupt.

    Args:
        save: Writes a checkpoint.
        over: Whether nothing is left to do, or to do it with; asked before the first step, and once after each.
        seconds: Between checkpoints.
        steps: Between checkpoints, counted from the first step of the run; 0: by time alone.
        taken: Steps of earlier sessions.
        clock: Tells the seconds.

    Attributes:
        due: A step sets it that needs a checkpoint after it.
        stop: Where several processes have to stop together, each step sets it to what they agree on, from what each was
            asked (:meth:`interrupted`); None: every process stops by itself.
    """

    def __init__(
        self,
        save: Callable[[], None],
        over: Callable[[], bool],
        *,
        seconds: float,
        steps: int = 0,
        taken: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._save, self._over, self._clock = save, over, clock
        self._seconds, self._steps, self._taken = seconds, steps, taken
        self._signals = deferred_interrupt()
        self.due = False
        self.stop: bool | None = None

    def __enter__(self) -> CheckpointedLoop:
        self._asked = self._signals.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._signals.__exit__(*error)

    def interrupted(self) -> bool:
        """Whether this process was asked to stop."""
        return self._asked()

    def __iter__(self) -> Iterator[None]:
        saved_at, over = self._clock(), self._over()
        while not over:
            self.due = False
            yield
            self._taken += 1
            stop, over = self.interrupted() if self.stop is None else self.stop, self._over()
            if self.due or stop or over or self._is_due(saved_at):
                self._save()
                saved_at = self._clock()
            if stop:
                raise KeyboardInterrupt

    def _is_due(self, saved_at: float) -> bool:
        at_step = self._steps > 0 and self._taken % self._steps == 0
        return at_step or self._clock() - saved_at >= self._seconds
