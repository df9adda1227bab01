"""How well scores rank architectures as a reference does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

_SAMPLES = 1000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """One estimator beside the reference.

    Attributes:
        name, family: Of the estimator.
        count: Architectures that both have scored.
        tau: Kendall's tau-b of the scores with the reference's; None where either has one value for all.
        low, high: Bounds of its 95 % interval, by resampling architectures.
        spearman: The same of ranks; None as tau.
        flops, seconds: Mean cost of an architecture, what is spent once for all shared among them.
        uncertainty: Mean standard error of the scores, in their unit; None where the estimator knows none.
    """

    name: str
    family: str
    count: int
    tau: float | None
    low: float | None
    high: float | None
    spearman: float | None
    flops: float
    seconds: float
    uncertainty: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)


def kendall(ours: Floats, truth: Floats) -> float | None:
    """Kendall's tau-b of two rankings float64 [K]; None where one of them has no order.

    Equivalent to ``scipy.stats.kendalltau(ours, truth).statistic``, whose p-value makes a thousand samples slow.
    """
    i, j = np.triu_indices(len(ours), 1)
    left, right = np.sign(ours[i] - ours[j]), np.sign(truth[i] - truth[j])
    pairs = float(np.count_nonzero(left)) * float(np.count_nonzero(right))
    return float((left * right).sum() / pairs**0.5) if pairs else None


def spearman(ours: Floats, truth: Floats) -> float | None:
    """Spearman's correlation of two rankings float64 [K]; None where one of them has no order."""
    left, right = rankdata(ours), rankdata(truth)
    return float(np.corrcoef(left, right)[0, 1]) if np.ptp(left) and np.ptp(right) else None


def interval(ours: Floats, truth: Floats, seed: int) -> tuple[float | None, float | None]:
    """Bounds of the 95 % bootstrap interval of tau, over architectures; None where there is no tau.

    A draw without order counts as 0: left out, scores that tell one architecture from the rest would look certain.
    """
    if kendall(ours, truth) is None:
        return None, None
    generator = np.random.default_rng(seed)
    draws = generator.integers(0, len(ours), (_SAMPLES, len(ours)))
    taus = [kendall(ours[pick], truth[pick]) or 0.0 for pick in draws]
    low, high = np.quantile(taus, (0.025, 0.975))
    return float(low), float(high)


def compare(
    name: str,
    family: str,
    estimates: Mapping[int, Mapping[str, Any]],
    reference: Mapping[int, Mapping[str, Any]],
    seed: int,
) -> Comparison:
    """Set an estimator's estimates, by number of the architecture, beside the reference's."""
    numbers = sorted(set(estimates) & set(reference))
    ours = np.array([estimates[n]["score"] for n in numbers], np.float64)
    truth = np.array([reference[n]["score"] for n in numbers], np.float64)
    known = [estimates[n]["uncertainty"] for n in numbers if estimates[n]["uncertainty"] is not None]
    low, high = interval(ours, truth, seed)
    return Comparison(
        name,
        family,
        len(numbers),
        kendall(ours, truth),
        low,
        high,
        spearman(ours, truth),
        float(np.mean([estimates[n]["cost"] for n in numbers])),
        float(np.mean([estimates[n]["seconds"] for n in numbers])),
        float(np.mean(known)) if known else None,
    )
