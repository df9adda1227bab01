"""The architecture that the weights of a mixture network say: the largest weight of every decision, skips counted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from nasfast.errors import NasfastError
from nasfast.spaces.base import Rows
from nasfast.strategies.gradient.collapse_guard import Observation
from nasfast.supernets.mixture import MixtureNetwork


def skip_values(network: MixtureNetwork) -> list[set[int]]:
    """The values of every decision that pass the input on, at every place, in place of an operation with weights."""
    found: list[set[int]] = [set(range(size)) for size in network.space.sizes.tolist()]
    against_weights = set()
    for place in network.places:
        if place.decision >= 0:
            found[place.decision] &= {k for k, node in enumerate(place.nodes) if node.op and node.op.is_identity}
            if any(node.weights for node in place.nodes):
                against_weights.add(place.decision)
    return [values if decision in against_weights else set() for decision, values in enumerate(found)]


def derive_row(network: MixtureNetwork, max_skips: int | None) -> Rows:
    """The row, int64 [D], of a network; see :func:`best_row`.

    Raises:
        NasfastError: A weight is not finite.
    """
    return best_row(_weights(network), skip_values(network), max_skips)


def best_row(weights: Sequence[Sequence[float]], skips: Sequence[set[int]], max_skips: int | None) -> Rows:
    """The row, int64 [D], of the largest weights, with at most ``max_skips`` skip connections; None: no cap.

    While there are more, the skip connection of the lowest weight is taken out of the running, and the next best
    candidate takes its place. Equal weights are decided for the earlier value.

    Args:
        weights: Of every decision's values.
        skips: The values of every decision that are skip connections.
    """
    left = [list(values) for values in weights]
    chosen = [_best(values) for values in left]
    while max_skips is not None:
        kept = [d for d, value in enumerate(chosen) if value in skips[d]]
        if len(kept) <= max_skips:
            break
        weakest = min(kept, key=lambda d: left[d][chosen[d]])
        left[weakest][chosen[weakest]] = -1.0  # below any weight
        chosen[weakest] = _best(left[weakest])
    return np.array(chosen, np.int64)


def observe_row(network: MixtureNetwork) -> Observation:
    """Measure the architecture of a network."""
    weights = _weights(network)
    row = derive_row(network, None).tolist()
    skips = sum(value in values for value, values in zip(row, skip_values(network), strict=True))
    shares = [_entropy(values) for values in weights if len(values) > 1]
    return Observation(sum(shares) / max(len(shares), 1), skips, 0, row)


def _weights(network: MixtureNetwork) -> list[list[float]]:
    with torch.no_grad():
        weights: list[list[float]] = [values.tolist() for values in network.expected_weights()]
    if not all(math.isfinite(value) for values in weights for value in values):
        raise NasfastError(f"{network.space.name}: weights hold a value that is not finite: the search has diverged")
    return weights


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda k: values[k])


def _entropy(values: list[float]) -> float:
    """0 where one value has all the weight, 1 where all weigh the same."""
    return -sum(value * math.log(value) for value in values if value > 0) / math.log(len(values))
