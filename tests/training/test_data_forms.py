"""The same photos as a folder, an archive and a table: all that is done with a run of one can be done with another."""

import csv
import os
import shutil
import signal

import numpy as np
import pytest

import nasfast
from nasfast.data import Sampler
from nasfast.errors import DataError
from tests.helpers.runs import TINY, logged, without_times
from tests.helpers.sealed import replace_sealed
from tests.training.test_predict import CLASSES, invoke, write_photo


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """Paths by what is there."""
    root = tmp_path_factory.mktemp("forms")
    for label, name in enumerate(CLASSES):
        (root / "photos" / name).mkdir(parents=True)
        for index in range(24):
            write_photo(root / "photos" / name / f"{index:02}{('.jpg', '.png')[index % 2]}", label, index)
    with open(root / "labels.csv", "w", newline="", encoding="utf-8") as file:
        rows = ((path.relative_to(root), path.parent.name) for path in sorted((root / "photos").rglob("*.*")))
        csv.writer(file).writerows([("file", "label"), *rows])
    made = {"folder": root / "photos", "table": root / "labels.csv"}
    for kind, base in (("zip", None), ("gztar", "photos")):
        place = root / "photos" if base is None else root
        made[kind] = shutil.make_archive(str(root / f"packed-{kind}"), kind, place, base)
    return {kind: str(path) for kind, path in made.items()}


@pytest.fixture(scope="module")
def run(forms, tmp_path_factory):
    """Of the folder."""
    settings = TINY | {"data": forms["folder"], "retrain_epochs": 10}
    return nasfast.run_search(out=tmp_path_factory.mktemp("runs") / "run", **settings).path


def with_data(run, forms, kind, target):
    """A copy of a run of the folder that is of another form of it."""
    shutil.copytree(run, target)
    replace_sealed(target / "config.json", forms["folder"], forms[kind])
    return target


@pytest.mark.parametrize("kind", ["zip", "gztar", "table"])
def test_a_run_of_a_folder_is_one_of_its_other_forms(run, forms, kind, tmp_path):
    expected = nasfast.evaluate_model(run)
    assert nasfast.evaluate_model(run, data=forms[kind]) == expected
    copy = with_data(run, forms, kind, tmp_path / "copy")
    assert nasfast.evaluate_model(copy) == expected
    again = nasfast.retrain_run(copy, label="again", epochs=1, batch_size=16)
    first = nasfast.retrain_run(
        with_data(run, forms, "folder", tmp_path / "same"), label="again", epochs=1, batch_size=16
    )
    assert (again.test_acc, again.test_loss) == (first.test_acc, first.test_loss)
    assert nasfast.export_model(copy, format="pt2").is_file()


@pytest.mark.parametrize("kind", ["zip", "gztar", "table"])
def test_a_run_goes_on_with_another_form_to_the_same_bits(run, forms, kind, tmp_path, monkeypatch):
    calls = []
    draw = Sampler.next

    def stop(sampler):
        calls.append(sampler)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return draw(sampler)

    with monkeypatch.context() as patched:
        patched.setattr(Sampler, "next", stop)
        with pytest.raises(KeyboardInterrupt):
            nasfast.run_search(out=tmp_path / "cut", **TINY | {"data": forms["folder"], "retrain_epochs": 10})
    copy = with_data(tmp_path / "cut", forms, kind, tmp_path / "copy")
    assert not nasfast.resume_run(copy).was_finished
    assert without_times(logged(copy)) == without_times(logged(run))
    assert (copy / "genotype.json").read_text() == (run / "genotype.json").read_text()


def test_other_images_in_an_archive_are_refused(run, forms, tmp_path):
    copy = with_data(run, forms, "zip", tmp_path / "copy")
    shutil.copytree(forms["folder"], tmp_path / "photos")
    write_photo(tmp_path / "photos/dark/00.jpg", 1, 99)
    other = shutil.make_archive(str(tmp_path / "other"), "zip", tmp_path / "photos")
    replace_sealed(copy / "config.json", forms["zip"], other)
    result = invoke("evaluate", copy)
    assert result.exit_code == 1
    assert "the images of other.zip are no longer those that" in result.stderr


@pytest.mark.parametrize("kind", ["zip", "gztar", "table"])
def test_predictions_of_archives_and_tables(run, forms, kind):
    folder, other = nasfast.predict_images(run, forms["folder"]), nasfast.predict_images(run, forms[kind])
    assert np.array_equal(folder.probabilities, other.probabilities)
    start = {"zip": forms["zip"] + "/", "gztar": forms["gztar"] + "/photos/", "table": forms["folder"] + "/"}[kind]
    assert [file.removeprefix(start) for file in other.files] == [
        file.removeprefix(forms["folder"] + "/") for file in folder.files
    ]


def test_predictions_of_a_table_need_no_labels_but_its_files(run, forms, tmp_path):
    table = tmp_path / "files.csv"
    table.write_text(f"image;note\n{forms['folder']}/dark/01.png;\n{forms['folder']}/bright/00.jpg;dusk\n")
    found = nasfast.predict_images(run, [table, f"{forms['folder']}/dark/01.png"])
    assert [file.rpartition("/")[2] for file in found.files] == ["01.png", "00.jpg", "01.png"]
    table.write_text("image\ngone.png\n")
    with pytest.raises(DataError, match=r"files.csv: line 2 names gone.png, which is no file that exists; expected"):
        nasfast.predict_images(run, table)
    shutil.make_archive(str(tmp_path / "empty"), "zip", tmp_path, "files.csv")
    with pytest.raises(DataError, match=r"empty.zip holds no images; expected files like"):
        nasfast.predict_images(run, tmp_path / "empty.zip")


def test_the_command_searches_each_form(forms, tmp_path):
    pages = []
    for kind, path in forms.items():
        given = ["--space", "nasbench201", "--space-set", "channels=4", "--space-set", "cells=1", "--data", path]
        few = ["--evaluations", "2", "--proxy-images", "16", "--threads", "1", "--out", tmp_path / kind]
        result = invoke("search", *given, *few)
        assert result.exit_code == 0, result.output
        pages.append((tmp_path / kind / "architectures.json").read_text())
    assert len(set(pages)) == 1
