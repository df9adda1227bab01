"""HistGradientBoosting as it comes, and with random settings in the time of a fit, for bench.automl."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.model_selection import KFold, StratifiedKFold

from bench.automl_scores import test_error
from nasfast.automl.fit import FitSettings, make_problem
from nasfast.automl.members.boosting import design
from nasfast.config.budget import Budget
from nasfast.tables import convert, encode_target, infer_schema, read_table, read_target

_FOLDS = 3


def main() -> int:
    start = time.monotonic()
    job = json.loads(sys.argv[1])
    table = read_table([job["train"]]).data
    target = read_target(table, job["target"], job["task"])
    schema = infer_schema(table, job["target"])
    problem, preparation = make_problem(table, target, schema, FitSettings(job["target"], Budget(), job["task"]))
    test = read_table([job["test"]]).data
    classes = target.classes
    y_test, _ = encode_target(test, target.spec)
    x = design(problem.prepared)
    x_test = design(preparation.apply(convert(test, schema), test.num_rows))
    y = problem.y.astype(np.int64) if classes else problem.y
    mask = np.arange(x.shape[1]) >= problem.prepared.numbers.shape[1]

    def make(**settings: Any) -> Any:
        kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
        return kind(random_state=job["seed"], categorical_features=mask if mask.any() else None, **settings)

    def predict(model: Any, rows: Any) -> Any:
        return model.predict_proba(rows) if classes else model.predict(rows)

    found = {"boosting": test_error(job["task"], y_test, predict(make().fit(x, y), x_test))}
    if job["tuned"]:
        seconds = Budget.parse(job["budget"]).seconds or 0.0
        rng = np.random.default_rng(job["seed"])
        split = StratifiedKFold if classes else KFold
        folds = list(split(_FOLDS, shuffle=True, random_state=job["seed"]).split(x, y))
        best: tuple[float, dict[str, Any]] = (float("inf"), {})
        for trial in range(job["tuned"]):
            if time.monotonic() - start > 0.8 * seconds:
                break
            settings = _draw(rng) if trial else {}
            losses = [test_error(job["task"], y[v], predict(make(**settings).fit(x[t], y[t]), x[v])) for t, v in folds]
            best = min(best, (float(np.mean(losses)), settings), key=lambda pair: pair[0])
        found["boosting_tuned"] = test_error(job["task"], y_test, predict(make(**best[1]).fit(x, y), x_test))
    print(json.dumps(found))
    return 0


def _draw(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "learning_rate": float(np.exp(rng.uniform(np.log(0.02), np.log(0.3)))),
        "max_leaf_nodes": int(np.exp(rng.uniform(np.log(4), np.log(128)))),
        "min_samples_leaf": int(np.exp(rng.uniform(np.log(2), np.log(100)))),
        "l2_regularization": float(np.exp(rng.uniform(np.log(1e-4), np.log(100)))),
        "max_features": float(rng.uniform(0.2, 1.0)),
        "max_iter": 300,
        "early_stopping": True,
        "n_iter_no_change": 20,
    }


if __name__ == "__main__":
    sys.exit(main())
