"""The posterior of curves over all families at once, in closed form but for a sum over a grid.

A curve is y(t) = a + b g(t; theta) + drift + noise (families.py, noise.py). Given theta and a noise model, a, b and the
noise's variance have a normal-inverse-gamma posterior, and the marginal likelihood is known. What is left, theta (two
numbers at most) and the choice of family and noise model, is summed over a grid: an *atom* is one noise model and one
*shape*, that is one family at one theta. Averaging over families (Domhan et al., IJCAI 2015) is the same sum, and
there is no chain to wait for. The sum is exact but for the grid, and for the bounds on b: their probability is taken
from a normal instead of a t distribution, and the upper one at the posterior mean of the last value seen.

Letters: K curves, n times, R noise models, J shapes, N = R J atoms, noise model by noise model. Prior: the values at
the first time and at the horizon even between the bounds, 0 and 1 here; f rising; noise variance inverse-gamma.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, ndtr

from nasfast.estimators.curves.families import Family, Floats
from nasfast.estimators.curves.noise import NoiseModel, precisions
from nasfast.estimators.curves.seen import Seen

NOISE_SHAPE, NOISE_SCALE = 1.0, 5e-3
"""Prior of the noise's variance, in units of the bounds' span: inverse-gamma of this shape, rate shape x scale^2."""

_LEAST_MASS = 1e-12
_LEAST_ROOM = 1e-3  # to the upper bound, for curves that noise has taken beyond it
_EPS = 1e-12
_TINY = 1e-300


@dataclass(frozen=True)
class Atoms:
    """The grid.

    Attributes:
        families: In order.
        theta: Of each family, float64 [J_f, D_f].
        noise: Noise models.
        horizon: Time at which the prior speaks of the value.
    """

    families: tuple[Family, ...]
    theta: tuple[Floats, ...]
    noise: tuple[NoiseModel, ...]
    horizon: float

    @classmethod
    def make(cls, families: tuple[Family, ...], noise: tuple[NoiseModel, ...], horizon: float) -> Atoms:
        return cls(families, tuple(family.grid(horizon) for family in families), noise, horizon)

    @property
    def family_of_shape(self) -> np.ndarray:
        """Index of each shape's family, int64 [J]."""
        return np.repeat(np.arange(len(self.families)), [len(part) for part in self.theta])

    def g(self, times: Floats) -> Floats:
        """Every shape at ``times`` [T]: float64 [J, T]."""
        return np.concatenate([f.g(times, theta) for f, theta in zip(self.families, self.theta, strict=True)])

    def even(self) -> Floats:
        """Prior weights that are even over noise models, over families, and within each: float64 [N]."""
        sizes = np.array([len(part) for part in self.theta])
        each = 1 / (len(self.noise) * len(self.families) * sizes[self.family_of_shape])
        return np.tile(each, len(self.noise))


@dataclass(frozen=True)
class Posterior:
    """What is known of K curves given each atom: float64 [K, R, J] but where said otherwise.

    Given the noise's variance v, b is normal around ``slope`` with standard deviation ``slope_scale`` sqrt(v), cut off
    below ``least`` and above ``most``; and given b, a is normal around level - tilt (b - slope), with ``level_scale``.

    Attributes:
        evidence: Log of the marginal likelihood.
        slope, slope_scale, least, most: Of b.
        level, tilt, level_scale: Of a.
        shape, rate: Of the inverse-gamma posterior of v.
        precision: Inverse covariance of drift and noise, in units of v: [K, R, n, n].
    """

    evidence: Floats
    slope: Floats
    slope_scale: Floats
    least: Floats
    most: Floats
    level: Floats
    tilt: Floats
    level_scale: Floats
    shape: Floats
    rate: Floats
    precision: Floats


