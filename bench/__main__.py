"""Both benches, one after the other: `python -m bench [--quick] [--threads N] [--compile SECONDS]`."""

from __future__ import annotations

import subprocess
import sys

from bench.environment import ROOT


def main() -> int:
    if any(argument.startswith(("--json", "--plot")) for argument in sys.argv):
        print("python -m bench: give --json and --plot to bench.mixed_op or bench.network", file=sys.stderr)
        return 2
    for name in ("mixed_op", "network"):
        print(f"\n# bench.{name}", flush=True)
        code = subprocess.run([sys.executable, "-m", f"bench.{name}", *sys.argv[1:]], cwd=ROOT, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
