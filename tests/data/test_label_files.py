"""Tables of files and labels: how they are written, what contradicts itself, and what is left out."""

import csv
import os
import re

import numpy as np
import pytest
import torch
from PIL import Image

from nasfast.data import load_data
from nasfast.data.fingerprint import data_fingerprint
from tests.data.test_data import expect, write_images


def images(tmp_path, count=40, size=(4, 4)):
    """Files by name below the folder "pictures"."""
    (tmp_path / "pictures").mkdir()
    generator = np.random.default_rng(count)
    names = [f"pictures/{index:03}.png" for index in range(count)]
    for name in names:
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / name)
    return names


def write(tmp_path, rows, name="labels.csv", delimiter=",", encoding="utf-8"):
    """A table of these rows; returns its path."""
    with open(tmp_path / name, "w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return str(tmp_path / name)


def half_and_half(names):
    """Rows of cats and dogs by turns."""
    return [[name, ("cat", "dog")[index % 2]] for index, name in enumerate(names)]


def fingerprint(source, **options):
    data = load_data(source, **options)
    return data_fingerprint(data), data.class_names


@pytest.mark.parametrize(
    ("header", "turned", "delimiter", "encoding"),
    [
        (["path", "label"], False, ",", "utf-8"),
        (["Target", "Image Path"], True, ";", "utf-8-sig"),
        (["FILE", "Category"], False, "\t", "utf-16"),
        (["what", "where"], True, ",", "utf-8"),
        (["class", "picture"], True, ";", "utf-8"),
        (["filename", "species"], False, ",", "utf-8"),
        ([], False, ",", "utf-8"),
        ([], True, "\t", "utf-8-sig"),
    ],
)
def test_ways_to_write_the_same_table(tmp_path, header, turned, delimiter, encoding):
    rows = half_and_half(images(tmp_path))
    plain = write(tmp_path, [["image", "class"], *rows])
    rows = [row[::-1] for row in rows[::-1]] if turned else rows
    other = write(tmp_path, [header, [], *rows, [" ", ""]], "other.csv", delimiter, encoding)
    assert fingerprint(other) == fingerprint(plain)
    data = load_data(plain)
    assert data.class_names == ["cat", "dog"]
    assert len(data.train_labels) + len(data.test_labels) == 40
    assert data.notes == []


def test_a_table_of_a_folder_is_the_same_data_set(tmp_path):
    paths = write_images(tmp_path / "data", count=12)
    rows = [["file", "label"], *([str(path.relative_to(tmp_path)), path.parent.name] for path in paths[::-1])]
    table = write(tmp_path, rows, "labels.TSV", "\t")
    assert fingerprint(table) == fingerprint(str(tmp_path / "data"))


def test_each_image_has_the_label_of_its_line(tmp_path):
    names = images(tmp_path, 60)
    labels = [str(index % 12) for index in range(60)]
    data = load_data(write(tmp_path, [["path", "label"], *zip(names, labels, strict=True)]))
    assert data.class_names == [str(number) for number in range(12)]
    known = {
        np.asarray(Image.open(tmp_path / name)).tobytes(): label for name, label in zip(names, labels, strict=True)
    }
    for image, label in zip(
        torch.cat([data.train_images, data.test_images]), torch.cat([data.train_labels, data.test_labels]), strict=True
    ):
        assert known[image.numpy().tobytes()] == data.class_names[label]


def test_labels_stay_texts_in_natural_order(tmp_path):
    names, labels = images(tmp_path, 16), ["10", "9", "1.5", "01", "1", "a10", "a9", "a"]
    table = write(tmp_path, [["path", "label"], *([name, labels[i % 8]] for i, name in enumerate(names))])
    assert load_data(table).class_names == ["01", "1", "1.5", "9", "10", "a", "a9", "a10"]


def test_quotes_and_further_columns(tmp_path):
    names = images(tmp_path, 8)
    os.rename(tmp_path / names[0], tmp_path / 'pictures/a, "b".png')
    rows = half_and_half(['pictures/a, "b".png', *names[1:]])
    plain = write(tmp_path, [["path", "label"], *rows])
    wide = [["id", "Path", "width", "label"], *([i, name, 4, label] for i, (name, label) in enumerate(rows))]
    assert fingerprint(write(tmp_path, wide, "wide.csv")) == fingerprint(plain)


def test_paths_from_elsewhere(tmp_path):
    rows = half_and_half(images(tmp_path, 12))
    plain = fingerprint(write(tmp_path, [["path", "label"], *rows]))
    (tmp_path / "tables").mkdir()
    for make in (
        lambda name: f"../{name}",
        lambda name: str(tmp_path / name),
        lambda name: "..\\" + name.replace("/", "\\"),
    ):
        moved = [["path", "label"], *([make(name), label] for name, label in rows)]
        assert fingerprint(write(tmp_path / "tables", moved)) == plain


def test_the_column_of_parts_decides(tmp_path):
    names = images(tmp_path, 20)
    parts = ["Train", "training", "test", "val", "TRAIN"]
    rows = [[name, label, parts[i // 2 % 5]] for i, (name, label) in enumerate(half_and_half(names))]
    data = load_data(write(tmp_path, [["path", "label", "split"], *rows]))
    assert [len(data.train_labels), len(data.test_labels)] == [12, 4]
    assert data.notes == ["train and test are read; left out beside them: val (4)"]
    tested = {np.asarray(Image.open(tmp_path / row[0])).tobytes() for row in rows if row[2] == "test"}
    assert {image.numpy().tobytes() for image in data.test_images} == tested
    valid = [row for row in rows if row[2] != "test"]
    data = load_data(write(tmp_path, [["path", "what", "Subset"], *valid]))
    assert [len(data.train_labels), len(data.test_labels), data.notes] == [12, 4, []]
    train = [row for row in valid if row[2] != "val"]
    split = load_data(write(tmp_path, [["path", "label", "set"], *train]))
    plain = load_data(write(tmp_path, [["path", "label"], *(row[:2] for row in train)]))
    assert data_fingerprint(split) == data_fingerprint(plain)


def test_parts_that_make_no_sense(tmp_path):
    rows = [[*row, "train"] for row in half_and_half(images(tmp_path, 8))]
    header = ["path", "label", "split"]
    rows[3][2] = "holdout"
    expect(r"labels.csv: line 5 is for holdout; expected train, training or test", write(tmp_path, [header, *rows]))
    rows[3][2] = ""
    expect(r"labels.csv: line 5 is for nothing; expected train", write(tmp_path, [header, *rows]))
    rows[3][2] = "test"
    expect(r"class cat has images to train but none to test on", write(tmp_path, [header, *rows]))
    rows[3][1] = "cow"
    expect(r"class cat has images to train but none to test on", write(tmp_path, [header, *rows]))
    tests = [[*row[:2], "test"] for row in rows]
    expect(r"names images to test on alone; expected lines for train", write(tmp_path, [header, *tests]))


def test_two_labels_of_one_file(tmp_path):
    rows = half_and_half(images(tmp_path, 8))
    twice = [["path", "label"], *rows, [str(tmp_path / "pictures/../pictures/002.png"), "dog"]]
    expect(r"line 4 says .*002.png is cat, line 10 that it is dog; expected one label", write(tmp_path, twice))
    os.symlink("002.png", tmp_path / "pictures/link.png")
    linked = [["path", "label"], *rows, ["pictures/link.png", "dog"]]
    expect(r"line 4 says .*link.png is cat, line 10 that it is dog", write(tmp_path, linked))
    split = [["path", "label", "set"], *([*row, "train"] for row in rows), *([*row, "test"] for row in rows)]
    split[-1][1] = "cat"
    expect(r"line 9 says .*007.png is dog, line 17 that it is cat", write(tmp_path, split))


def test_a_file_that_is_named_again(tmp_path):
    rows = half_and_half(images(tmp_path, 8))
    plain = write(tmp_path, [["path", "label"], *rows])
    again = write(tmp_path, [["path", "label"], *rows, *rows[:2]], "again.csv")
    assert fingerprint(again) == fingerprint(plain)
    assert load_data(again).notes == ["left out 2 lines that name a file again"]
    both = [["path", "label", "set"], *([*row, "train"] for row in rows), *([*row, "test"] for row in rows[:2])]
    assert load_data(write(tmp_path, both, "both.csv")).repeated == 2


def test_few_missing_files_and_labels_are_left_out_and_said(tmp_path):
    rows = half_and_half(images(tmp_path, 40))
    plain = fingerprint(write(tmp_path, [["path", "label"], *rows]))
    missing, unlabelled = [["path", "label"], *rows, ["gone.png", "cat"]], [*rows, ["pictures", "dog"]]
    for table, said in (
        (missing, r"left out 1 of 41 lines of .*: line 42 names gone.png, which is no file that exists"),
        ([*missing, ["pictures/000.png", ""]], r"left out 2 of 42 lines of .*: line 42 names gone.png"),
        (unlabelled, r"left out 1 of 41 lines of .*: line 41 names pictures, which is no file"),
        ([["path", "label"], *rows, ["gone.png"]], r"line 42 names gone.png"),
        ([["label", "path"], *(row[::-1] for row in rows), ["cat"]], r"line 42 names no file"),
    ):
        found, names = fingerprint(write(tmp_path, table, "other.csv"))
        assert (found, names) == plain
        (note,) = load_data(str(tmp_path / "other.csv")).notes
        assert re.search(said, note)


def test_many_missing_files_and_labels_are_an_error(tmp_path):
    rows = half_and_half(images(tmp_path, 40))
    for row in rows[7:10]:
        row[0] += ".gone"
    table = write(tmp_path, [["path", "label"], *rows])
    expect(
        r"labels.csv: line 9 names pictures/007.png.gone, which is no file that exists \(3 such lines of 40\); "
        r"expected image files, from the table's folder on; --skip-bad leaves such lines out",
        table,
    )
    assert len(load_data(table, skip_bad=True).train_labels) < 37
    unlabelled = [["path", "label"], *([name, label if i % 3 else ""] for i, (name, label) in enumerate(rows[:7]))]
    expect(r"line 2 has no label for pictures/000.png \(3 such lines of 7\)", write(tmp_path, unlabelled))
    gone = [["path", "label"], *([f"{name}.gone", label] for name, label in rows)]
    expect(r"labels.csv names no image file that exists", write(tmp_path, gone), skip_bad=True)


def test_the_first_line_of_a_table_without_a_header_is_not_lost(tmp_path):
    rows = half_and_half(images(tmp_path, 40))
    os.remove(tmp_path / rows[0][0])
    assert load_data(write(tmp_path, rows)).notes[0].startswith("left out 1 of 40 lines")


def test_first_lines_that_could_be_either(tmp_path):
    rows = [[name, ("target", "dog")[index % 2]] for index, name in enumerate(images(tmp_path, 10))]
    plain = fingerprint(write(tmp_path, [["path", "label"], *rows]))
    assert fingerprint(write(tmp_path, rows)) == plain
    (tmp_path / "file").write_text("named as the column is")
    assert fingerprint(write(tmp_path, [["file", "species"], *rows])) == plain


def test_no_class_is_lost_with_its_files(tmp_path):
    rows = [*half_and_half(images(tmp_path, 40)), ["gone.png", "cow"]]
    table = write(tmp_path, [["path", "label"], *rows])
    for skip_bad in (False, True):
        expect(r"no image of class cow that .*labels.csv names exists", table, skip_bad=skip_bad)
    (tmp_path / "gone.png").write_text("no image")
    expect(r"class cow of .* holds one image", table)


def test_pipes_and_links_to_nowhere_are_left_out_as_in_folders(tmp_path):
    rows = half_and_half(images(tmp_path, 8))
    plain = fingerprint(write(tmp_path, [["path", "label"], *rows]))
    os.mkfifo(tmp_path / "pipe.png")
    os.symlink("gone", tmp_path / "link.png")
    table = write(tmp_path, [["path", "label"], *rows, ["pipe.png", "cat"], ["link.png", "dog"], ["/dev/zero", "dog"]])
    assert fingerprint(table) == plain
    assert load_data(table).notes == [
        "left out 3 files of special kinds: pipes, devices, links to nowhere or in an archive"
    ]


def test_unreadable_images_of_a_table(tmp_path):
    rows = half_and_half(images(tmp_path, 40))
    (tmp_path / "pictures/003.png").write_text("no image")
    data = load_data(write(tmp_path, [["path", "label"], *rows]))
    assert data.skipped == [str(tmp_path / "pictures/003.png")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,name,breed\n1,a,b\n", r"has the columns id, name, breed; expected one of files \(path, file, filename, "),
        ("id;name;breed\n1;a;b\n", r"has the columns id, name, breed; expected .* and one of labels \(label, class"),
        ("path,size,breed\n1,a,b\n", r"has the columns path, size, breed; expected one of files"),
        ("path\na.png\n", r"has the columns path; expected"),
        ("one,two\nx,y\n", r"has the columns one, two; expected"),
        ("path,image,label\na,b,c\n", r"has the columns path and image, which may mean the same; expected one of path"),
        ("path,label,class\na,b,c\n", r"has the columns label and class, which may mean the same; expected one of"),
        ("", r"is empty; expected a table with a line for each image"),
        ("\n \n", r"is empty; expected a table"),
        ("path,label\n", r"names no images; expected a line for each"),
        ("path,label\n0.png,cat\n1.png,dog,brown\n", r"line 3 has 3 cells, the first line 2; expected as many"),
        ('path,label\n0.png,cat\n\n"1.png,dog\n0.png,cat\n', r"line 4 cannot be read \(unexpected end of data\)"),
        ("path,label\n0.png,a\0b\n", r"holds bytes that are no text"),
        ("path,label\n0.png,cat\n1.png,cat\n", r"names images of one class \(cat\); expected at least two"),
        ("path,label\n0.png,cat\n1.png,dog\n", r"labels.csv holds one image; splitting off a test set needs two"),
        ("a,b\n0.png,1.png\n1.png,0.png\n", r"names files in both of its columns, as tables of images and masks do"),
    ],
)  # fmt: skip
def test_tables_of_something_else(tmp_path, content, message):
    for name in ("0.png", "1.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "labels.csv").write_text(content)
    expect(message, tmp_path / "labels.csv")


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "labels.csv").write_bytes(bytes(range(256)) * 10)
    expect(r"labels.csv holds bytes that are no text", tmp_path / "labels.csv")
