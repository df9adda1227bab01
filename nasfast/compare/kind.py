"""A comparison of estimators as a kind of run."""

from __future__ import annotations

from nasfast.search.kinds import Kind

COMPARISON = Kind(
    "comparison",
    "compare",
    "nasfast.config.compare:CompareConfig",
    "nasfast.compare.runner:run_compare",
    "nasfast.compare.runner:resume_compare",
)
