"""Parametric families of learning curves: how a value grows with epochs, or with the size of the training set.

Each family is one shape g(t; theta) of at most two parameters, and two more that enter linearly:

    affine:  y = a + b g(t; theta)        scale:  y = b g(t; theta)        shift:  y = a + g(t; theta)

so that a fit has a closed form but for theta, which is bounded. Time t > 0 counts in units of the first measurement
(epoch 1, or the smallest training set). Names and formulas as in Domhan, Springenberg, Hutter, "Speeding up Automatic
Hyperparameter Optimization of Deep Neural Networks by Extrapolation of Learning Curves", IJCAI 2015, table 1, and
Viering, Loog, "The Shape of Learning Curves: a Review", TPAMI 2022. Some published families are one function in two
parametrisations; DISTINCT holds one of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nasfast.errors import ConfigError

Floats: TypeAlias = NDArray[np.float64]
Shape: TypeAlias = Callable[..., Floats]
Gradient: TypeAlias = Callable[..., tuple[Floats, ...]]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a shape.

    Attributes:
        low, high: Bounds. Of a parameter with the unit of time, multiples of the horizon (see Family.bounds).
        points: Of the grid over it.
        log: The grid is even in the logarithm.
        unit: "time" for a parameter that scales with the horizon, "" for a pure number.
    """

    name: str
    low: float
    high: float
    points: int
    log: bool = True
    unit: Literal["", "time"] = ""


@dataclass(frozen=True)
class Family:
    """A family of curves, y = a + b g(t; theta).

    Attributes:
        name: Of the family.
        formula: As published, and how its parameters follow from a, b and theta.
        source: Where it was proposed for learning curves, or its origin.
        kind: Which of a and b are free: "affine" both, "scale" b (a is 0), "shift" a (b is 1).
        theta: Parameters of the shape.
        shape: ``g(t, *theta)``, of arrays that broadcast.
        gradient: dg/dtheta, one array for each parameter.
    """

    name: str
    formula: str
    source: str
    kind: Literal["affine", "scale", "shift"]
    theta: tuple[Parameter, ...]
    shape: Shape
    gradient: Gradient

    @property
    def linear(self) -> int:
        """Number of linear parameters."""
        return 2 if self.kind == "affine" else 1

    def bounds(self, horizon: float) -> tuple[Floats, Floats]:
        """Lowest and highest theta, float64 [D] each, where curves are looked at up to time ``horizon``."""
        scale = [horizon if p.unit == "time" else 1.0 for p in self.theta]
        low = [p.low * s for p, s in zip(self.theta, scale, strict=True)]
        high = [p.high * s for p, s in zip(self.theta, scale, strict=True)]
        return np.array(low, float), np.array(high, float)

    def grid(self, horizon: float) -> Floats:
        """Start values of fits, and the points that the posterior is summed over: float64 [N, D] within the bounds."""
        lows, highs = self.bounds(horizon)
        axes = [
            np.geomspace(low, high, p.points) if p.log else np.linspace(low, high, p.points)
            for p, low, high in zip(self.theta, lows, highs, strict=True)
        ]
        mesh = np.meshgrid(*axes, indexing="ij")
        return np.stack([axis.ravel() for axis in mesh], 1) if axes else np.zeros((1, 0))

    def g(self, times: Floats, theta: Floats) -> Floats:
        """The shape at ``times`` [T] for ``theta`` [N, D]: float64 [N, T]. Times may be [N, T] too."""
        return np.broadcast_to(self.shape(times, *_columns(theta)), _result(times, theta)).astype(float)

    def dg(self, times: Floats, theta: Floats) -> Floats:
        """Its derivative by theta: float64 [N, T, D]."""
        parts = [np.broadcast_to(part, _result(times, theta)) for part in self.gradient(times, *_columns(theta))]
        return np.stack(parts, -1) if parts else np.zeros((*_result(times, theta), 0))

    def value(self, times: Floats, parameters: Floats) -> Floats:
        """Curves at ``times`` [T] for ``parameters`` [K, 2 + D] = (a, b, theta...): float64 [K, T]."""
        return parameters[:, :1] + parameters[:, 1:2] * self.g(times, parameters[:, 2:])

    def jacobian(self, times: Floats, parameters: Floats) -> Floats:
        """Derivative of :meth:`value` by (a, b, theta...): float64 [K, T, 2 + D]; zero where the kind fixes a or b."""
        g = self.g(times, parameters[:, 2:])
        by_a = np.full_like(g, float(self.kind != "scale"))
        by_b = g * float(self.kind != "shift")
        by_theta = parameters[:, 1, None, None] * self.dg(times, parameters[:, 2:])
        return np.concatenate([by_a[..., None], by_b[..., None], by_theta], -1)


