"""How much worse predictions get when a column is shuffled (Breiman 2001), on rows that were held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasfast.automl.diagnosis.held_out import HeldOut
from nasfast.automl.diagnosis.numbers import short
from nasfast.automl.diagnosis.timer import Timer
from nasfast.automl.metrics import Metric
from nasfast.automl.sources import Source, copy_of

MOST_ROWS, LEAST_ROWS = 2_000, 200
REPEATS, _LEAST_REPEATS = 5, 2
_DRAWS = 8  # of rows, for each shuffle
_SURE = 1.96

OfRows = Callable[[NDArray[np.int64]], HeldOut]


def permutation_importance(
    of_rows: OfRows, judged: NDArray[np.int64], sources: Sequence[Source], metric: Metric, seed: int, timer: Timer
) -> dict[str, Any] | None:
    """The rise of the metric's loss for each column, with an interval of 95 %; the most important first.

    Columns of the table are shuffled, with all that was made of them. Each row is predicted by the models of the fold
    that held it out. Intervals are over shuffles and over rows drawn again.

    Args:
        of_rows: Held-out rows by their numbers.
        judged: All held-out rows.
        timer: Of what it may take: fewer rows, then fewer shuffles, then fewer columns.

    Returns:
        None where not one column could be shuffled in time.
    """
    order = np.random.default_rng([seed, 11]).permutation(judged)
    rows, repeats = _plan(of_rows, order, len(sources), timer)
    held_out = of_rows(np.sort(order[:rows]))
    drawn = _Drawn(held_out, metric, seed)
    tallies = [_Tally() for _ in sources]
    for repeat in range(repeats):
        for number, source in enumerate(sources):
            if timer.is_over():
                break
            drawn.add(tallies[number], source, repeat, np.random.default_rng([seed, 12, repeat, number]))
    measured = [(s, t) for s, t in zip(sources, tallies, strict=True) if t.rises]
    if not measured:
        return None
    columns = [t.described(s.name) for s, t in measured]
    columns.sort(key=lambda column: -(column["mean"] or 0.0))
    return {
        "loss": metric.name,
        "rows": rows,
        "repeats": max(len(t.rises) for _, t in measured),
        "columns": columns,
        "not_measured": len(sources) - len(measured),
    }


def _plan(of_rows: OfRows, order: NDArray[np.int64], columns: int, timer: Timer) -> tuple[int, int]:
    """Rows and repeats that fit the time, from the time that one prediction takes."""
    rows = min(len(order), MOST_ROWS)
    if not timer.limited:
        return rows, REPEATS
    tried = of_rows(np.sort(order[: min(rows, LEAST_ROWS)]))
    prepared = tried.prepared
    tried.predict(prepared)
    start = perf_counter()
    tried.predict(prepared)
    each = (perf_counter() - start) / len(tried.rows)
    fit = timer.left() / max(each * max(columns, 1), 1e-12)  # rows times repeats
    rows = int(np.clip(fit / _LEAST_REPEATS, min(rows, LEAST_ROWS), rows))
    return rows, int(np.clip(fit / rows, 1, REPEATS))


@dataclass
class _Tally:
    """Of a column: the rise of the loss by each shuffle, and on rows that were drawn again."""

    rises: list[float] = field(default_factory=list)
    drawn: list[float] = field(default_factory=list)

    def described(self, name: str) -> dict[str, Any]:
        mean, error = float(np.mean(self.rises)), float(np.std(self.drawn, ddof=1))
        low, high = mean - _SURE * error, mean + _SURE * error
        return {"name": name, "mean": short(mean), "low": short(low), "high": short(high)}


class _Drawn:
    """Losses of held-out rows, and of as many rows drawn among them."""

    def __init__(self, held_out: HeldOut, metric: Metric, seed: int) -> None:
        self._held_out, self._metric = held_out, metric
        self._prepared, self._y = held_out.prepared, held_out.y
        rng = np.random.default_rng([seed, 13])
        self._draws = rng.integers(0, len(self._y), (REPEATS * _DRAWS, len(self._y)))
        p = held_out.predict(self._prepared)
        self._loss = metric.loss(self._y, p)
        self._losses = [metric.loss(self._y[draw], p[draw]) for draw in self._draws]

    def add(self, tally: _Tally, source: Source, repeat: int, rng: np.random.Generator) -> None:
        """Shuffle a column once more."""
        changed = copy_of(self._prepared)
        source.put(changed, self._prepared.take(rng.permutation(len(self._y))))
        p = self._held_out.predict(changed)
        tally.rises.append(self._metric.loss(self._y, p) - self._loss)
        for place in range(repeat * _DRAWS, (repeat + 1) * _DRAWS):
            draw = self._draws[place]
            tally.drawn.append(self._metric.loss(self._y[draw], p[draw]) - self._losses[place])
