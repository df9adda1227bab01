"""What is predicted: a distribution for every curve and target, a mixture of normal distributions."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp, ndtr, ndtri

from nasfast.errors import ConfigError, ShapeError
from nasfast.estimators.curves.families import Floats

_HALVINGS = 50
_CHUNK = 1 << 22  # elements of a temporary array


class Prediction:
    """Distributions of values not yet seen.

    Args:
        centres, scales: float64 [K, M, S]: mean and standard deviation of S equally likely components, for each of K
            curves and M targets.

    Attributes:
        centres, scales: The arguments.
    """

    def __init__(self, centres: Floats, scales: Floats) -> None:
        if centres.ndim != 3 or centres.shape != scales.shape:
            raise ShapeError(f"centres and scales must both be [K, M, S], got {centres.shape} and {scales.shape}")
        if not (np.isfinite(centres).all() and np.isfinite(scales).all() and (scales > 0).all()):
            raise ConfigError("centres must be finite, scales finite and positive")
        self.centres, self.scales = centres, scales

    @property
    def mean(self) -> Floats:
        """float64 [K, M]."""
        return self.centres.mean(-1)

    @property
    def std(self) -> Floats:
        """Standard deviation, float64 [K, M]."""
        return np.sqrt((self.scales**2).mean(-1) + self.centres.var(-1))

    @property
    def median(self) -> Floats:
        """float64 [K, M]."""
        return self.quantile(0.5)

    def quantile(self, q: float) -> Floats:
        """Value that is not exceeded with probability ``q``, 0 < q < 1: float64 [K, M].

        Raises:
            ConfigError: q is not between 0 and 1.
        """
        if not 0 < q < 1:
            raise ConfigError(f"q must be between 0 and 1, got {q}")
        # Each component's own quantile: the mixture's lies between the lowest and the highest of them.
        own = self.centres + self.scales * ndtri(q)
        low, high = own.min(-1), own.max(-1)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            below = self.cdf(middle) < q
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2

    def cdf(self, value: float | Floats) -> Floats:
        """Probability to be at most ``value`` (a number, or [K, M]): float64 [K, M]."""
        return ndtr(self._standard(value)).mean(-1)

    def probability_above(self, value: float | Floats) -> Floats:
        """Probability to exceed ``value`` (a number, or [K, M]): float64 [K, M]."""
        return ndtr(-self._standard(value)).mean(-1)

    def log_density(self, value: float | Floats) -> Floats:
        """Natural logarithm of the density at ``value`` (a number, or [K, M]): float64 [K, M]."""
        z = self._standard(value)
        return logsumexp(-0.5 * z**2 - np.log(self.scales) - 0.5 * np.log(2 * np.pi), -1) - np.log(z.shape[-1])

    def crps(self, value: float | Floats) -> Floats:
        """Continuous ranked probability score at ``value`` (a number, or [K, M]), less is better: float64 [K, M].

        E|X - value| - E|X - X'| / 2, in closed form (Grimit et al., Q. J. R. Meteorol. Soc. 2006).
        """
        first = _mean_absolute(self._broadcast(value) - self.centres, self.scales).mean(-1)
        second = np.empty_like(first)
        count = self.centres.shape[-1]
        flat, scale, out = self.centres.reshape(-1, count), self.scales.reshape(-1, count), second.reshape(-1)
        step = max(1, _CHUNK // count**2)
        for start in range(0, len(flat), step):
            part = slice(start, start + step)
            spread = np.sqrt(scale[part, :, None] ** 2 + scale[part, None, :] ** 2)
            out[part] = _mean_absolute(flat[part, :, None] - flat[part, None, :], spread).mean((-1, -2))
        return first - second / 2

    def _broadcast(self, value: float | Floats) -> Floats:
        array = np.asarray(value, float)
        if array.ndim and array.shape != self.centres.shape[:2]:
            raise ShapeError(f"value must be a number or {list(self.centres.shape[:2])}, got {list(array.shape)}")
        return array[..., None]

    def _standard(self, value: float | Floats) -> Floats:
        return (self._broadcast(value) - self.centres) / self.scales


def _mean_absolute(mean: Floats, std: Floats) -> Floats:
    """E|X| of a normal X."""
    z = mean / std
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return mean * (2 * ndtr(z) - 1) + 2 * std * density
