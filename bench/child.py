"""Runs one measurement in a process of its own, with a time limit.

For what spoils a process (its peak memory, a compiler that may not come back) or must not be spoiled by one.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from typing import Any

from bench.environment import ROOT

COLD_COMPILER = {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
"""Variables that make torch.compile take as long as it does the first time."""


class ChildFailedError(RuntimeError):
    """The child process ended with an error; the message is the last line it printed."""


def run_child(target: str, arguments: dict[str, Any], limit: float, variables: dict[str, str] | None = None) -> Any:
    """The result of `target` ("package.module:function") called with keyword `arguments` in a new process.

    Arguments and result go through JSON; `variables` are added to the environment. Returns None when `limit` seconds
    were not enough.

    Raises:
        ChildFailedError: the function raised.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.child", target, json.dumps(arguments)],
        cwd=ROOT,
        env=os.environ | (variables or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)  # with the compiler's workers, which hold the pipes open
        child.communicate()
        return None
    if child.returncode:
        lines = errors.strip().splitlines() or ["no output"]
        raise ChildFailedError(f"{target}: {lines[-1]}")
    return json.loads(output.strip().splitlines()[-1])


def main() -> None:
    module, function = sys.argv[1].split(":")
    result = getattr(importlib.import_module(module), function)(**json.loads(sys.argv[2]))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
