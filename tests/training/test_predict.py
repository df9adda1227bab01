"""Photos in, a searched network, and what it sees in them: from files of any size to names of classes."""

import csv
import json
import os
import re

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import nasfast
from nasfast.cli.app import app
from nasfast.errors import DataError
from tests.helpers.runs import TINY

CLASSES = ("bright", "dark")


def write_photo(path, label, index):
    """Bright or dark, of a size and kind that its number decides."""
    generator = np.random.default_rng(100 * label + index)
    height, width = generator.integers(20, 60, 2)
    pixels = generator.integers(0, 120, (height, width, 3), dtype=np.uint8) + np.uint8(130 * (1 - label))
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos") / "photos"
    for half, count in (("train", 24), ("test", 6)):
        for label, name in enumerate(CLASSES):
            (root / half / name).mkdir(parents=True)
            for index in range(count):
                write_photo(root / half / name / f"{index:02}{('.jpg', '.png')[index % 2]}", label, index)
    return root


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    settings = TINY | {"data": str(photos), "retrain_epochs": 20}
    return nasfast.run_search(out=tmp_path_factory.mktemp("predict") / "run", **settings).path


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_batches_are_no_larger_than_the_photos_allow(run, photos, tmp_path, caplog):
    with caplog.at_level("INFO", "nasfast"):
        nasfast.run_search(out=tmp_path / "run", **TINY | {"data": str(photos), "retrain": False, "epochs": 1})
    said = [record.message for record in caplog.records]
    assert "the batch size is 24: there are no more images to draw a batch from" in said
    assert "the retrain batch size is 48: there are no more images to draw a batch from" in said
    kept = json.loads((run / "config.json").read_text())["search"]
    assert (kept["batch_size"], kept["retrain_batch_size"]) == (24, 48)


def test_predictions_are_what_evaluate_counts(run, photos):
    found = nasfast.predict_images(run, photos / "test")
    right = [name == file.split(os.sep)[-2] for name, file in zip(found.classes, found.files, strict=True)]
    accuracy, loss = nasfast.evaluate_model(run)
    assert len(right) == 12
    assert sum(right) / 12 == pytest.approx(accuracy)
    own = [CLASSES.index(file.split(os.sep)[-2]) for file in found.files]
    assert -np.log(found.probabilities[range(12), own]).mean() == pytest.approx(loss, abs=1e-6)
    assert np.allclose(found.probabilities.sum(1), 1)


def test_files_keep_their_order_and_more_than_a_batch_are_read(run, photos, tmp_path):
    one, other = photos / "test/dark/03.png", photos / "test/bright/02.jpg"
    for index in range(150):
        (tmp_path / f"{index:03}.png").symlink_to(one)
    found = nasfast.predict_images(run, [other, tmp_path, one])
    assert found.files == [str(other), *(str(tmp_path / f"{index:03}.png") for index in range(150)), str(one)]
    assert np.allclose(found.probabilities[1:], found.probabilities[-1], atol=1e-5)
    alone = nasfast.predict_images(run, str(other))
    assert np.allclose(alone.probabilities[0], found.probabilities[0], atol=1e-5)


def test_a_table_is_written_with_the_columns_of_every_class(run, photos, tmp_path):
    path = photos / "test/dark/03.png"
    result = invoke("predict", run, path, photos / "test/bright", "-o", tmp_path / "found.csv", "--quiet")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"wrote {tmp_path / 'found.csv'}: 7 images\n"
    rows = list(csv.DictReader((tmp_path / "found.csv").open(newline="")))
    assert list(rows[0]) == ["file", "prediction", "p_bright", "p_dark"]
    assert rows[0]["file"] == str(path)
    for row in rows:
        shares = {name: float(row[f"p_{name}"]) for name in CLASSES}
        assert row["prediction"] == max(shares, key=shares.get)
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)


def test_lines_for_people(run, photos):
    result = invoke("predict", run, photos / "test/dark", "--quiet")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 6
    assert all(re.fullmatch(r".*/test/dark/0\d\.(jpg|png): (bright|dark) \(\d+\.\d %\)", line) for line in lines)


def test_what_cannot_be_read_is_named_or_left_out(run, photos, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    write_photo(tmp_path / "good.png", 0, 3)
    with pytest.raises(DataError, match=r"cannot read image .*bad.jpg: not an image; skip_bad leaves such images out"):
        nasfast.predict_images(run, tmp_path)
    found = nasfast.predict_images(run, tmp_path, skip_bad=True)
    assert (found.files, found.skipped) == ([str(tmp_path / "good.png")], [str(tmp_path / "bad.jpg")])
    none = nasfast.predict_images(run, tmp_path / "bad.jpg", skip_bad=True)
    assert (none.files, none.classes, none.probabilities.shape, str(none)) == ([], [], (0, 2), "")
    (tmp_path / "empty").mkdir()
    for images, message in (([], "no images are given"), (tmp_path / "gone", "there is no image or folder"),
                            (tmp_path / "empty", "holds no images")):  # fmt: skip
        with pytest.raises(DataError, match=message):
            nasfast.predict_images(run, images)
    result = invoke("predict", run, tmp_path, "--quiet")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "--skip-bad" in result.stderr


def test_file_names_that_are_no_text_are_written_as_they_are(run, tmp_path):
    name = os.fsencode(tmp_path) + b"/photo-\xff.png"
    write_photo(os.fsdecode(name), 0, 5)
    nasfast.predict_images(run, os.fsdecode(name)).to_csv(tmp_path / "found.csv")
    assert b"photo-\xff.png,bright" in (tmp_path / "found.csv").read_bytes().replace(b"dark", b"bright")
