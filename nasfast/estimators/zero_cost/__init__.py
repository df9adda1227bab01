"""Zero-cost proxies: what an untrained network says of the accuracy that it would reach."""

from nasfast.estimators.zero_cost.estimator import ZeroCostEstimator
from nasfast.estimators.zero_cost.proxies import PROXIES, Proxy, check_proxies, score_network

__all__ = ["PROXIES", "Proxy", "ZeroCostEstimator", "check_proxies", "score_network"]
