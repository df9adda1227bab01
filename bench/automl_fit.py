"""One fit of bench.automl, in a process of its own: `python -m bench.automl_fit JOB`; prints test errors as JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from bench.automl_scores import test_error
from nasfast.automl.clock import process_start


def main() -> int:
    start = process_start()
    job = json.loads(sys.argv[1])

    from nasfast.automl.fit import FitSettings, fit_table
    from nasfast.automl.members.base import Model
    from nasfast.config.budget import Budget
    from nasfast.tables import encode_target, read_table
    from nasfast.utils.progress import Progress

    settings = FitSettings(
        job["target"], Budget.parse(job["budget"]), job["task"], seed=job["seed"], threads=job["threads"]
    )
    result = fit_table(read_table([job["train"]]), settings, Path(job["out"]) / "model", start, Progress(quiet=True))
    seconds = time.monotonic() - start
    test = read_table([job["test"]]).data
    y, _ = encode_target(test, result.model.target)
    prepared = result.model.prepare(test)

    def error(model: Model) -> float:
        return test_error(job["task"], y, model.predict(prepared))

    found = {"seconds": seconds, "ensemble": test_error(job["task"], y, result.model.predict_prepared(prepared))}
    found["candidates"] = len(result.found.candidates)
    for family in ("constant", "linear", "boosting", "network"):
        best = result.found.best(family)
        if best is not None:
            name = "boosting_member" if family == "boosting" else family
            found[name] = error(result.found.candidates[best].model)
            found[f"oof_{name}"] = result.found.losses[best]
    found["oof_ensemble"] = result.estimate.loss
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
