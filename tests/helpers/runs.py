"""Tiny searches for the tests, and how to compare two runs bit for bit."""

import json
from pathlib import Path
from typing import Any

import optuna
import torch

from nasfast.config.gradient import SearchConfig
from nasfast.runs.checkpoint import load_checkpoint
from nasfast.search.blackbox.optuna_study import STUDY

TINY: dict[str, Any] = {
    "data": "digits",
    "channels": 4,
    "layers": 2,
    "steps": 2,
    "epochs": 2,
    "batch_size": 128,
    "retrain_epochs": 2,
    "retrain_channels": 4,
    "retrain_layers": 2,
    "retrain_batch_size": 256,
    "threads": 1,
    "checkpoint_seconds": 1e9,
}

_TIMES = ("seconds", "spent", "images_per_second", "peak_memory_bytes", "crc")  # a checksum of times too


def tiny_config(**settings: Any) -> SearchConfig:
    """A search of seconds on real digits."""
    return SearchConfig.of({**TINY, **settings})


def tiny_options(**settings: Any) -> list[str]:
    """The same as options of the command line."""
    options = []
    for name, value in {**TINY, **settings}.items():
        name = name.replace("_", "-")
        options += [f"--{'' if value else 'no-'}{name}"] if isinstance(value, bool) else [f"--{name}", str(value)]
    return options


def without_times(value: Any) -> Any:
    """A copy without what a clock or the memory decides."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in _TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def assert_same_bits(one: Any, other: Any, where: str = "") -> None:
    """Containers of the same shape, with equal values and tensors of the same bits."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same_bits(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_same_bits(*pair, f"{where}/{index}")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        assert one.shape == other.shape, where
        assert one.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes(), where
    else:
        assert one == other, where


def _lines(run: Path) -> list[str]:
    return (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()


def logged(run: Path) -> list[Any]:
    """The rows of a run's log."""
    return [json.loads(line) for line in _lines(run)]


def search_state(run: Path) -> Any:
    """Of a black-box search: what its last checkpoint says of the strategy."""
    return json.loads(load_checkpoint(run / "checkpoint.pt", "blackbox")["search"])


def load_study(path: Path) -> optuna.Study:
    """A run's study as any program of Optuna's reads it."""
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    return optuna.load_study(study_name=STUDY, storage=optuna.storages.JournalStorage(backend))


def study_of(run: Path, times: bool = False) -> list[dict[str, Any]]:
    """The trials in a run's file of Optuna's, with the times of the clock or without."""
    found = []
    for trial in load_study(run / "optuna.journal").trials:
        what = {"number": trial.number, "state": trial.state.name, "values": trial.values, "params": trial.params}
        what |= {"rungs": trial.intermediate_values, "attrs": trial.user_attrs}
        found.append(what | ({"started": trial.datetime_start, "ended": trial.datetime_complete} if times else {}))
    return found


def assert_same_checkpoints(one: Path, other: Path) -> list[str]:
    """Two run folders hold checkpoints of the same names with the same bits; returns the names."""
    checkpoints = sorted(path.name for path in one.glob("*.pt"))
    assert checkpoints
    assert checkpoints == sorted(path.name for path in other.glob("*.pt"))
    for name in checkpoints:
        contents = []
        for run in (one, other):
            content = without_times(torch.load(run / name, weights_only=True))
            content.pop("metrics_position", None)  # the log holds times, of varying length
            contents.append(content)
        assert_same_bits(*contents, name)
    return checkpoints


def assert_same_runs(one: Path, other: Path) -> None:
    """Two run folders hold the same bits: weights, architecture, optimizers, order, random states, log, networks."""
    assert_same_checkpoints(one, other)
    derived = [path for path in (one / "genotype.json", one / "architectures.json") if path.exists()]
    assert derived
    for path in [*derived, *one.glob("*.safetensors")]:
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name
    logs = [[without_times(json.loads(line)) for line in _lines(run)] for run in (one, other)]
    assert logs[0] == logs[1]
