"""Draws from the posterior of curves, each with what is left normal: the components of a prediction."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaincinv, ndtr, ndtri

from nasfast.estimators.curves.families import Floats
from nasfast.estimators.curves.posterior import Atoms, Posterior
from nasfast.estimators.curves.seen import Seen

SURPRISES = 1 / 16
"""Share of draws that are surprises, before it is learned: curves do leave their family for good, by a jump or ..."""
SURPRISE_SCALE = 0.1
"""... a collapse, and then are normal with this standard deviation at least, in units of the bounds' span."""

_STEPS = (0.7548776662466927, 0.5698402909980532)  # of the R2 sequence, whose points fill a square evenly
_CLOSE = 1e-15
_TINY = 1e-30


def draw(
    seen: Seen, posterior: Posterior, atoms: Atoms, weights: Floats, surprise: float, targets: Floats, draws: int,
    seed: int,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Centres and scales of ``draws`` equally likely components of the values at targets: float64 [K, M, S] each.

    Atoms are drawn by their weight, systematically; the noise's variance and b by their quantiles at the points of an
    even sequence, shifted by the seed. Given these, a, the drift and the noise at the target are normal.

    Args:
        weights: Prior weights of the atoms, [N].
        surprise: Share of draws that are surprises; one of them is, at least.
        targets: Times, [M].
    """
    rows = np.arange(len(seen.values))[:, None]
    model, shape = np.divmod(_pick(posterior, weights, draws), len(atoms.family_of_shape))  # [K, S]
    at = (rows, model, shape)
    moved = np.arange(draws)[:, None] * np.array(_STEPS) + np.random.default_rng(seed).random(2)
    for_noise, for_slope = (np.clip(moved % 1.0, 1e-9, 1 - 1e-9)).T
    noise = np.sqrt(posterior.rate[at] / gammaincinv(posterior.shape[at], for_noise))
    slope = _between(
        for_slope, posterior.slope[at], posterior.slope_scale[at] * noise, posterior.least[at], posterior.most[at]
    )
    level = posterior.level[at] - posterior.tilt[at] * (slope - posterior.slope[at])

    first, last = seen.times[0], seen.now
    to_targets = np.stack([m.drift(seen.times, targets, first, last) for m in atoms.noise])  # [R, n, M]
    at_targets = np.stack([np.diagonal(m.drift(targets, targets, first, last)) for m in atoms.noise])
    white = np.stack([m.white(targets, last) for m in atoms.noise])
    carried = posterior.precision @ to_targets  # [K, R, n, M]: how much of each residual the drift at a target keeps
    left = np.maximum(at_targets - np.einsum("krnm,rnm->krm", carried, to_targets), 0.0) + white
    carried, left = carried[rows, model], left[rows, model]  # [K, S, n, M], [K, S, M]

    g, g_targets = atoms.g(seen.times)[shape], atoms.g(targets)[shape]
    residual = seen.values[:, None] - level[..., None] - slope[..., None] * g
    centres = level[..., None] + slope[..., None] * g_targets + np.einsum("ksn,ksnm->ksm", residual, carried)
    of_level = posterior.level_scale[at][..., None] * (1 - carried.sum(2))
    scales = noise[..., None] * np.sqrt(of_level**2 + left)
    # Draws are in the order of the atoms: every so many of them is a sample of all.
    count = max(1, round(surprise * draws))
    surprised = ((np.arange(count) + 0.5) * draws / count).astype(int)
    scales[:, surprised] = np.maximum(scales[:, surprised], SURPRISE_SCALE)
    return np.moveaxis(centres, 1, 2), np.moveaxis(scales, 1, 2)


def _pick(posterior: Posterior, weights: Floats, draws: int) -> np.ndarray:
    """Indices of atoms, each as often as its posterior weight says, in ascending order: int64 [K, S]."""
    with np.errstate(divide="ignore"):
        log = posterior.evidence.reshape(len(posterior.evidence), -1) + np.log(weights)
    share = np.cumsum(np.exp(log - log.max(1, keepdims=True)), 1)
    share /= share[:, -1:]
    points = (np.arange(draws) + 0.5) / draws
    return np.stack([np.searchsorted(row, points) for row in share])


def _between(u: Floats, mean: Floats, std: Floats, least: Floats, most: Floats) -> Floats:
    """Quantiles u of a normal distribution that is cut off at both ends."""
    std = np.maximum(std, _TINY)
    with np.errstate(over="ignore"):
        low, high = ndtr((least - mean) / std), ndtr((most - mean) / std)
    value = mean + std * ndtri(np.clip(low + u * (high - low), _CLOSE, 1 - _CLOSE))
    return np.clip(value, least, most)
