"""Candidates of a search that were trained: the checkpoint of each, which has its weights and its result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasfast.morphism import MorphNetwork
from nasfast.runs.checkpoint import CheckpointError, load_checkpoint
from nasfast.spaces.base import Rows, Space

_KIND, _PREFIX, _GATES = "retrain", "network.", "gates."
RUNGS = "rungs"
"""In the checkpoint of a training that goes on from rung to rung: the results so far."""


def candidate_label(row: Rows, epochs: int) -> str:
    """Name of a row's training of so many epochs; some estimators put more behind it."""
    return blake2b(repr((row.tolist(), epochs)).encode(), digest_size=10).hexdigest()


def find_candidate(folder: Path, row: Rows, epochs: Iterable[int]) -> Path | None:
    """The checkpoint of a row's training, of the first of ``epochs`` that there is one of; None where there is none."""
    labels = (candidate_label(row, count) for count in epochs)
    return next((path for label in labels for path in sorted(folder.glob(f"retrain-{label}*.pt"))), None)


def load_candidate(space: Space, row: Rows, path: Path, num_classes: int, in_channels: int) -> MorphNetwork:
    """The network of a candidate with the weights in its checkpoint.

    Raises:
        CheckpointError: The file is missing, damaged, or of something else.
    """
    return _network_of(load_checkpoint(path, _KIND), space, row, num_classes, in_channels)


def load_trained(space: Space, row: Rows, path: Path, num_classes: int, in_channels: int) -> MorphNetwork:
    """The network of a candidate whose training was finished, or has come to a rung.

    Raises:
        CheckpointError: The file is missing, damaged, of something else, or of a training that was not finished.
    """
    if not path.is_file():
        raise CheckpointError(
            f"the weights of {space.decode(row)}, which was trained, are not at {path}; expected there, on every "
            "machine that trains what was made from it"
        )
    content = load_checkpoint(path, _KIND)
    if content["result"] is None and not content.get(RUNGS):
        raise CheckpointError(
            f"{path} is of a training of {space.decode(row)} that was not finished; expected its weights at the end"
        )
    return _network_of(content, space, row, num_classes, in_channels)


def _network_of(
    content: Mapping[str, Any], space: Space, row: Rows, num_classes: int, in_channels: int
) -> MorphNetwork:
    saved: Mapping[str, Tensor] = content["network"]
    state = {name.removeprefix(_PREFIX): value for name, value in saved.items()}
    gated = [int(name.split(".")[1]) for name in state if name.startswith(_GATES)]
    with torch.random.fork_rng(devices=[]):
        network = MorphNetwork(space, row, num_classes, in_channels, gated)
    network.load_state_dict(state)
    return network
