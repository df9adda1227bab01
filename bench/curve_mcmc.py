"""The ensemble of Domhan, Springenberg, Hutter (IJCAI 2015) as they run it, by a Markov chain, to measure against.

A curve is the weighted sum of all families plus white noise; weights, parameters and noise are sampled together by
the affine-invariant ensemble sampler (Goodman, Weare, CAMCoS 2010), from a start at the least-squares fits. Prior: even
within bounds, with the last value above the first, and below the upper bound of the values. All curves at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nasfast.estimators.curves.families import Family, Floats, family
from nasfast.estimators.curves.fit import fit_family
from nasfast.estimators.curves.prediction import Prediction

_STRETCH = 2.0
_LOG_NOISE = (-12.0, -1.0)
_KEPT = 256

LogDensity = Callable[[Floats], Floats]


def sample(log_density: LogDensity, start: Floats, steps: int, keep: int, seed: int) -> Floats:
    """Stretch moves of many independent ensembles at once.

    Args:
        log_density: Of points [K, W, P]: [K, W].
        start: [K, W, P], W even.
        steps: Moves of every walker; the last half is kept.
        keep: Points to return, of each ensemble.

    Returns:
        float64 [K, keep, P].
    """
    generator = np.random.default_rng(seed)
    walkers, dimension = start.shape[1], start.shape[2]
    halves = [start[:, : walkers // 2].copy(), start[:, walkers // 2 :].copy()]
    logs = [log_density(half) for half in halves]
    kept = []
    every = max(1, (steps - steps // 2) * walkers // keep)
    for step in range(steps):
        for mine, other in ((0, 1), (1, 0)):
            shape = logs[mine].shape
            z = ((_STRETCH - 1) * generator.random(shape) + 1) ** 2 / _STRETCH
            partner = generator.integers(shape[1], size=shape)
            anchor = np.take_along_axis(halves[other], partner[..., None], 1)
            moved = anchor + z[..., None] * (halves[mine] - anchor)
            new = log_density(moved)
            accept = np.log(generator.random(shape)) < (dimension - 1) * np.log(z) + new - logs[mine]
            halves[mine] = np.where(accept[..., None], moved, halves[mine])
            logs[mine] = np.where(accept, new, logs[mine])
        if step >= steps // 2:
            kept.append(np.concatenate(halves, 1))
    return np.concatenate(kept, 1)[:, ::every][:, :keep]


class WeightedFamilies:
    """Points are, one after the other: of each family its weight and its free parameters; last, the noise's log."""

    def __init__(self, names: tuple[str, ...], curves: Floats, horizon: float) -> None:
        self.families = [family(name) for name in names]
        self.curves, self.times, self.horizon = curves, np.arange(1.0, curves.shape[1] + 1), horizon
        self.fits = [fit_family(name, curves, self.times, horizon) for name in names]
        self.bounds = [f.bounds(horizon) for f in self.families]

    def start(self, walkers: int, seed: int) -> Floats:
        """Around the fits, weights by their error."""
        generator = np.random.default_rng(seed)
        accuracy = np.stack([1 / (fit.error**2 + 1e-8) for fit in self.fits], 1)
        weights = accuracy / accuracy.sum(1, keepdims=True)
        parts = []
        for i, fit in enumerate(self.fits):
            parts += [weights[:, i : i + 1], fit.parameters[:, self._free(fit.family)]]
        noise = np.log(np.min([fit.error for fit in self.fits], 0) + 1e-4)
        centre = np.concatenate([*parts, noise[:, None]], 1)[:, None]
        spread = np.abs(centre) * 1e-3 + 1e-6
        points = centre + spread * generator.standard_normal((len(centre), walkers, centre.shape[-1]))
        at = 0
        for f, (low, high) in zip(self.families, self.bounds, strict=True):
            points[..., at] = np.abs(points[..., at])
            at += 1 + len(self._free(f))
            where = slice(at - len(low), at)
            points[..., where] = np.clip(points[..., where], low + 1e-9, high - 1e-9)
        return points

    def log_density(self, points: Floats) -> Floats:
        times = np.concatenate([self.times, [self.horizon]])
        value, inside = self.value(points, times)
        noise = points[..., -1]
        residual = value[..., :-1] - self.curves[:, None]
        seen = ~np.isnan(self.curves)[:, None]
        error = np.where(seen, residual, 0.0) ** 2
        rises = (value[..., -1] > value[..., 0]) & (value[..., -1] < 1)
        plausible = (noise > _LOG_NOISE[0]) & (noise < _LOG_NOISE[1])
        log = -0.5 * error.sum(-1) * np.exp(-2 * noise) - seen.sum(-1) * noise
        return np.where(inside & rises & plausible & np.isfinite(log), log, -np.inf)

    def value(self, points: Floats, times: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Curves [K, W, T] at points [K, W, P], and whether each is within bounds [K, W]."""
        flat = points.reshape(-1, points.shape[-1])
        total, weights = np.zeros((len(flat), len(times))), np.zeros(len(flat))
        inside, at = np.ones(len(flat), bool), 0
        for f, (low, high) in zip(self.families, self.bounds, strict=True):
            free = self._free(f)
            weight = flat[:, at]
            parameters = np.tile([0.0, 1.0, *low], (len(flat), 1))
            parameters[:, free] = flat[:, at + 1 : at + 1 + len(free)]
            at += 1 + len(free)
            inside &= (weight >= 0) & (parameters[:, 2:] >= low).all(1) & (parameters[:, 2:] <= high).all(1)
            parameters[:, 2:] = np.clip(parameters[:, 2:], low, high)
            total += weight[:, None] * f.value(times, parameters)
            weights += weight
        total /= np.where(inside, weights, 1.0)[:, None]
        return total.reshape(*points.shape[:2], -1), inside.reshape(points.shape[:2])

    @staticmethod
    def _free(f: Family) -> list[int]:
        fixed = {"scale": 0, "shift": 1, "affine": -1}[f.kind]
        return [i for i in range(2 + len(f.theta)) if i != fixed]


def extrapolate(
    names: tuple[str, ...],
    curves: Floats,
    horizon: float,
    steps: int,
    walkers: int = 100,
    seed: int = 0,
) -> Prediction:
    """Distributions of the values of curves [K, T], seen at epochs 1 ... T, at the horizon."""
    model = WeightedFamilies(names, curves, horizon)
    points = sample(model.log_density, model.start(walkers, seed), steps, _KEPT, seed)
    value, _ = model.value(points, np.array([horizon]))
    return Prediction(value[:, None, :, 0], np.exp(points[:, None, :, -1]))
