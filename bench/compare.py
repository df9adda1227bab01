"""What a finished comparison of estimators has measured: a table, a JSON file and a picture.

nasfast compare --data digits --space-set channels=4 --epochs 12 --held-out 0.4 --threads 1 --out RUN
python -m bench.estimators compare RUN --json OUT.json --plot OUT.svg
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.arguments import IN_PERCENT, write_json
from bench.tables import section
from nasfast.compare.methods import REFERENCE
from nasfast.errors import NasfastError, RunError
from nasfast.report.comparison import comparison_svg, load_comparison
from nasfast.runs.folder import RunFolder
from nasfast.utils.files import atomic_write

_UNITLESS = ("zero-cost", "table")  # families whose scores are no accuracies, or may be none
_PLACES = ("data_root", "table")  # settings that say where things are on one machine


def read(path: Path) -> dict[str, object]:
    """Environment, settings and results of a comparison, JSON-ready; accuracies in percent.

    Raises:
        RunError: No comparison is there, or it is not finished.
    """
    config, found = RunFolder.open(path, lock=False).read_config(), load_comparison(path)
    if not found:
        raise RunError(f"{path} is no finished comparison; go on with nasfast compare --resume {path}")
    settings = {name: value for name, value in config["compare"].items() if name not in _PLACES}
    found["estimators"] = [
        row if row["uncertainty"] is None or row["family"] in _UNITLESS
        else row | {"uncertainty": 100 * row["uncertainty"]}
        for row in found["estimators"]
    ]  # fmt: skip
    return {**IN_PERCENT, "environment": config["environment"], "settings": settings, **found}


def rows_of(estimators: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """All estimators but the reference, the best tau first."""
    others = [row for row in estimators if row["name"] != REFERENCE]
    ranked = sorted(others, key=lambda row: -math.inf if row["tau"] is None else row["tau"], reverse=True)
    return [
        (
            row["name"], _two(row["tau"]), f"{_two(row['low'])} … {_two(row['high'])}", _two(row["spearman"]),
            _short(row["flops"] / 1e6), "" if row["uncertainty"] is None else _short(row["uncertainty"]),
        )
        for row in ranked
    ]  # fmt: skip


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}".replace("-", "−")


def _short(value: float) -> str:
    """Three digits, two below 100."""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.{2 if value < 1 else 1 if value < 10 else 0}f}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.estimators compare", description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished nasfast compare")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw tau over FLOPs: svg")
    options = parser.parse_args(arguments)
    try:
        results = read(options.run)
    except NasfastError as error:
        print(f"bench.estimators compare: {error}", file=sys.stderr)
        return 1
    estimators: Any = results["estimators"]
    head = ("", "tau", "95 % interval", "Spearman", "MFLOPs", "mean uncertainty")
    print(section(f"{estimators[0]['count']} architectures of {results['space']}", head, rows_of(estimators)))
    write_json(options.json, results)
    if options.plot is not None:
        atomic_write(options.plot, comparison_svg(estimators, "flops", "FLOPs an architecture") + "\n")
        print(f"wrote {options.plot}")
    return 0