def _columns(theta: Floats) -> list[Floats]:
    return [theta[:, i, None] for i in range(theta.shape[1])]


def _result(times: Floats, theta: Floats) -> tuple[int, int]:
    return theta.shape[0], times.shape[-1]


def _hill(t: Floats, half: Floats, eta: Floats) -> Floats:
    with np.errstate(over="ignore"):  # 1 / inf is the limit
        return 1 / (1 + (half / t) ** eta)


def _hill_gradient(t: Floats, half: Floats, eta: Floats) -> tuple[Floats, ...]:
    g = _hill(t, half, eta)
    slope = g * (1 - g)  # of the logistic function of eta log(t / half)
    return -slope * eta / half, slope * np.log(t / half)


def _log_power(t: Floats, b: Floats, c: Floats) -> Floats:
    return _hill(t, np.exp(b), -c)


def _log_power_gradient(t: Floats, b: Floats, c: Floats) -> tuple[Floats, ...]:
    g = _log_power(t, b, c)
    slope = g * (1 - g)
    return slope * c, -slope * (np.log(t) - b)


def _weibull(t: Floats, scale: Floats, delta: Floats) -> Floats:
    return -np.expm1(-((t / scale) ** delta))


def _weibull_gradient(t: Floats, scale: Floats, delta: Floats) -> tuple[Floats, ...]:
    power = (t / scale) ** delta
    left = power * np.exp(-power)
    return -left * delta / scale, left * np.log(t / scale)


def _janoschek(t: Floats, kappa: Floats, delta: Floats) -> Floats:
    return -np.expm1(-kappa * t**delta)


def _janoschek_gradient(t: Floats, kappa: Floats, delta: Floats) -> tuple[Floats, ...]:
    power = t**delta
    left = np.exp(-kappa * power)
    return power * left, kappa * power * np.log(t) * left


def _pow4(t: Floats, alpha: Floats, shift: Floats) -> Floats:
    return -((t + shift) ** -alpha)


def _pow4_gradient(t: Floats, alpha: Floats, shift: Floats) -> tuple[Floats, ...]:
    power = (t + shift) ** -alpha
    return power * np.log(t + shift), alpha * power / (t + shift)


def _vapor(t: Floats, b: Floats, c: Floats) -> Floats:
    return np.exp(-b / t) * t**c


def _vapor_gradient(t: Floats, b: Floats, c: Floats) -> tuple[Floats, ...]:
    g = _vapor(t, b, c)
    return -g / t, g * np.log(t)


