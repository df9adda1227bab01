"""Tiny one-shot searches for the tests, and how to compare two of them bit for bit."""

import json
from pathlib import Path
from typing import Any

from nasfast.config.oneshot import OneShotConfig
from nasfast.search.inputs import load_run_data
from nasfast.search.oneshot.training import SupernetTraining
from nasfast.utils.progress import Progress
from tests.helpers.runs import assert_same_checkpoints, without_times

TINY: dict[str, Any] = {
    "space": "nasbench201",
    "space_set": ["channels=4", "cells=1"],
    "epochs": 2,
    "batch_size": 256,
    "calibration": 64,
    "rewards": 12,
    "reward_images": 32,
    "set": [],
    "evaluations": 24,
    "ask": 6,
    "retrain_epochs": 1,
    "retrain_batch_size": 256,
    "threads": 1,
    "checkpoint_seconds": 1e9,
}

CONTROLLER = ["batch=4", "hidden=8"]


def tiny(strategy: str = "spos", **settings: Any) -> OneShotConfig:
    """A search of a second or two on real digits."""
    given = {**TINY, "strategy": strategy, **settings}
    if strategy == "enas" and not given["set"]:
        given["set"] = CONTROLLER
    return OneShotConfig.of(given)


def training_of(strategy: str = "spos", **settings: Any) -> SupernetTraining:
    """The training of such a search, on one rank."""
    config = tiny(strategy, **settings)
    return SupernetTraining(config, config.make_space(), load_run_data(config, Progress(quiet=True)))


def log_of(run: Path) -> list[Any]:
    """The rows of a log, without times."""
    return [without_times(json.loads(line)) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_searches(one: Path, other: Path) -> None:
    """Two run folders hold the same bits: weights, optimizer, samplers, trials, found architectures, networks."""
    assert {"checkpoint.pt", "search.pt"} <= set(assert_same_checkpoints(one, other))
    assert log_of(one) == log_of(other)
    for path in [one / "architectures.json", *one.glob("*.safetensors")]:
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name