def infer(seen: Seen, atoms: Atoms) -> Posterior:
    """The posterior of curves for every atom; values on the scale where the bounds are 0 and 1."""
    g, at_end = atoms.g(seen.times), atoms.g(np.array([atoms.horizon]))[:, 0]
    kind = np.array([family.kind for family in atoms.families])[atoms.family_of_shape]
    affine, scale, shift = kind == "affine", kind == "scale", kind == "shift"
    precision, log_det = precisions(seen, atoms.noise)
    there = (seen.counts > 0).astype(float)
    count = there.sum(1)[:, None, None]

    # Inner products under the precision: of 1, y and g.
    of_one = (precision @ there[:, None, :, None])[..., 0]  # [K, R, n]
    of_y = (precision @ seen.values[:, None, :, None])[..., 0]
    s11 = np.maximum((of_one * there[:, None]).sum(-1), _EPS)[..., None]
    s1y = (of_one * seen.values[:, None]).sum(-1)[..., None]
    syy = (of_y * seen.values[:, None]).sum(-1)[..., None]
    s1g, sgy, sgg = of_one @ g.T, of_y @ g.T, _quadratic(precision, g)

    # Affine: 1 is projected out of g and y. Scale: there is no 1. Shift: b is 1, and a alone is free.
    free_gg = np.maximum(sgg - np.where(scale, 0.0, s1g**2 / s11), _EPS * sgg + _TINY)
    free_gy = sgy - np.where(scale, 0.0, s1g * s1y / s11)
    free_yy = syy - np.where(scale, 0.0, s1y**2 / s11)
    slope = np.where(shift, 1.0, free_gy / free_gg)
    residual = np.maximum(free_yy + np.where(shift, free_gg - 2 * free_gy, -slope * free_gy), 0.0)
    level = np.where(scale, 0.0, (s1y - slope * s1g) / s11)

    free = np.where(affine, 2.0, 1.0)
    shape = NOISE_SHAPE + (count - free) / 2
    prior_rate = NOISE_SHAPE * NOISE_SCALE**2
    rate = prior_rate + residual / 2
    # Even in the values at both ends: in a and b, the density is the Jacobian of that change of variables.
    density = np.log(np.where(affine, at_end - g[:, 0], np.where(scale, np.abs(at_end), 1.0)) + _TINY)
    determinant = log_det[..., None] + np.where(scale, 0.0, np.log(s11)) + np.where(shift, 0.0, np.log(free_gg))
    evidence = density - 0.5 * determinant - shape * np.log(rate) + gammaln(shape)
    evidence += NOISE_SHAPE * np.log(prior_rate) - gammaln(NOISE_SHAPE) - 0.5 * (count - free) * np.log(2 * np.pi)

    # b > 0: the curve rises. And what it still gains, b (g_end - g_last), stays below the upper bound.
    slope_scale = np.where(shift, 0.0, 1 / np.sqrt(free_gg))
    room = np.maximum(1.0 - (level + slope * g[:, -1]), _LEAST_ROOM)
    ends = np.where(scale, 1 / np.maximum(np.abs(at_end), _EPS), room / np.maximum(at_end - g[:, -1], _EPS))
    least, most = np.where(shift, -np.inf, 0.0), np.where(shift, np.inf, ends)
    spread = np.maximum(slope_scale * np.sqrt(rate / shape), _TINY)
    with np.errstate(over="ignore"):  # an infinite number of standard deviations away is what is meant
        mass = ndtr((most - slope) / spread) - ndtr((least - slope) / spread)
    evidence += np.log(np.maximum(mass, _LEAST_MASS))

    whole = evidence.shape
    return Posterior(
        evidence, slope, slope_scale, np.broadcast_to(least, whole), most, level, np.where(affine, s1g / s11, 0.0),
        np.where(scale, 0.0, 1 / np.sqrt(s11)) + np.zeros(whole), np.broadcast_to(shape, whole), rate, precision,
    )  # fmt: skip


def _quadratic(precision: Floats, g: Floats) -> Floats:
    """g' P g for every curve, noise model and shape: [K, R, J]; one matrix product over the upper triangles."""
    i, j = np.triu_indices(g.shape[1])
    products = g[:, i] * g[:, j] * np.where(i == j, 1.0, 2.0)
    upper = precision[..., i, j]
    return (upper.reshape(-1, len(i)) @ products.T).reshape(*upper.shape[:-1], len(g))