_DOMHAN = "Domhan et al., IJCAI 2015"
_VIERING = "Viering, Loog, TPAMI 2022"
_EXPONENT = Parameter("alpha", 0.02, 4.0, 24)

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "pow3", "c - a' t^-alpha; c = a, a' = b", f"{_DOMHAN}; Gu et al., KDD 2001", "affine", (_EXPONENT,),
            lambda t, alpha: -(t**-alpha), lambda t, alpha: (t**-alpha * np.log(t),),
        ),
        Family(
            "pow4", "c - (a' t + b')^-alpha; c = a, a' = b^(-1/alpha), b' = shift a'",
            f"{_DOMHAN}; Kolachina et al., ACL 2012", "affine",
            (Parameter("alpha", 0.05, 4.0, 14), Parameter("shift", 0.002, 0.6, 8, unit="time")), _pow4, _pow4_gradient,
        ),
        Family(
            "log-power", "a' / (1 + (t / e^b')^c'); a' = b", _DOMHAN, "scale",
            (Parameter("b'", -6.0, 6.0, 16, log=False), Parameter("c'", -3.0, -0.05, 12, log=False)), _log_power,
            _log_power_gradient,
        ),
        Family(
            "hill3", "ymax t^eta / (kappa^eta + t^eta); ymax = b; log-power with kappa = e^b', eta = -c'",
            f"{_DOMHAN}; Hill, J. Physiology 1910", "scale",
            (Parameter("kappa", 1e-5, 3.0, 18, unit="time"), Parameter("eta", 0.05, 3.0, 12)), _hill, _hill_gradient,
        ),
        Family(
            "mmf", "alpha' - (alpha' - beta') / (1 + (kappa t)^delta); beta' = a, alpha' = a + b, kappa = 1 / half",
            f"{_DOMHAN}; Morgan, Mercer, Flodin, PNAS 1975", "affine",
            (Parameter("half", 0.002, 3.0, 14, unit="time"), Parameter("delta", 0.2, 4.0, 10)), _hill, _hill_gradient,
        ),
        Family(
            "weibull", "alpha' - (alpha' - beta') exp(-(kappa t)^delta); beta' = a, alpha' = a + b, kappa = 1 / scale",
            f"{_DOMHAN}; Weibull, J. Applied Mechanics 1951", "affine",
            (Parameter("scale", 0.002, 4.0, 14, unit="time"), Parameter("delta", 0.15, 2.0, 10)),
            _weibull, _weibull_gradient,
        ),
        Family(
            "janoschek", "alpha' - (alpha' - beta') exp(-kappa t^delta); beta' = a, alpha' = a + b; also weibull",
            f"{_DOMHAN}; Janoschek, 1957", "affine",
            (Parameter("kappa", 1e-4, 4.0, 18), Parameter("delta", 0.15, 2.0, 10)), _janoschek, _janoschek_gradient,
        ),
        Family(
            "exp3", "c - exp(-a' t + b'); c = a + b, a' = 1 / scale, b' = log b", _VIERING, "affine",
            (Parameter("scale", 0.002, 3.0, 24, unit="time"),),
            lambda t, scale: -np.expm1(-t / scale), lambda t, scale: (-t / scale**2 * np.exp(-t / scale),),
        ),
        Family(
            "ilog2", "c - a' / log t, with log(t + 1) so that t = 1 is finite; c = a, a' = b", _DOMHAN, "affine", (),
            lambda t: -1 / np.log(t + 1), lambda t: (),
        ),
        Family("log2", "c + a' log t; c = a, a' = b", _VIERING, "affine", (), lambda t: np.log(t), lambda t: ()),
        Family(
            "log-log-linear", "log(a' log t + b'); b' = e^a, a' = s b'", _DOMHAN, "shift",
            (Parameter("s", 0.003, 3.0, 24),),
            lambda t, s: np.log1p(s * np.log(t)), lambda t, s: (np.log(t) / (1 + s * np.log(t)),),
        ),
        Family(
            "vapor-pressure", "exp(a' + b' / t + c' log t); a' = log b", _DOMHAN, "scale",
            (Parameter("-b'", 0.01, 8.0, 14), Parameter("c'", 0.0, 0.5, 12, log=False)), _vapor, _vapor_gradient,
        ),
    )
}  # fmt: skip
"""Every family by name."""

DISTINCT = tuple(name for name in FAMILIES if name not in ("log-power", "janoschek"))
"""Families that are different functions: log-power is hill3 again, janoschek is weibull."""


def family(name: str) -> Family:
    """The family of a name.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in FAMILIES:
        raise ConfigError(f"no family of learning curves {name!r}; there are {', '.join(FAMILIES)}")
    return FAMILIES[name]
