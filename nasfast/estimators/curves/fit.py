"""Least-squares fits of one family to many curves at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasfast.errors import ConfigError
from nasfast.estimators.curves.families import Family, Floats
from nasfast.estimators.curves.families import family as family_of
from nasfast.estimators.curves.seen import check_curves

_STEPS = 60
_LEAST_GAIN = 1e-10  # relative fall of the error at which a curve is done
_EPS = 1e-12


@dataclass(frozen=True)
class Fit:
    """Fitted curves.

    Attributes:
        family: What was fitted.
        parameters: float64 [K, 2 + D]: a, b and theta of y = a + b g(t; theta).
        error: Root mean square residual, float64 [K].
    """

    family: Family
    parameters: Floats
    error: Floats

    def value(self, times: Floats) -> Floats:
        """The fitted curves at ``times`` [T]: float64 [K, T]."""
        return self.family.value(np.atleast_1d(np.asarray(times, float)), self.parameters)


def fit_family(name: str, curves: Floats, times: Floats | None = None, horizon: float | None = None) -> Fit:
    """Fit a family to curves [K, T], NaN where nothing is known.

    Variable projection (Golub, Pereyra, SIAM J. Numer. Anal. 1973): a and b have a closed form for every theta, so that
    Levenberg-Marquardt walks over theta alone, with Kaufman's Jacobian, for all curves at once; it starts at the best
    point of a grid and stays within the family's bounds.

    Args:
        times: float64 [T], positive and increasing; 1 ... T by default.
        horizon: Time up to which the curves matter, which bounds the parameters with the unit of time; by default, the
            last of ``times``.

    Raises:
        ConfigError: No such family, or a horizon before the first time.
        ShapeError, DataError: Curves or times are malformed, or a curve has fewer than three values.
    """
    curves, times = check_curves(curves, times)
    horizon = float(times[-1]) if horizon is None else float(horizon)
    if not (np.isfinite(horizon) and horizon >= times[0]):
        raise ConfigError(f"horizon must be finite and at least the first time, {times[0]:g}, got {horizon}")
    problem = _Problem(family_of(name), curves, times)
    low, high = problem.family.bounds(horizon)
    theta = problem.best_of(problem.family.grid(horizon))
    if theta.shape[1]:
        theta = _levenberg_marquardt(problem, theta, low, high)
    a, b, residual = problem.project(theta)
    error = np.sqrt((residual**2).sum(1) / problem.seen.sum(1))
    return Fit(problem.family, np.concatenate([a[:, None], b[:, None], theta], 1), error)


class _Problem:
    """Curves and their family, with the linear parameters solved for."""

    def __init__(self, family: Family, curves: Floats, times: Floats) -> None:
        self.family, self.times = family, times
        self.seen = (~np.isnan(curves)).astype(float)
        self.values = np.where(self.seen > 0, curves, 0.0)

    def best_of(self, grid: Floats) -> Floats:
        """The point of a grid [N, D] that fits each curve best: [K, D]."""
        g = self.family.g(self.times, grid)
        y, w = self.values, self.seen
        count, sy = w.sum(1)[:, None], y.sum(1)[:, None]
        sg, sgg, sgy = w @ g.T, w @ (g**2).T, y @ g.T
        if self.family.kind == "scale":
            error = -(sgy**2) / np.maximum(sgg, _EPS)
        elif self.family.kind == "shift":
            error = sgg - 2 * sgy - (sg - sy) ** 2 / count
        else:
            spread = sgg - sg**2 / count
            error = -((sgy - sg * sy / count) ** 2) / np.maximum(spread, _EPS * sgg + _EPS)
        return grid[error.argmin(1)]

    def project(self, theta: Floats) -> tuple[Floats, Floats, Floats]:
        """Best a [K] and b [K] for theta [K, D], and the residuals [K, T], zero where nothing is seen."""
        g, count = self.family.g(self.times, theta) * self.seen, self.seen.sum(1)
        if self.family.kind == "scale":
            a = np.zeros(len(g))
            b = (g * self.values).sum(1) / np.maximum((g * g).sum(1), _EPS)
        elif self.family.kind == "shift":
            b = np.ones(len(g))
            a = (self.values - g).sum(1) / count
        else:
            centred = (g - (g.sum(1) / count)[:, None]) * self.seen
            b = (centred * self.values).sum(1) / np.maximum((centred**2).sum(1), _EPS)
            a = (self.values.sum(1) - b * g.sum(1)) / count
        return a, b, (self.values - a[:, None] - b[:, None] * g) * self.seen

    def slopes(self, theta: Floats, b: Floats) -> Floats:
        """Derivative of the model by theta with the part that a and b can follow taken out (Kaufman): [K, T, D]."""
        seen = self.seen[..., None]
        slope = b[:, None, None] * self.family.dg(self.times, theta) * seen
        basis = [] if self.family.kind == "scale" else [self.seen]
        if self.family.kind != "shift":
            g = self.family.g(self.times, theta) * self.seen
            if basis:
                g = (g - (g.sum(1) / self.seen.sum(1))[:, None]) * self.seen
            basis.append(g)
        for direction in basis:
            share = np.einsum("kt,ktd->kd", direction, slope) / np.maximum((direction**2).sum(1), _EPS)[:, None]
            slope = slope - direction[..., None] * share[:, None]
        return slope


def _levenberg_marquardt(problem: _Problem, theta: Floats, low: Floats, high: Floats) -> Floats:
    """Every curve takes its own steps, with its own damping, until none of them gains."""
    _, b, residual = problem.project(theta)
    error = (residual**2).sum(1)
    damping = np.full(len(theta), 1e-3)
    stalled = np.zeros(len(theta), int)
    for _ in range(_STEPS):
        slope = problem.slopes(theta, b)
        normal = np.einsum("ktd,kte->kde", slope, slope)
        push = np.einsum("ktd,kt->kd", slope, residual)
        # At a bound, a parameter that is pushed outwards stays: the others move as if it were no parameter.
        fixed = ((theta <= low) & (push < 0)) | ((theta >= high) & (push > 0))
        push = np.where(fixed, 0.0, push)
        normal = np.where(fixed[:, :, None] | fixed[:, None, :], 0.0, normal)
        index = np.arange(theta.shape[1])
        diagonal = normal[:, index, index]
        normal[:, index, index] = diagonal * (1 + damping[:, None]) + np.where(fixed | (diagonal <= 0), 1.0, 0.0)
        tried = np.clip(theta + np.linalg.solve(normal, push[..., None])[..., 0], low, high)
        _, tried_b, tried_residual = problem.project(tried)
        tried_error = (tried_residual**2).sum(1)
        better = tried_error < error
        stalled = np.where(better & (error - tried_error > _LEAST_GAIN * error), 0, stalled + 1)
        theta = np.where(better[:, None], tried, theta)
        b, residual = np.where(better, tried_b, b), np.where(better[:, None], tried_residual, residual)
        error = np.where(better, tried_error, error)
        damping = np.clip(np.where(better, damping / 5, damping * 5), 1e-9, 1e9)
        if (stalled > 8).all():
            break
    return theta
