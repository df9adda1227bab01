"""When a search by gradients, and the training that follows it, will end: told from its first steps."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from nasfast.utils.clock import time_in

_SKIPPED, _MEASURED = 1, 3  # steps: the first one also makes what the others use
_WORTH = 60.0  # seconds from which on it is said


class Forecast:
    """Measures the first steps of a session, and again the first that search the architecture too.

    Args:
        steps: Of the search, that are left.
        limit: Seconds of the budget that are left; None without one.
        later: Seconds of the training that follows; 0 where none does.
        wait: Returns when the device has done what it was given: steps on a GPU are only begun when they return.
    """

    def __init__(
        self,
        steps: int,
        limit: float | None = None,
        later: float = 0.0,
        wait: Callable[[], object] = lambda: None,
    ) -> None:
        self._wait = wait
        self._left, self._limit, self._later = steps, limit, later
        self._start = self._now = monotonic()
        self._taken, self._searching = 0, False

    def after_step(self, searching: bool) -> str:
        """What there is to say after a step; "" after most.

        Args:
            searching: It was one of the architecture too, as those to come are.
        """
        self._left -= 1
        if searching != self._searching:
            self._taken, self._searching = 0, searching
        self._taken += 1
        if self._taken in (_SKIPPED, _SKIPPED + _MEASURED):
            self._wait()
        if self._taken == _SKIPPED:
            self._now = monotonic()
        if self._taken != _SKIPPED + _MEASURED:
            return ""
        seconds = (monotonic() - self._now) / _MEASURED
        return self._text(seconds)

    def _text(self, seconds: float) -> str:
        search = seconds * self._left
        limit = None if self._limit is None else max(0.0, self._limit - (monotonic() - self._start))
        bounded = limit is not None and limit < search
        search = limit if limit is not None and bounded else search
        if search + self._later < _WORTH:
            return ""
        # Steps of the weights alone are followed by longer ones.
        when = "about" if self._searching or bounded else "not before"
        text = f"a step takes {seconds:.2g} s: the search ends {when} {time_in(search)}"
        text += ", when its budget is spent" if bounded else ""
        return text + (f", the training after it {when} {time_in(search + self._later)}" if self._later else "")
