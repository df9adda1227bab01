"""Parts of a table, by one column, in which the model is clearly worse than in the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from nasfast.automl.diagnosis.labels import Labels
from nasfast.automl.diagnosis.numbers import short
from nasfast.automl.prepare import Prepared
from nasfast.automl.problem import Array
from nasfast.automl.sources import Source

LEAST_ROWS = 20
LEVEL = 0.05
_MOST_FOUND = 10
_RANGES = 4


@dataclass(frozen=True)
class Slice:
    """Rows [N] with a value in a column."""

    column: str
    name: str
    inside: NDArray[np.bool_]


def worst_slices(losses: Array, prepared: Prepared, sources: Sequence[Source], labels: Labels) -> dict[str, Any]:
    """Slices whose mean loss is above that of the other rows.

    Welch's test of each slice against the rest, one-sided, with Holm's correction for having looked at all of them:
    where the model is as good everywhere, one such list in twenty names a slice.
    """
    slices = [
        s
        for source in sources
        for s in slices_of(source, prepared, labels)
        if LEAST_ROWS <= np.count_nonzero(s.inside) <= len(losses) - LEAST_ROWS
    ]
    chances = np.array([_chance(losses[s.inside], losses[~s.inside]) for s in slices])
    worse = _holm(chances)
    found = sorted((i for i in range(len(slices)) if worse[i]), key=lambda i: -losses[slices[i].inside].mean())
    return {
        "tested": len(slices),
        "level": LEVEL,
        "overall": short(losses.mean()),
        "found": [_described(slices[i], losses, chances[i]) for i in found[:_MOST_FOUND]],
    }


def slices_of(source: Source, prepared: Prepared, labels: Labels) -> Iterator[Slice]:
    """The levels of a category, quarters of a number or date, and the rows without a value; none of a text."""
    if source.kind == "text":
        return
    if source.codes:
        codes = prepared.codes[:, source.codes[0]]
        for code in np.unique(codes):
            yield Slice(source.name, labels.level(source, int(code)), codes == code)
        return
    values = prepared.numbers[:, source.numbers[0]]
    known = np.isfinite(values)
    if not known.all():
        yield Slice(source.name, "missing", ~known)
    if not known.any():
        return
    cuts = np.unique(np.quantile(values[known], np.arange(1, _RANGES) / _RANGES, method="lower"))
    places = np.searchsorted(cuts, values, side="left")
    for place in np.unique(places[known]):
        inside = known & (places == place)
        name = labels.range(source, float(values[inside].min()), float(values[inside].max()))
        yield Slice(source.name, name, inside)


def _chance(inside: Array, outside: Array) -> float:
    """Of a difference as large as this, were there none."""
    parts = inside.var(ddof=1) / len(inside), outside.var(ddof=1) / len(outside)
    total = sum(parts)
    if not total:
        return 1.0
    freedom = total**2 / sum(part**2 / (len(x) - 1) for part, x in zip(parts, (inside, outside), strict=True))
    return float(student.sf((inside.mean() - outside.mean()) / np.sqrt(total), freedom))


def _holm(chances: Array) -> NDArray[np.bool_]:
    """Which hold together at the level."""
    order = np.argsort(chances, kind="stable")
    holds = chances[order] * (len(chances) - np.arange(len(chances))) <= LEVEL
    found = np.zeros(len(chances), bool)
    found[order] = np.logical_and.accumulate(holds)
    return found


def _described(s: Slice, losses: Array, chance: float) -> dict[str, Any]:
    own = losses[s.inside]
    return {
        "column": s.column,
        "slice": s.name,
        "rows": len(own),
        "loss": short(own.mean()),
        "error": short(own.std(ddof=1) / np.sqrt(len(own))),
        "rest": short(losses[~s.inside].mean()),
        "chance": short(chance),
    }
