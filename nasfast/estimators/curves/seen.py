"""Curves as they are seen: checks, dips left out, dense times gathered in bins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nasfast.errors import ConfigError, DataError, ShapeError
from nasfast.estimators.curves import FEWEST
from nasfast.estimators.curves.families import Floats

CHUNK = 32
"""Curves at a time, to bound the memory."""

_MOST_BINS = 32
_WINDOW = 2  # neighbours on each side of a running median
_DIP = 4.0  # robust standard deviations below it
_NORMAL_MAD = 1.4826  # standard deviations of a normal distribution in its median absolute deviation


@dataclass(frozen=True)
class Seen:
    """Curves in bins, on a scale where the bounds of the values are 0 and 1.

    Attributes:
        times: float64 [n], of the bins.
        values: float64 [K, n], means; 0 where a bin is empty.
        counts: float64 [K, n], values in each bin.
        now: Time that the variance of the noise is relative to: how far the curves are known.
    """

    times: Floats
    values: Floats
    counts: Floats
    now: float

    def chunks(self, size: int = CHUNK) -> Iterator[Seen]:
        """So many curves at a time, in order."""
        for start in range(0, len(self.values), size):
            part = slice(start, start + size)
            yield Seen(self.times, self.values[part], self.counts[part], self.now)

    def followed_by(self, time: float, values: Floats) -> Seen:
        """With one value [K] more at a later time; ``now`` stays."""
        ones = np.ones(len(values))
        return Seen(
            np.append(self.times, time),
            np.column_stack([self.values, values]),
            np.column_stack([self.counts, ones]),
            self.now,
        )


def check_curves(curves: Floats, times: Floats | None, fewest: int = FEWEST) -> tuple[Floats, Floats]:
    """Curves float64 [K, T] and their times [T], 1 ... T by default.

    Raises:
        ShapeError, DataError: What was given is not that, or a curve has too few values.
    """
    curves = np.asarray(curves, float)
    if curves.ndim != 2:
        raise ShapeError(f"curves must be [K, T], got shape {list(curves.shape)}")
    times = np.arange(1.0, curves.shape[1] + 1) if times is None else np.asarray(times, float)
    if times.shape != (curves.shape[1],):
        raise ShapeError(f"times must be [{curves.shape[1]}], one for each column of curves, got {list(times.shape)}")
    if not (np.isfinite(times).all() and (times > 0).all() and (np.diff(times) > 0).all()):
        raise DataError("times must be positive, finite and increasing")
    if np.isinf(curves).any():
        raise DataError(
            f"curve {int(np.isinf(curves).any(1).argmax())} has an infinite value; expected numbers, or NaN"
        )
    few = (~np.isnan(curves)).sum(1) < fewest
    if few.any():
        worst = int(few.argmax())
        count = int((~np.isnan(curves[worst])).sum())
        raise DataError(f"curve {worst} has {count} values that are not NaN, expected at least {fewest}")
    return curves, times


def check_bounds(bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds
    if not (np.isfinite([low, high]).all() and low < high):
        raise ConfigError(f"bounds must be two finite numbers, the lower first, got {bounds}")
    return float(low), float(high)


def dips(curves: Floats) -> np.ndarray:
    """Where curves [K, T] fall out of line for a moment: bool [K, T].

    A cyclic learning rate makes an accuracy fall and recover every few epochs. Such values say little of where the
    curve goes, and there are too many of them to be noise. A dip lies below the median of its neighbours (two seen ones
    on each side) by more than four robust standard deviations of the curve around that median, and as far below the
    higher of the two before it: where a curve just rises, values are lower than what follows, not than what was before.
    """
    found = np.zeros(curves.shape, bool)
    seen = ~np.isnan(curves)
    # Curves with the same values missing are one array without gaps.
    patterns, which = np.unique(seen, axis=0, return_inverse=True)
    for i, pattern in enumerate(patterns):
        rows = np.flatnonzero(which.ravel() == i)
        columns = np.flatnonzero(pattern)
        found[np.ix_(rows, columns)] = _dips(curves[np.ix_(rows, columns)])
    return found


def _dips(curves: Floats) -> np.ndarray:
    count = curves.shape[1]
    if count < 2 * _WINDOW + 1:
        return np.zeros(curves.shape, bool)
    padded = np.pad(curves, ((0, 0), (_WINDOW, _WINDOW)), mode="constant", constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * _WINDOW + 1, axis=1)
    middle = np.nanmedian(around, -1)
    off = curves - middle
    scale = _NORMAL_MAD * np.median(np.abs(off), 1, keepdims=True)
    # A rising curve's end lies above the median of what is before it, and its start below that of what comes after.
    earlier = np.nanmax(around[:, :, :_WINDOW], -1, initial=-np.inf, where=~np.isnan(around[:, :, :_WINDOW]))
    return (off < -_DIP * scale) & (curves < earlier - _DIP * scale)


def gather(curves: Floats, times: Floats) -> Seen:
    """Curves [K, T] without their dips, in bins."""
    return bin_curves(np.where(dips(curves), np.nan, curves), times, _MOST_BINS)


def bin_curves(curves: Floats, times: Floats, most: int) -> Seen:
    """Means over bins that are even in the logarithm of time, at most ``most``; single values where times are few."""
    edges = times[:1]
    if len(times) <= most:
        index = np.arange(len(times))
    else:
        edges = np.geomspace(times[0], times[-1] * (1 + 1e-12), _bins_wanted(times, most) + 1)
        _, index = np.unique(np.searchsorted(edges, times, side="right"), return_inverse=True)
    count = int(index.max()) + 1
    member = (index[:, None] == np.arange(count)).astype(float)  # [T, n]
    seen = ~np.isnan(curves)
    counts = seen @ member
    sums = np.where(seen, curves, 0.0) @ member
    centres = np.exp((np.log(times) @ member) / member.sum(0))
    return Seen(centres, sums / np.maximum(counts, 1), counts, float(centres[-1]))


def _bins_wanted(times: Floats, most: int) -> int:
    """Even bins whose number of non-empty ones is as near to ``most`` as can be, from below."""
    wanted = most
    for tried in range(most, 8 * most):
        edges = np.geomspace(times[0], times[-1] * (1 + 1e-12), tried + 1)
        if len(np.unique(np.searchsorted(edges, times, side="right"))) > most:
            break
        wanted = tried
    return wanted
