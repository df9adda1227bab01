"""Black-box searches: a strategy asks, an estimator answers."""
