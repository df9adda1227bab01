"""What is said when a fit is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FAMILY_NAMES = {
    "constant": "a constant",
    "linear": "linear alone",
    "boosting": "trees alone",
    "network": "networks alone",
}


def summary(about: Mapping[str, Any], task: str, target: str, folder: str) -> str:
    """About ten lines: the task, the score with its error, what it beats, what it is made of, where it is.

    Args:
        about: Of the model, see `nasfast.automl.describe`.
    """
    metric, board = about["metric"], about["leaderboard"]
    error, optimism = about["standard_error"], about["optimism"]
    judged = f"out of {about['folds']} folds" if about["folds"] > 1 else "on rows held out"
    lines = [
        f"task       {task} of {target!r}: {about['task_reason']}",
        f"score      {metric} {about['score']:.4f} ± {error:.4f}, {judged}; {optimism:.4f} of that may be luck",
    ]
    best: dict[str, float] = {}
    for row in board:
        best.setdefault(row["family"], row["score"])
    lines.append("beside     " + ", ".join(f"{FAMILY_NAMES[f]} {s:.4f}" for f, s in best.items()))
    members = sorted((row for row in board if row["weight"] > 0), key=lambda row: -row["weight"])
    lines.append("made of    " + ", ".join(f"{row['name']} {row['weight']:.2f}" for row in members))
    network, trees = best.get("network"), best.get("boosting")
    share = sum(row["weight"] for row in members if row["family"] == "network")
    if network is not None and trees is not None and share == 0:
        lines.append("networks   did not help on this table")
    lines.append(f"tried      {len(board)} candidates in {about['seconds']:.0f} s")
    lines.append(f"model      {folder}")
    return "\n".join(lines)
