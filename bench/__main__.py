"""All benches, one after the other: `python -m bench [--quick] [--threads N] [--compile SECONDS]`."""

from __future__ import annotations

import subprocess
import sys

from bench.environment import ROOT


def main() -> int:
    if any(argument.startswith(("--json", "--plot")) for argument in sys.argv):
        print(
            "python -m bench: give --json and --plot to one of "
            "bench.mixed_op, bench.relu_conv_bn, bench.network, bench.child_eval, bench.supernet, bench.table",
            file=sys.stderr,
        )
        return 2
    for name in ("mixed_op", "relu_conv_bn", "network", "child_eval", "supernet", "table"):
        print(f"\n# bench.{name}", flush=True)
        code = subprocess.run([sys.executable, "-m", f"bench.{name}", *sys.argv[1:]], cwd=ROOT, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
