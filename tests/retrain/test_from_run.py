"""Networks of a search of a space: trained again at another size, tested from their file, exported."""

import io
import json
import re
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from nasfast.cli.app import app
from nasfast.data import load_data, normalize
from nasfast.errors import DataError, RunError
from nasfast.export.formats import TOLERANCE, export_pt2
from nasfast.runs.folder import RunFolder
from nasfast.search.gradient.runner import run_gradient
from nasfast.spaces import Space
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.spaces.operations import Classifier, conv_bn
from nasfast.training.evaluate import evaluate
from nasfast.training.mistakes import mistakes_path, read_mistakes
from nasfast.training.model_file import load_model, model_path
from tests.helpers.sealed import write_sealed
from tests.search.gradient.test_space_search import rows, tiny


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored") / "run"
    run_gradient(tiny(strategy="gdas", epochs=1), folder)
    return folder


def test_evaluate_repeats_the_result_of_each_network(searched):
    results = [row for row in rows(searched, "result") if row["label"] in ("derived", "random")]
    assert len(results) == 2
    for row in results:
        printed = invoke("evaluate", searched, "--label", row["label"], "--quiet").stdout
        expected = f"test accuracy {100 * row['test_acc']:.2f} %, test loss {row['test_loss']:.4f}\n"
        assert printed == f"{row['label']}: {expected}"
        mistakes = read_mistakes(mistakes_path(RunFolder(searched), row["label"]))
        right = sum(count for own, seen, count in mistakes.confusion if own == seen)
        assert right / sum(count for _, _, count in mistakes.confusion) == row["test_acc"]
    assert invoke("evaluate", searched, "--quiet").stdout.startswith("derived: ")


def test_the_found_architecture_is_trained_again_larger(searched):
    result = invoke(
        "retrain", searched, "--label", "wide", "--space-set", "channels=8", "--epochs", 1, "--seed", 3, "--quiet"
    )
    assert result.exit_code == 0, result.output
    model = load_model(RunFolder.open(searched, lock=False), "wide")
    found = json.loads((searched / "architectures.json").read_text())["architectures"]["derived"]["arch"]
    assert model.info.arch == found
    assert model.info.settings == {"channels": "8", "cells": "1"}
    expected = NASBench201(8, 1).build(NASBench201().encode(found), 10, 3)
    shapes = {name: tensor.shape for name, tensor in model.network.network.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in expected.state_dict().items()}
    again = invoke("retrain", searched, "--label", "wide", "--epochs", 1, "--seed", 3, "--quiet")
    assert "was made with settings of the space" in again.stderr
    assert "--force to start again" in again.stderr
    assert "<summary>wide</summary>" in (searched / "report.html").read_text()


def test_another_architecture_is_trained_by_its_text(searched):
    cell = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|"
    result = invoke("retrain", searched, "--label", "mine", "--arch", cell, "--epochs", 1, "--quiet")
    assert result.exit_code == 0, result.output
    assert load_model(RunFolder.open(searched, lock=False), "mine").info.architecture["arch"] == cell


def test_export_gives_the_outputs_of_the_network_in_the_file(searched, tmp_path):
    path = tmp_path / "net.pt2"
    result = invoke("export", searched, "--format", "pt2", "--out", path)
    assert result.exit_code == 0, result.output
    extra = {"nasfast.json": ""}
    program = torch.export.load(io.BytesIO(path.read_bytes()), extra_files=extra)
    model = load_model(RunFolder.open(searched, lock=False))
    images = load_data("digits").test_images[:5]
    with torch.no_grad():
        logits, _ = model.network(normalize(images, model.info.mean, model.info.std))
    torch.testing.assert_close(program.module()(images), logits, rtol=1e-4, atol=1e-5)
    assert json.loads(extra["nasfast.json"])["space"] == "nasbench201"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["retrain", "RUN", "--channels", "8"], "--channels does not go with RUN, a search of the space nasbench201"),
        (["retrain", "RUN", "--no-auxiliary"], "--auxiliary does not go with RUN"),
        (["retrain", "RUN", "--arch", "foo"], "foo"),
        (["retrain", "RUN", "--space-set", "width=2"], "nasbench201 has no setting 'width'"),
        (["retrain", "RUN", "--label", "../x"], "a label is made of letters, digits, - and _"),
        (["evaluate", "RUN", "--label", "absent"], "has no retrained network 'absent'"),
        (["export", "RUN", "--label", "absent", "--format", "pt2"], "has derived, "),
    ],
)
def test_what_does_not_go_says_why_in_one_line(searched, command, message):
    result = invoke(*(searched if part == "RUN" else part for part in command))
    assert result.exit_code == 1, result.output
    assert len(result.stderr.splitlines()) == 1
    assert message.replace("RUN", str(searched)) in result.stderr


