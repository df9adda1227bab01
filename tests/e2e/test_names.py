"""Folders and classes whose names are no UTF-8, through everything that is done with a run."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import nasfast
from tests.helpers.runs import tiny_options


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """A folder of images and a run, by names in Latin-1."""
    root = tmp_path_factory.mktemp("names")
    photos, run = (root / os.fsdecode(name) for name in (b"fotos \xe9t\xe9", b"l\xe4uft"))
    generator = np.random.default_rng(0)
    for name, level in ((b"caf\xe9", 40), (b"th\xe9", 200)):
        folder = photos / os.fsdecode(name)
        folder.mkdir(parents=True)
        for index in range(40):
            pixels = generator.normal(level, 20, (8, 8, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / os.fsdecode(b"\xe0 %d.png" % index))
    settings = {"epochs": 1, "retrain": True, "retrain_epochs": 1, "retrain_batch_size": 16, "batch_size": 16}
    options = tiny_options(**settings, data=photos)
    assert os.fsencode(run / "report.html") in printed("search", *options, "--out", run)
    return photos, run


def printed(*arguments):
    """What a command prints in a process of its own."""
    command = list(map(os.fsencode, (sys.executable, "-m", "nasfast", *arguments)))
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def test_the_report_shows_them(paths):
    page = (paths[1] / "report.html").read_text()
    assert "caf\\udce9" in page
    assert "<summary>derived</summary>" in page


def test_the_network_is_tested_and_sees_images(paths):
    photos, run = paths
    accuracy, _ = nasfast.evaluate_model(run)
    assert 0 <= accuracy <= 1
    found = nasfast.predict_images(run, [photos / os.fsdecode(b"caf\xe9")])
    assert set(found.classes) <= {"caf\\udce9", "th\\udce9"}
    assert len(found.probabilities) == 40


def test_commands_print_them(paths):
    photos, run = paths
    assert os.fsencode(run) in printed("search", "--resume", run)
    assert b"more" in printed("retrain", run, "--label", "more", "--epochs", "1", "--batch-size", "16", "--quiet")
    assert b"test accuracy" in printed("evaluate", run, "--quiet")
    assert rb"\udce0 1.png" in printed("predict", run, photos, "--quiet")


@pytest.mark.needs("onnxruntime")
@pytest.mark.needs("onnxscript")
def test_the_network_is_exported(paths):
    assert nasfast.export_model(paths[1], format="onnx").is_file()


def test_the_network_is_exported_for_pytorch(paths):
    assert nasfast.export_model(paths[1], format="pt2").is_file()
