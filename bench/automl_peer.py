"""FLAML or AutoGluon on one table, in an environment of theirs: `PYTHON bench/automl_peer.py flaml|autogluon JOB`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
from automl_scores import test_error

_UNITS = {"s": 1, "m": 60, "h": 3600}


def main() -> int:
    start = time.monotonic()
    peer, job = sys.argv[1], json.loads(sys.argv[2])
    budget = int(job["budget"][:-1]) * _UNITS[job["budget"][-1]]
    train, test = pd.read_csv(job["train"]), pd.read_csv(job["test"])
    target, task = job["target"], job["task"]
    p, classes = {"flaml": _flaml, "autogluon": _autogluon}[peer](job, budget, train, test.drop(columns=target))
    seconds = time.monotonic() - start
    y = test[target]
    if classes is not None:
        y = y.astype(str).map({str(c): i for i, c in enumerate(classes)}).to_numpy()
    print()
    print(json.dumps({peer: test_error(task, y, p), "seconds": seconds}))
    return 0


def _flaml(job, budget, train, test):  # type: ignore[no-untyped-def]
    from flaml import AutoML

    target, task = job["target"], job["task"]
    metric = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}[task]
    model = AutoML()
    model.fit(
        X_train=train.drop(columns=target),
        y_train=train[target],
        task="regression" if task == "regression" else "classification",
        metric=metric,
        time_budget=budget,
        n_jobs=job["threads"],
        seed=job["seed"],
        verbose=0,
    )
    return (model.predict(test), None) if task == "regression" else (model.predict_proba(test), model.classes_)


def _autogluon(job, budget, train, test):  # type: ignore[no-untyped-def]
    from autogluon.tabular import TabularPredictor

    target, task = job["target"], job["task"]
    metric = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "root_mean_squared_error"}[task]
    model = TabularPredictor(
        target, problem_type=task, eval_metric=metric, path=f"{job['out']}/autogluon", verbosity=0
    ).fit(train, time_limit=budget, num_cpus=job["threads"], num_gpus=0)
    if task == "regression":
        return model.predict(test).to_numpy(), None
    return model.predict_proba(test).to_numpy(), model.class_labels


if __name__ == "__main__":
    sys.exit(main())
