"""Exported networks give PyTorch's outputs on real images, and nothing half-made is left behind."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nasfast.data import load_data, normalize
from nasfast.errors import ExportError, RunError
from nasfast.export import formats as export
from nasfast.export.formats import export_onnx, export_pt2
from nasfast.runs.folder import RunFolder
from nasfast.spaces.darts import random_genotype
from nasfast.training.config import RetrainConfig
from nasfast.training.genotype_trainer import retrain
from nasfast.training.model_file import load_model
from tests.helpers.require import require

CONFIG = RetrainConfig(channels=4, layers=3, epochs=1, batch_size=32, seed=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder.create(tmp_path_factory.mktemp("export") / "run", {})
    data = load_data("digits")
    data = replace(data, train_images=data.train_images[:64], train_labels=data.train_labels[:64])
    retrain(random_genotype(torch.Generator().manual_seed(2)), data, folder, CONFIG)
    folder.close()
    return folder


def _expected(run: RunFolder, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Test images, uint8 [N, H, W, C], and the logits the trained network gives them."""
    model = load_model(run)
    images = load_data("digits").test_images[:count]
    with torch.no_grad():
        logits, _ = model.network(normalize(images, model.info.mean, model.info.std))
    return images, logits


def test_pt2_gives_the_same_outputs(run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    assert export_pt2(run, path) <= export.TOLERANCE
    extra = {"nasfast.json": ""}
    program = torch.export.load(io.BytesIO(path.read_bytes()), extra_files=extra)
    for batch in (1, 5, 32):
        images, logits = _expected(run, batch)
        torch.testing.assert_close(program.module()(images), logits, rtol=1e-4, atol=1e-5)
    metadata = {
        name: json.loads(text) for name, text in json.loads(extra["nasfast.json"]).items() if name != "genotype"
    }
    assert metadata["class_names"] == [str(i) for i in range(10)]
    assert metadata["image_size"] == [8, 8]
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt2"]


def test_onnx_gives_the_same_outputs(run: RunFolder, tmp_path: Path) -> None:
    onnx = require("onnx")
    onnxruntime = require("onnxruntime")
    require("onnxscript")
    path = tmp_path / "net.onnx"
    assert export_onnx(run.path, path) <= export.TOLERANCE
    onnx.checker.check_model(str(path))
    assert {p.key for p in onnx.load(str(path)).metadata_props} >= {"class_names", "image_size", "genotype"}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch in (1, 5, 32):
        images, logits = _expected(run, batch)
        (got,) = session.run(None, {"images": images.numpy()})
        np.testing.assert_allclose(got, logits.numpy(), rtol=1e-4, atol=1e-5)
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]


def test_an_existing_file_is_kept_unless_forced(run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    path.write_text("precious")
    with pytest.raises(ExportError, match=r"net.pt2 exists already; --force overwrites it"):
        export_pt2(run, path)
    assert path.read_text() == "precious"
    export_pt2(run, path, force=True)
    assert path.stat().st_size > 1000


def test_what_cannot_be_exported_says_why(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="there is no folder"):
        export_pt2(run, tmp_path / "absent" / "net.pt2")
    with pytest.raises(ExportError, match="expected the name of a file"):
        export_pt2(run, tmp_path, force=True)
    with pytest.raises(RunError, match=r"has no retrained network 'random'.*nasfast retrain"):
        export_pt2(run, tmp_path / "net.pt2", "random")
    assert not list(tmp_path.iterdir())


def test_missing_onnx_packages_are_named(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExportError, match=r"needs onnxruntime: pip install 'nasfast\[onnx\]'"):
        export_onnx(run, tmp_path / "net.onnx")


def test_outputs_that_differ_are_not_written(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(ExportError, match=r"outputs differ from PyTorch's by .*; nothing was written"):
        export_pt2(run, tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())
