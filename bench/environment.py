"""What a measurement was taken on: machine, software, commit."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

import torch

import nasfast._C as extension
from bench.tables import Row

ROOT = Path(__file__).resolve().parent.parent


def describe(device: str, threads: int) -> dict[str, object]:
    """Names and versions, JSON-ready. `load` is the load average before the run: high means others ran beside it."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "python": platform.python_version(),
        "build": {name: str(value) for name, value in extension.build_info().items()},
        "commit": git_commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def as_rows(environment: dict[str, object]) -> list[Row]:
    rows: list[Row] = []
    for name, value in environment.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        rows.append((name, text))
    return rows


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def git_commit() -> str:
    """The short commit, with '+' when tracked files differ from it; 'unknown' outside a clone."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return result.stdout.strip()
