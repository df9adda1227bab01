"""Learning the prior over curves from finished ones: what would have foreseen how they end.

The weights w of the atoms (posterior.py) and the share of surprises e (draws.py) maximise the density of each curve's
end y given its first part x, which for one part is

    p(y | x) = (1 - e) sum_j w_j p_j(x, y) / sum_j w_j p_j(x) + e s(y)

with p_j the marginal likelihoods of atom j. The marginal likelihood of whole curves, sum_j w_j p_j(x, y), is not the
aim: most of it is earned where a curve is dense in values, and families that follow these well extrapolate badly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasfast.estimators.curves import FEWEST
from nasfast.estimators.curves.draws import SURPRISE_SCALE
from nasfast.estimators.curves.families import Floats
from nasfast.estimators.curves.posterior import Atoms, Posterior, infer
from nasfast.estimators.curves.seen import CHUNK, gather

PARTS = (0.1, 0.2, 0.3, 0.5, 0.7)
"""Shares of a finished curve that its end is foreseen from."""

_ROUNDS = 100
_LARGEST = 60.0  # exponent: a float32 holds it, and sums of many
_LEAST = np.float32(1e-30)  # of what is divided by
_LOW, _HIGH = -0.05, 1.05  # where the middle of a surprise lies; the bounds are 0 and 1

Singles = NDArray[np.float32]


@dataclass(frozen=True)
class Foreseen:
    """What each atom says of the ends of P parts of curves.

    Attributes:
        part: Marginal likelihood of the part, float32 [P, N], each row up to a factor.
        whole: Of the part and the end together, float32 [P, N], up to the same factors.
        surprise: Density of the end if it is a surprise, float32 [P].
        count: What the part counts for, float32 [P]: those of one curve are one together.
        curve: Which curve it is of, int64 [P].
    """

    part: Singles
    whole: Singles
    surprise: Singles
    count: Singles
    curve: NDArray[np.int64]

    @classmethod
    def join(cls, found: list[Foreseen]) -> Foreseen:
        """All parts of several collections of curves, which stay different curves."""
        starts = np.cumsum([0, *(int(each.curve.max(initial=-1)) + 1 for each in found)])
        return cls(
            np.concatenate([each.part for each in found]),
            np.concatenate([each.whole for each in found]),
            np.concatenate([each.surprise for each in found]),
            np.concatenate([each.count for each in found]),
            np.concatenate([each.curve + start for each, start in zip(found, starts[:-1], strict=True)]),
        )

    def of(self, rows: np.ndarray) -> Foreseen:
        """Only the parts where ``rows`` [P] holds."""
        return Foreseen(self.part[rows], self.whole[rows], self.surprise[rows], self.count[rows], self.curve[rows])


def foresee(curves: Floats, times: Floats, atoms: Atoms, weights: Floats) -> Foreseen:
    """Look at curves [K, T], on a scale where the bounds are 0 and 1, as if only a first part of them were known.

    A curve ends with its last value that is not NaN. ``weights`` [N] say around what a surprise is.
    """
    size = len(weights)
    parts, wholes, surprises, owners = [], [], [], []
    for rows, seen_columns, last in _parts(curves):
        ends = curves[rows, last]
        seen = gather(curves[rows, :seen_columns], times[:seen_columns])
        for chunk, ends_of_chunk in zip(seen.chunks(), _split(ends, CHUNK), strict=True):
            before = infer(chunk, atoms)
            after = infer(chunk.followed_by(times[last], ends_of_chunk), atoms)
            log = before.evidence.reshape(-1, size)
            most = log.max(1, keepdims=True)
            part = np.exp(log - most)
            parts.append(part.astype(np.float32))
            log_whole = after.evidence.reshape(-1, size) - most
            wholes.append(np.exp(np.minimum(log_whole, _LARGEST)).astype(np.float32))
            middle = _mean(before, atoms, times[last]).reshape(-1, size)
            centre = ((part * middle) @ weights) / np.maximum(part @ weights, _LEAST)
            z = (ends_of_chunk - centre) / SURPRISE_SCALE
            surprises.append(np.exp(-0.5 * z**2) / (SURPRISE_SCALE * np.sqrt(2 * np.pi)))
        owners.append(rows)
    owner = np.concatenate([np.zeros(0, np.int64), *owners])
    count = 1 / np.maximum(np.bincount(owner, minlength=len(curves)), 1)
    empty = np.zeros((0, size), np.float32)
    return Foreseen(
        np.concatenate([empty, *parts]), np.concatenate([empty, *wholes]),
        np.concatenate([np.zeros(0), *surprises]).astype(np.float32), count[owner].astype(np.float32), owner,
    )  # fmt: skip


def learn(found: Foreseen, weights: Floats, surprise: float, smoothing: float) -> tuple[Floats, float]:
    """Weights and share of surprises that foresee best; those so far count as ``smoothing`` curves more.

    A curve that the weights have learned from surprises them less than another one: the share of surprises is learned
    by cross-fitting, from each half of the curves with the weights that the other half teaches.
    """
    first = found.curve <= found.curve.max() // 2
    densities = np.concatenate([
        _density(found.of(other), learn_weights(found.of(half), weights, surprise, smoothing))
        for half, other in ((first, ~first), (~first, first))
    ])  # fmt: skip
    own, count = (np.concatenate([of[~first], of[first]]).astype(float) for of in (found.surprise, found.count))
    share = surprise
    for _ in range(_ROUNDS):
        of_surprises = share * own / (share * own + (1 - share) * densities)
        share = float((count @ of_surprises + smoothing * surprise) / (count.sum() + smoothing))
    return learn_weights(found, weights, share, smoothing), share


def learn_weights(found: Foreseen, weights: Floats, surprise: float, smoothing: float) -> Floats:
    """Weights [N] that foresee best at a given share of surprises.

    Each round maximises a lower bound that touches the log density at the weights so far: Jensen's inequality for the
    sum of what agrees with the end, the tangent for the sum it is divided by. No round makes it worse.
    """
    prior = weights.astype(np.float32)
    now = prior
    for _ in range(_ROUNDS):
        part, whole = np.maximum(found.part @ now, _LEAST), found.whole @ now
        density = np.maximum((1 - surprise) * whole + surprise * found.surprise * part, _LEAST)
        gained = found.whole.T @ (found.count * np.float32(1 - surprise) / density)
        gained += found.part.T @ (found.count * np.float32(surprise) * found.surprise / density)
        spent = found.part.T @ (found.count / part)
        now = (now * gained + np.float32(smoothing) * prior) / (spent + np.float32(smoothing))
        now /= now.sum()
    return now.astype(float) / now.sum(dtype=float)


def _density(found: Foreseen, weights: Floats) -> Floats:
    """Of the ends if they are no surprises: float64 [P]."""
    single = weights.astype(np.float32)
    part = np.maximum(found.part @ single, _LEAST)
    return np.maximum((found.whole @ single) / part, _LEAST).astype(float)


def _parts(curves: Floats) -> Iterator[tuple[np.ndarray, int, int]]:
    """Rows of curves, how many columns of them are taken as seen, and the column of their end.

    A curve with too few values in all PARTS of it is taken as seen up to its end: each with four values has one part.
    """
    known = ~np.isnan(curves)
    lasts = curves.shape[1] - 1 - known[:, ::-1].argmax(1)
    for last in np.unique(lasts).tolist():
        left = lasts == last
        counts = {min(last, max(FEWEST, round(share * (last + 1)))) for share in PARTS}
        for count in sorted(counts):
            rows = np.flatnonzero((lasts == last) & (known[:, :count].sum(1) >= FEWEST))
            left[rows] = False
            if len(rows):
                yield rows, count, last
        if left.any():
            yield np.flatnonzero(left), last, last


def _mean(posterior: Posterior, atoms: Atoms, time: float) -> Floats:
    """What each atom expects at a time, without its drift, kept near the bounds: [K, R, J]."""
    g = atoms.g(np.array([time]))[:, 0]
    slope = np.clip(posterior.slope, posterior.least, posterior.most)
    level = posterior.level - posterior.tilt * (slope - posterior.slope)
    return np.clip(level + slope * g, _LOW, _HIGH)


def _split(values: Floats, size: int) -> Iterator[Floats]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
