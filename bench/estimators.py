"""Estimators on real data, each against what it must beat: python -m bench.estimators NAME --help."""

from __future__ import annotations

import importlib
import sys

BENCHES = {
    "compare": "bench.compare",
    "curves": "bench.curves",
    "fidelity": "bench.fidelity",
    "morphism": "bench.morphism",
    "zero-cost": "bench.zero_cost",
}
"""Module of each, whose ``main(arguments)`` runs it."""


def main() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in BENCHES:
        print(f"usage: python -m bench.estimators {{{','.join(BENCHES)}}} [--help]", file=sys.stderr)
        return 0 if name in ("-h", "--help") else 2
    return int(importlib.import_module(BENCHES[name]).main(sys.argv[2:]))


if __name__ == "__main__":
    sys.exit(main())
