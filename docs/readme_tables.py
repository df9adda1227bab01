"""The tables of README.md that are made from the code and from bench/results: `python docs/readme_tables.py`.

Each stands between two comments, `<!-- NAME -->` and `<!-- end of NAME -->`, and is rewritten there. With --check
nothing is written, and the exit code is 1 where README.md is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

import result_tables  # noqa: E402

_LETTERS = {"table": "T", "oneshot": "O", "zero-cost": "Z", "train": "R", "extrapolate": "X", "inherit": "I"}
_CELLS = "(cells)"


def routes() -> str:
    """Which estimators each strategy can take on each space. Strategies with the same row stand together."""
    from nasfast.search.routing import ESTIMATORS, table

    unknown = set(ESTIMATORS) - set(_LETTERS)
    if unknown:
        raise SystemExit(f"docs/readme_tables.py: give a letter to the estimator {min(unknown)}")
    rows: dict[str, dict[str, str]] = {}
    for (space, strategy, estimator), route in table():
        row = rows.setdefault(strategy, {})
        row[space or _CELLS] = row.get(space or _CELLS, "") + (_LETTERS[estimator] if route.runner else "")
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for strategy, row in rows.items():
        groups.setdefault(tuple(row.items()), []).append(strategy)
    header = ["strategy", *(space if space == _CELLS else f"`{space}`" for space, _ in next(iter(groups)))]
    lines = [[", ".join(f"`{name}`" for name in names), *(cell for _, cell in row)] for row, names in groups.items()]
    legend = ", ".join(f"{letter} `{name}`" for name, letter in _LETTERS.items())
    return f"{_markdown(header, lines)}\n\nEstimators: {legend}."


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (header, *rows)]
    return "\n".join([lines[0], "|" + ":--|" * len(header), *lines[1:]])


def measured() -> str:
    """Six measurements beside what they are compared with, each with the command that repeats it."""
    load, ms, faster = result_tables.load, result_tables.milliseconds, result_tables.faster
    steps = load("network")["steps"]["training"]
    edge = load("mixed_op")["edges"][0]["timings"]
    cases = [case for case in load("child_eval")["cases"] if not case["calibrated"]]
    children, paths = cases[0], load("supernet")["cases"]
    per_sample = next(case for case in paths if case["case"]["paths"] == "per sample")
    score = load("zero_cost")["spearman"]["naswot"]
    verdict = load("morphism")["verdicts"]["evolution by morphism"]
    rival = str(verdict["search"])
    rates = [f"{children['children'] / children['timings'][w]['median_seconds']:.3g}" for w in ("loop", "batched")]
    rows = [
        ["a training step of the DARTS search network", f"{ms(steps['eager'])} ms",
         f"{ms(steps['fused channels_last'])} ms", faster(steps["eager"], steps["fused channels_last"]),
         "`python -m bench.network`"],
        ["one mixed edge, forward and backward", f"{ms(edge['eager'])} ms", f"{ms(edge['fused'])} ms",
         faster(edge["eager"], edge["fused"]), "`python -m bench.mixed_op`"],
        ["children of a shared network, a second (64 evolved)", rates[0], rates[1],
         f"{faster(*_pair(children, 'batched'))} ({_range(cases, 'batched')} by population)",
         "`python -m bench.child_eval`"],
        ["a step of training by paths (one for every image)", f"{ms(per_sample['timings']['loop'])} ms",
         f"{ms(per_sample['timings']['kernels'])} ms",
         f"{faster(*_pair(per_sample, 'kernels'))} ({_range(paths, 'kernels')} by case)", "`python -m bench.supernet`"],
        ["zero-cost `naswot` on NAS-Bench-201, rank correlation with accuracy", f"{score['stored']:.3f} (published)",
         f"{score['own']:.3f}", "", "`python -m bench.estimators zero-cost`"],
        ["evolution by morphism, beside the best search from scratch at equal cost",
         f"{result_tables.accuracy_by_morphism(rival):.1f} %",
         f"{result_tables.accuracy_by_morphism('evolution by morphism'):.1f} %",
         f"+{result_tables.spread(verdict['lead over search'], verdict['error over search'], 1)} points",
         "`python -m bench.estimators morphism`"],
    ]  # fmt: skip
    return _markdown(["", "compared with", "nasfast", "ratio or lead", "repeat it with"], rows)


def _pair(case: dict[str, dict[str, dict[str, float]]], fast: str) -> tuple[dict[str, float], dict[str, float]]:
    return case["timings"]["loop"], case["timings"][fast]


def _range(cases: list[dict[str, dict[str, dict[str, float]]]], fast: str) -> str:
    ratios = [slow["median_seconds"] / own["median_seconds"] for slow, own in (_pair(case, fast) for case in cases)]
    return f"{min(ratios):.1f}x to {max(ratios):.1f}x"


TABLES: dict[str, Callable[[], str]] = {"routes": routes, "measured": measured}


def rewritten(text: str) -> str:
    """The text with every table made anew."""
    for name, make in TABLES.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, opened, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not opened or not closed:
            raise SystemExit(f"README.md needs a table between {begin} and {end}")
        text = f"{before}{begin}\n{make()}\n{end}{after}"
    return text


def main() -> int:
    readme = ROOT / "README.md"
    old = readme.read_text()
    new = rewritten(old)
    if "--check" in sys.argv:
        if new != old:
            print("README.md is out of date: run `python docs/readme_tables.py`", file=sys.stderr)
        return int(new != old)
    readme.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
