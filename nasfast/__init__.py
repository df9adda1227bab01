"""Neural architecture search on fused C++ and CUDA kernels, as an extension of PyTorch.

The drop-in: `nasfast.accelerate(model)` for a network of your own, or `nasfast.compat.darts.Network`. The search:
`nasfast.run_search(...)`, or the command `nasfast`. Names load what they need on first use: `import nasfast` loads
neither torch nor the extension.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasfast.utils.lazy import lazy_names

if TYPE_CHECKING:
    from nasfast.api import (
        build_report,
        evaluate_model,
        export_model,
        fit_model,
        make_estimator,
        predict_images,
        predict_table,
        resume_fit,
        resume_run,
        retrain_run,
        run_compare,
        run_search,
    )
    from nasfast.dropin import AccelerateReport, accelerate, restore
    from nasfast.errors import NasfastError
    from nasfast.search.blackbox.problem import Problem
    from nasfast.search.blackbox.search import BlackBoxSearch
    from nasfast.spaces.registry import make_space, register_space
    from nasfast.strategies.registry import make_strategy, register_strategy
    from nasfast.supernets.batched_eval import evaluate_children
    from nasfast.utils.progress import Progress

    __version__: str

__all__ = [
    "AccelerateReport",
    "BlackBoxSearch",
    "NasfastError",
    "Problem",
    "Progress",
    "__version__",
    "accelerate",
    "build_report",
    "evaluate_children",
    "evaluate_model",
    "export_model",
    "fit_model",
    "make_estimator",
    "make_space",
    "make_strategy",
    "predict_images",
    "predict_table",
    "register_space",
    "register_strategy",
    "restore",
    "resume_fit",
    "resume_run",
    "retrain_run",
    "run_compare",
    "run_search",
]


__getattr__, __dir__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(
            (
                "build_report",
                "evaluate_model",
                "export_model",
                "fit_model",
                "make_estimator",
                "predict_images",
                "predict_table",
                "resume_fit",
                "resume_run",
                "retrain_run",
                "run_compare",
                "run_search",
            ),
            "nasfast.api",
        ),
        "AccelerateReport": "nasfast.dropin",
        "BlackBoxSearch": "nasfast.search.blackbox.search",
        "NasfastError": "nasfast.errors",
        "Problem": "nasfast.search.blackbox.problem",
        "Progress": "nasfast.utils.progress",
        "__version__": "nasfast.utils.version",
        "accelerate": "nasfast.dropin",
        "evaluate_children": "nasfast.supernets.batched_eval",
        "make_space": "nasfast.spaces.registry",
        "make_strategy": "nasfast.strategies.registry",
        "register_space": "nasfast.spaces.registry",
        "register_strategy": "nasfast.strategies.registry",
        "restore": "nasfast.dropin",
    },
)
