"""Files of trained networks: nothing else is read from them than was written."""

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from nasfast.errors import RunError
from nasfast.runs.folder import RunFolder
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.training.model_file import load_model, model_path, save_model
from nasfast.training.space_network import SpaceModelInfo

ARCH = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with a network of NAS-Bench-201, drawn from a seed."""
    run = RunFolder.create(tmp_path / "run", {})
    torch.manual_seed(0)
    space = NASBench201(channels=4, cells=1)
    info = SpaceModelInfo(
        label="best", space="nasbench201", settings={"channels": "4", "cells": "1"}, arch=ARCH, in_channels=3,
        size=(8, 8), mean=(0.5,) * 3, std=(0.2,) * 3, class_names=("a", "b"), gated=(),
    )  # fmt: skip
    state = space.build(space.encode(ARCH), 2, 3).state_dict()
    save_model(run, info, state, torch.randint(256, (8, 8, 8, 3), dtype=torch.uint8))
    return run


def test_no_bit_of_a_model_changes_what_is_read(run: RunFolder) -> None:
    path = model_path(run, "best")
    content, whole = path.read_bytes(), load_model(run, "best")
    images = torch.randn(2, 3, 8, 8)
    expected = whole.network(images)
    draw, refused = random.Random(0), []
    for _ in range(300):
        damaged = bytearray(content)
        bit = draw.randrange(8 * len(content))
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            read = load_model(run, "best")
        except RunError as error:
            refused.append(str(error))
            continue
        assert read.info == whole.info
        assert torch.equal(read.network(images)[0], expected[0])
        assert torch.equal(read.images, whole.images)
    assert len(refused) > 290
    assert not any("\n" in text for text in refused)


def test_a_model_without_a_checksum_is_refused(run: RunFolder) -> None:
    path = model_path(run, "best")
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["nasfast"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del description["checksum"]
    save_file(tensors, path, {"nasfast": json.dumps(description)})
    with pytest.raises(RunError, match="is damaged: its checksum is not that of its content"):
        load_model(run, "best")
