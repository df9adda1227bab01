"""`nasfast fit` on tables that have a test file, beside what is usual: `python -m bench.automl --tables FOLDER`.

FOLDER holds NAME.train.csv.gz, NAME.test.csv.gz and tables.json (`{NAME: {"target": COLUMN, "task": KIND}}`). Test
errors are 1 - AUC (binary), log loss (multiclass) and root mean squared error (regression), means over seeds with
standard errors. Every fit runs in a process of its own, whose time is taken from its start to its end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.environment import ROOT

COLUMNS = ("constant", "linear", "boosting", "boosting_tuned", "network", "ensemble")
PEERS = ("flaml", "autogluon")
_PERFECT = 1e-6


def main() -> int:
    arguments = _arguments()
    tables = json.loads((arguments.tables / "tables.json").read_text(encoding="utf-8"))
    unknown = [name for name in arguments.only if name not in tables]
    if unknown:
        print(f"bench.automl: {arguments.tables} has no table {unknown[0]!r}", file=sys.stderr)
        return 2
    rows: list[dict[str, Any]] = []
    for name in arguments.only or tables:
        runs = [_run_all(arguments, name, tables[name], seed) for seed in range(arguments.seeds)]
        rows.append({"table": name, **_means(runs)})
        print(_line(rows[-1]), flush=True)
        if arguments.json:
            arguments.json.write_text(
                json.dumps({"budget": arguments.budget, "tables": rows}, indent=1), encoding="utf-8"
            )
    print(_bars(rows))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.automl", description=__doc__)
    parser.add_argument("--tables", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="of the tables")
    parser.add_argument("--budget", default="2m")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tuned", type=int, default=30, help="random settings of boosting in the same time; 0: none")
    parser.add_argument("--peer-python", type=Path, help="Python with flaml[automl] and autogluon.tabular")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _run_all(arguments: argparse.Namespace, name: str, table: Mapping[str, str], seed: int) -> dict[str, float]:
    job = {
        "train": str(arguments.tables.resolve() / f"{name}.train.csv.gz"),
        "test": str(arguments.tables.resolve() / f"{name}.test.csv.gz"),
        **{key: table[key] for key in ("target", "task")},
        **{"budget": arguments.budget, "seed": seed, "threads": arguments.threads, "tuned": arguments.tuned},
    }
    found = _run([sys.executable, "-m", "bench.automl_fit"], job, "fit")
    found |= {k: v for k, v in _run([sys.executable, "-m", "bench.automl_boosting"], job, "").items() if k != "seconds"}
    for peer in arguments.peers if arguments.peer_python else ():
        script = str(Path(__file__).with_name("automl_peer.py"))
        found |= _run([str(arguments.peer_python), script, peer], job, peer)
    return found


def _run(command: list[str], job: Mapping[str, Any], who: str) -> dict[str, float]:
    """What a process found: a number per name, and the seconds from its start to its end."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        done = subprocess.run(
            [*command, json.dumps({**job, "out": folder})], cwd=ROOT, capture_output=True, text=True, check=False
        )
        seconds = time.monotonic() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed on {job['train']}:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {**found, f"{who}_seconds": found.pop("seconds", seconds)} if who else found


def _means(runs: list[dict[str, float]]) -> dict[str, Any]:
    names = list(runs[0])
    values = {name: np.array([run[name] for run in runs]) for name in names}
    error = {name: float(v.std(ddof=1) / np.sqrt(len(v))) if len(v) > 1 else float("nan") for name, v in values.items()}
    return {"mean": {name: float(v.mean()) for name, v in values.items()}, "error": error, "runs": runs}


def _line(row: Mapping[str, Any]) -> str:
    parts = [f"{row['table']:<12}"]
    for name in (*COLUMNS, *PEERS):
        if name in row["mean"]:
            parts.append(f"{name} {row['mean'][name]:.5g}±{row['error'][name]:.2g}")
    parts += [f"{who[:-8]} {s:.1f}s" for who, s in row["mean"].items() if who.endswith("_seconds")]
    return "  ".join(parts)


def _bars(rows: list[dict[str, Any]]) -> str:
    """On how many tables one is better than another, and the worst ratio."""
    lines = []
    for ours, others in (("ensemble", ("boosting", "boosting_tuned", *PEERS)), ("network", ("boosting",))):
        for other in others:
            pairs = [
                (r["mean"][ours], r["mean"][other], r["table"])
                for r in rows
                if other in r["mean"] and r["mean"][other] > _PERFECT
            ]
            if pairs:
                wins = sum(a < b for a, b, _ in pairs)
                worst = max((a / b, name) for a, b, name in pairs)
                percent = 100 * (worst[0] - 1)
                lines.append(
                    f"{ours} better than {other} on {wins} of {len(pairs)}; worst {worst[1]}, {percent:+.1f} %"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
