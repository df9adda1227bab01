"""How curves leave their family: white noise, and a drift that does not come back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasfast.estimators.curves.families import Floats
from nasfast.estimators.curves.seen import Seen


@dataclass(frozen=True)
class NoiseModel:
    """Covariance of what a family leaves over, in units of the noise's variance now, at the last time seen, t_last.

    White noise has the variance (t / t_last)^-decay. The drift is a Brownian motion in log t whose variance grows at
    ``ratio`` times that rate: no family is right, and the further away, the less. Where ``ratio`` is large, the family
    is a slope to go on with from the last values seen; where it is 0, all values count alike.
    """

    ratio: float
    decay: float

    def white(self, times: Floats, last: float) -> Floats:
        """Variance of the noise at ``times``: the same shape."""
        return (times / last) ** -self.decay

    def drift(self, times: Floats, others: Floats, first: float, last: float) -> Floats:
        """Covariance of the drift, 0 at time ``first``, between ``times`` [n] and ``others`` [m]: float64 [n, m]."""
        earlier = np.minimum(times[:, None], others[None, :])
        return self.ratio * np.maximum(self._clock(earlier, last) - self._clock(np.array(first), last), 0.0)

    def _clock(self, times: Floats, last: float) -> Floats:
        """Integral of the rate over log t."""
        return np.log(times) if self.decay == 0 else -((times / last) ** -self.decay) / self.decay


NOISE_MODELS = tuple(NoiseModel(ratio, decay) for decay in (0.0, 1.0) for ratio in (0.0, 0.3, 3.0, 30.0))
"""Those that the posterior is summed over."""


def precisions(seen: Seen, models: tuple[NoiseModel, ...]) -> tuple[Floats, Floats]:
    """Inverses of the covariances over the bins of ``seen``, zero where nothing is seen: float64 [K, R, n, n].

    Also their log-determinants [K, R]. A bin of c values has a c-th of the noise's variance.
    """
    times, now, there = seen.times, seen.now, seen.counts > 0
    both = there[:, :, None] & there[:, None, :]
    drifts = np.stack([model.drift(times, times, times[0], now) for model in models])
    whites = np.stack([model.white(times, now) for model in models])
    covariance = np.where(both[:, None], drifts, 0.0)
    index = np.arange(len(times))
    covariance[..., index, index] += np.where(there, 1 / np.maximum(seen.counts, 1), 0.0)[:, None] * whites
    covariance[..., index, index] += np.where(there, 0.0, 1.0)[:, None]
    return np.where(both[:, None], np.linalg.inv(covariance), 0.0), np.linalg.slogdet(covariance)[1]
