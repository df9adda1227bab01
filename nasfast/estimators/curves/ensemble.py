"""Extrapolation of learning curves by an ensemble of parametric families, with its uncertainty."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

from nasfast.errors import ConfigError, DataError
from nasfast.estimators.curves import FEWEST
from nasfast.estimators.curves.draws import SURPRISES, draw
from nasfast.estimators.curves.families import DISTINCT, FAMILIES, Floats, family
from nasfast.estimators.curves.learning import Foreseen, foresee, learn
from nasfast.estimators.curves.noise import NOISE_MODELS
from nasfast.estimators.curves.posterior import Atoms, infer
from nasfast.estimators.curves.prediction import Prediction
from nasfast.estimators.curves.seen import Seen, check_bounds, check_curves, gather

PRIOR = Path(__file__).parent / "prior.npz"
"""What ``CurveEnsemble`` starts with: the atoms' weights, of each family of DISTINCT by name, float [R, J_f]; and the
share of surprises."""

_SURPRISE = "surprise"  # its name in that file
_SLACK = 0.05  # of the bounds' span: a value may lie that far outside

Group = tuple[Floats, Floats | None]
"""Curves [K, T] and their times [T]; None for 1 ... T."""


class CurveEnsemble:
    """Predicts how curves that were seen up to some time go on.

    Families, their parameters, the noise and a drift away from the family are averaged by their posterior probability
    (posterior.py), in the line of Domhan, Springenberg, Hutter, IJCAI 2015, but summed on a grid with everything linear
    in closed form, where they run a Markov chain for every curve. The prior over shapes is learned from finished
    curves, as Klein, Falkner, Springenberg, Hutter, "Learning Curve Prediction with Bayesian Neural Networks", ICLR
    2017, learn theirs in a network: from half of LCDB to start with, and from a user's own by :meth:`learn`. What is
    learned is to foresee the end of a curve, not to describe all of it (learning.py).

    Momentary dips, as a cyclic learning rate makes them, are left out, and not predicted (seen.py). A curve is assumed
    to rise to a bound, as accuracy does; of an error or a loss, give the negative. A prediction does not depend on the
    other curves that are asked for together with it, nor, but for rounding, on the unit of the values.

    Args:
        families: Names, of nasfast.estimators.curves.FAMILIES.
        bounds: Lowest and highest value that a curve can have; (0, 1) for accuracy.
        prior: "learned" from half of LCDB (Mohr et al., ECML 2022), or "even" over families and their parameters.
        draws: Components of a prediction.
        seed: Of the draws. The same seed gives the same bits.

    Raises:
        ConfigError: An argument is not of that kind.
    """

    def __init__(
        self,
        families: Sequence[str] = DISTINCT,
        bounds: tuple[float, float] = (0.0, 1.0),
        prior: str = "learned",
        draws: int = 256,
        seed: int = 0,
    ) -> None:
        if isinstance(families, str) or not families or len(set(families)) != len(families):
            raise ConfigError(f"families must be one or more different names, got {families!r}")
        if draws < 2:
            raise ConfigError(f"draws must be at least 2, got {draws}")
        self.families = tuple(family(name) for name in families)
        self.bounds, self.draws, self.seed = check_bounds(bounds), draws, seed
        self.weights, self.surprise = self._start(prior)

    def learn(self, curves: Floats, times: Floats | None = None, smoothing: float = 5.0) -> CurveEnsemble:
        """Learn the prior from finished curves [K, T], seen up to the horizon; see :meth:`learn_groups`."""
        return self.learn_groups([(curves, times)], smoothing)

    def learn_groups(self, groups: Iterable[Group], smoothing: float = 5.0) -> CurveEnsemble:
        """Learn the prior weights of the atoms, and how often curves leave them, from curves that may differ in times.

        Those that best foresee the last value of each curve from its first 10, 20, 30, 50 and 70 %; the prior so far
        counts as ``smoothing`` curves more. Time is relative to the last one, so that shorter curves teach of longer
        ones. Where many curves are alike, as those of one data set, a larger ``smoothing`` is right, and curves that
        are alike belong next to each other.

        Returns:
            Itself.

        Raises:
            ShapeError, DataError: No curves, or malformed ones, or one of less than four values.
            ConfigError: smoothing is not positive.
        """
        if not smoothing > 0:
            raise ConfigError(f"smoothing must be positive, got {smoothing}")
        found = [self._foresee(*check_curves(curves, times, FEWEST + 1)) for curves, times in groups]
        if not sum(len(each.curve) for each in found):
            raise DataError("learn: expected at least one finished curve, got none")
        self.weights, self.surprise = learn(Foreseen.join(found), self.weights, self.surprise, smoothing)
        return self

    def extrapolate(
        self, curves: Floats, targets: float | Sequence[float] | Floats, times: Floats | None = None,
        horizon: float | None = None,
    ) -> Prediction:  # fmt: skip
        """Distributions of the values of curves at later times.

        Args:
            curves: float64 [K, T], what was seen; NaN where nothing is known, but at least three values each.
            targets: Times to predict, [M].
            times: Of the columns of ``curves``, positive and increasing, in units of the first possible measurement;
                1 ... T by default, for epochs.
            horizon: The time at which a curve ends, for the prior; by default the last of targets and times.

        Raises:
            ShapeError, DataError, ConfigError: An argument is malformed.
        """
        curves, times = check_curves(curves, times)
        aims = np.atleast_1d(np.asarray(targets, float))
        if aims.ndim != 1 or not len(aims) or not (np.isfinite(aims).all() and (aims >= times[0]).all()):
            raise DataError(f"targets must be one or more finite times from {times[0]:g} up, got {targets}")
        end = float(max(aims.max(), times[-1])) if horizon is None else float(horizon)
        if not (np.isfinite(end) and end >= max(aims.max(), times[-1])):
            raise ConfigError(f"horizon must be finite and no earlier than targets and times, got {horizon}")
        atoms = self._atoms(end)
        low, high = self.bounds
        parts = [
            draw(seen, infer(seen, atoms), atoms, self.weights, self.surprise, aims, self.draws, self.seed)
            for seen in self._chunks(curves, times)
        ]
        shape = (0, len(aims), self.draws)
        centres = np.concatenate([part[0] for part in parts] or [np.zeros(shape)])
        scales = np.concatenate([part[1] for part in parts] or [np.ones(shape)])
        return Prediction(low + centres * (high - low), scales * (high - low))

    def family_probabilities(self, curves: Floats, times: Floats | None = None, horizon: float | None = None) -> Floats:
        """Posterior probability of each family, for each curve: float64 [K, F]. Arguments as of :meth:`extrapolate`."""
        curves, times = check_curves(curves, times)
        evidence = self._evidence(curves, times, horizon) + np.log(self.weights)
        share = np.exp(evidence - logsumexp(evidence, 1, keepdims=True)) if len(evidence) else evidence
        atoms = self._atoms(float(times[-1]))
        by_shape = share.reshape(len(share), len(NOISE_MODELS), -1).sum(1)
        return by_shape @ (atoms.family_of_shape[:, None] == np.arange(len(self.families)))

    def _evidence(self, curves: Floats, times: Floats, horizon: float | None = None) -> Floats:
        """Log marginal likelihoods, [K, N]."""
        atoms = self._atoms(float(times[-1]) if horizon is None else horizon)
        parts = [infer(seen, atoms).evidence.reshape(len(seen.values), -1) for seen in self._chunks(curves, times)]
        return np.concatenate([np.zeros((0, len(self.weights))), *parts])

    def _foresee(self, curves: Floats, times: Floats) -> Foreseen:
        return foresee(self._scaled(curves), times, self._atoms(float(times[-1])), self.weights)

    def _chunks(self, curves: Floats, times: Floats) -> Iterator[Seen]:
        return gather(self._scaled(curves), times).chunks()

    def _scaled(self, curves: Floats) -> Floats:
        """On the scale where the bounds are 0 and 1."""
        low, high = self.bounds
        scaled = (curves - low) / (high - low)
        outside = (scaled < -_SLACK) | (scaled > 1 + _SLACK)
        if outside.any():
            row, column = np.argwhere(outside)[0].tolist()
            raise DataError(
                f"curve {row} has the value {curves[row, column]:g}, expected {low:g} to {high:g}: see bounds"
            )
        return scaled

    def _atoms(self, horizon: float) -> Atoms:
        return Atoms.make(self.families, NOISE_MODELS, horizon)

    def _start(self, prior: str) -> tuple[Floats, float]:
        even = self._atoms(1.0).even()
        if prior == "even":
            return even, SURPRISES
        if prior != "learned":
            raise ConfigError(f'prior must be "learned" or "even", got {prior!r}')
        known = _published_prior()
        unknown = [f.name for f in self.families if f.name not in known]
        if unknown:
            raise ConfigError(f'no learned prior for {", ".join(unknown)}; use prior="even", or {", ".join(known)}')
        weights = np.concatenate([known[f.name] for f in self.families], 1).ravel()
        return weights / weights.sum(), float(known[_SURPRISE])

    def save_prior(self, path: Path) -> None:
        """Write the prior as ``PRIOR`` holds it."""
        sizes = [len(part) for part in self._atoms(1.0).theta]
        parts = np.split(self.weights.reshape(len(NOISE_MODELS), -1), np.cumsum(sizes)[:-1], 1)
        found = {f.name: part.astype(np.float32) for f, part in zip(self.families, parts, strict=True)}
        partial = path.with_name(path.name + ".partial.npz")
        np.savez_compressed(partial, **found, **{_SURPRISE: np.float64(self.surprise)})  # type: ignore[arg-type]
        partial.replace(path)


@lru_cache(maxsize=1)
def _published_prior() -> dict[str, Floats]:
    try:
        with np.load(PRIOR, allow_pickle=False) as file:
            found = {name: file[name].astype(float) for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{PRIOR} cannot be read: {error}; install nasfast again") from error
    shapes = {name: (len(NOISE_MODELS), len(FAMILIES[name].grid(1.0))) for name in DISTINCT}
    for name, expected in {**shapes, _SURPRISE: ()}.items():
        if name not in found or found[name].shape != expected:
            raise DataError(f"{PRIOR} is of another version: expected {name} {list(expected)}; install nasfast again")
    return found
