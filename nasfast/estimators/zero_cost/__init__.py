"""Zero-cost proxies: what an untrained network says of the accuracy that it would reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasfast.utils.lazy import lazy_names

if TYPE_CHECKING:
    from nasfast.estimators.zero_cost.catalogue import PROXIES, Proxy, check_proxies
    from nasfast.estimators.zero_cost.estimator import ZeroCostEstimator
    from nasfast.estimators.zero_cost.proxies import score_network

__all__ = [
    "PROXIES",
    "Proxy",
    "ZeroCostEstimator",
    "check_proxies",
    "score_network",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "PROXIES": "nasfast.estimators.zero_cost.catalogue",
        "Proxy": "nasfast.estimators.zero_cost.catalogue",
        "ZeroCostEstimator": "nasfast.estimators.zero_cost.estimator",
        "check_proxies": "nasfast.estimators.zero_cost.catalogue",
        "score_network": "nasfast.estimators.zero_cost.proxies",
    },
)