def test_a_search_that_has_found_nothing_yet_says_so(searched, tmp_path):
    empty = tmp_path / "run"
    RunFolder.create(empty, json.loads((searched / "config.json").read_text())).close()
    result = invoke("retrain", empty, "--quiet")
    assert "has found no architecture yet" in result.stderr
    write_sealed(empty / "architectures.json", {"architectures": {}})
    assert "cannot be read as architectures of nasbench201" in invoke("retrain", empty, "--quiet").stderr


class TwoLayers(Space):
    operations = {"conv": conv_bn, "head": Classifier}  # noqa: RUF012
    fixed_wiring = True

    def __init__(self):
        super().__init__("two-layers", {"first": ("conv", "identity"), "second": ("conv", "identity")})

    def wire(self, choices, net):
        x = net.op("conv", net.input, 8, at="stem")
        for place, operation in choices.items():
            x = net.op(operation, x, at=place)
        return net.op("head", x, net.num_classes, at="head")


def test_networks_of_a_space_of_your_own_need_that_space(tmp_path):
    space = TwoLayers()
    result = run_gradient(tiny(strategy="gdas", epochs=1, space="", space_set=()), tmp_path / "run", space=space)
    data = load_data("digits")
    accuracy, _ = evaluate(tmp_path / "run", data, "derived", space=space)
    assert accuracy == result.results["derived"].test_acc
    assert export_pt2(tmp_path / "run", tmp_path / "net.pt2", space=space) <= TOLERANCE
    with pytest.raises(RunError, match="two-layers is a space of your own; give it from Python, as space="):
        evaluate(tmp_path / "run", data, "derived")
    with pytest.raises(RunError, match="the network is of the space two-layers, got the space nasbench201"):
        evaluate(tmp_path / "run", data, "derived", space=NASBench201())
    result = invoke("evaluate", tmp_path / "run", "--quiet")
    assert result.exit_code == 1
    assert "two-layers" in result.stderr
    folder = RunFolder.open(tmp_path / "run", lock=False)
    whole = model_path(folder, "derived").read_bytes()
    model_path(folder, "derived").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="is truncated or damaged"):
        evaluate(tmp_path / "run", data, "derived", space=space)


def write_classes(folder, count, start=0):
    for label, name in enumerate(("bright", "dark")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(start, start + count):
            generator = np.random.default_rng(100 * label + index)
            pixels = generator.integers(0, 128, (8, 8, 3), dtype=np.uint8) + np.uint8(120 * (1 - label))
            Image.fromarray(pixels).save(folder / name / f"{index}.png")


def test_images_that_have_changed_are_refused(tmp_path):
    images, run = tmp_path / "images", tmp_path / "run"
    write_classes(images, 40)
    settings = tiny(strategy="gdas", epochs=1, data=str(images), batch_size=8, retrain_batch_size=8)
    run_gradient(settings, run)
    before = invoke("evaluate", run, "--quiet")
    assert before.exit_code == 0, before.output
    write_classes(images, 1, start=90)
    for command in (["evaluate", run], ["retrain", run, "--label", "again"]):
        result = invoke(*command, "--quiet")
        assert result.exit_code == 1
        assert re.search(r"images of images are no longer those that .*run has learned from", result.stderr)
        assert result.stderr.count("\n") == 1
    other = invoke("evaluate", run, "--data", images, "--quiet")
    assert other.exit_code == 0, other.output
    assert other.stdout.startswith(f"derived on {images}: test accuracy ")
    for name in ("bright", "dark"):
        (images / name / "90.png").unlink()
    assert invoke("evaluate", run, "--quiet").stdout == before.stdout


def test_other_images_are_scaled_to_the_size_that_was_learned(tmp_path):
    images, others, run = tmp_path / "images", tmp_path / "others", tmp_path / "run"
    write_classes(images, 40)
    run_gradient(tiny(strategy="gdas", epochs=1, data=str(images), batch_size=8, retrain_batch_size=8), run)
    shutil.copytree(images, others)
    for path in others.glob("*/*.png"):
        Image.open(path).resize((40, 24), Image.Resampling.NEAREST).save(path)
    result = invoke("evaluate", run, "--data", others)
    assert result.exit_code == 0, result.output
    assert "images of 40x24 pixels are scaled and cropped to 8x8" in result.output
    with pytest.raises(DataError, match=r"trained on images of 8x8 pixels, the data set others has 40x24 \(width"):
        evaluate(run, load_data(str(others)), "derived")


@pytest.mark.parametrize("text", ["", "[]", '{"fingerprint": 3}', '{"fingerprint": [1, 2, 3, 4]}', "\0"])
def test_a_damaged_record_of_the_images_is_one_line(searched, tmp_path, text):
    run = tmp_path / "copy"
    shutil.copytree(searched, run)
    (run / "data.json").write_text(text)
    result = invoke("evaluate", run, "--quiet")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "data.json" in result.stderr
    (run / "data.json").unlink()
    assert f"cannot read {run / 'data.json'}: No such file" in invoke("evaluate", run, "--quiet").stderr
