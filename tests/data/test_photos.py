"""Photos as people have them: sizes, orientations, transparency, depths, kinds of files, and names of folders."""

import os
import re

import numpy as np
import pytest
import torch
from PIL import Image

from nasfast.data import load_data
from nasfast.data.image_file import SUFFIXES, read_image, size_of
from nasfast.data.image_size import choose_size
from nasfast.errors import DataError
from tests.data.test_data import write_images

ORIENTATION = 0x0112


def scene(width, height):
    """Smooth pixels uint8 [height, width, 3], so that a photo that is turned or cut elsewhere has others."""
    y, x = np.mgrid[0:height, 0:width]
    channels = (255 * x / width, 255 * y / height, 255 * (x / width + y / height) / 2)
    return np.stack(channels, -1).astype(np.uint8)


def folder_of(root, images, **options):
    """A folder of two classes: plain pictures, and these images by file name."""
    for name in ("plain", "special"):
        (root / name).mkdir(parents=True)
    for index in range(3):
        Image.fromarray(scene(40, 32)).save(root / "plain" / f"{index}.png")
    for name, image in images.items():
        image.save(root / "special" / name, **options.get(name, {}))
    return str(root)


def specials(data):
    """Images of the class "special", train and test, as a set of bytes."""
    images, labels = torch.cat([data.train_images, data.test_images]), torch.cat([data.train_labels, data.test_labels])
    return {image.numpy().tobytes() for image in images[labels == 1]}


def test_photos_of_several_sizes_become_squares_and_it_is_said(tmp_path):
    images = {f"{i}.jpg": Image.fromarray(scene(*size)) for i, size in enumerate([(160, 120), (90, 160), (300, 80)])}
    data = load_data(folder_of(tmp_path, images))
    assert data.size == (48, 48)  # the shorter sides are 32, 32, 32, 80, 90 and 120
    assert data.notes == [
        "images of 40x32 to 300x80 pixels are scaled and cropped to 48x48; --image-size gives another"
    ]
    named = load_data(str(tmp_path), image_size=20)
    assert named.size == (20, 20)
    assert named.notes == ["images of 40x32 to 300x80 pixels are scaled and cropped to 20x20"]
    assert load_data(str(tmp_path), image_size=(12, 30)).size == (12, 30)


def test_the_middle_of_a_photo_is_kept_and_averaged(tmp_path):
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = scene(100, 100)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    found = read_image(tmp_path / "wide.png", (25, 25)).image.astype(int)
    areas = scene(100, 100).reshape(25, 4, 25, 4, 3).mean((1, 3))
    assert found.shape == (25, 25, 3)
    assert np.abs(found - areas)[2:-2, 2:-2].max() <= 2  # at the edge, the filter reads beyond
    Image.fromarray(wide).save(tmp_path / "wide.jpg", quality=95)
    decoded = read_image(tmp_path / "wide.jpg", (25, 25)).image.astype(int)
    assert np.abs(decoded - areas)[2:-2, 2:-2].max() <= 6


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(8, 8)] * 3, None),
        ([(224, 224)] * 3, None),
        ([(100, 28)] * 3, None),
        ([(100, 30)] * 3, (24, 24)),
        ([(50, 50)] * 3, (48, 48)),
        ([(9, 10)] * 3, (8, 8)),
        ([(225, 225)], (48, 48)),
        ([(3000, 4000)] * 2, (48, 48)),
        ([(3000, 4000), (4000, 3000)], (48, 48)),
        ([(33, 50), (40, 40), (47, 1000)], (32, 32)),
        ([(5, 7), (7, 5)], (4, 4)),
        ([(1, 7), (7, 1)], (4, 4)),
    ],
)
def test_the_size_that_is_chosen(sizes, expected):
    assert choose_size(sizes) == expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_their_camera_says(tmp_path, orientation):
    turn = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: np.rot90,
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / "photo.png"
    Image.fromarray(scene(12, 8)).save(path, exif=exif)
    expected = turn(scene(12, 8))
    assert np.array_equal(read_image(path).image, expected)
    assert size_of(path.read_bytes()) == expected.shape[:2]


def test_upright_photos_that_lie_in_their_files_are_of_one_size(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    images = {"turned.png": Image.fromarray(scene(32, 40)), "as-it-is.png": Image.fromarray(scene(40, 32))}
    data = load_data(folder_of(tmp_path, images, **{"turned.png": {"exif": exif}}))
    assert data.size == (32, 40)
    assert data.notes == []


def half_transparent():
    alpha = np.full((32, 40, 1), 255, np.uint8)
    alpha[:, :20] = 0
    return Image.fromarray(np.concatenate([scene(40, 32), alpha], -1))


def test_transparent_parts_are_white(tmp_path):
    palette = Image.fromarray(scene(40, 32)).quantize(8)
    palette.info["transparency"] = palette.getpixel((3, 3))
    solid = Image.fromarray(np.concatenate([scene(40, 32), np.full((32, 40, 1), 255, np.uint8)], -1))
    images = {"alpha.png": half_transparent(), "palette.png": palette, "solid.png": solid}
    data = load_data(folder_of(tmp_path, images))
    assert data.notes == ["2 images have transparent parts, which are read on white"]
    white = scene(40, 32).copy()
    white[:, :20] = 255
    pixels = np.asarray(palette.convert("RGB")).copy()
    pixels[np.asarray(palette) == palette.info["transparency"]] = 255
    assert specials(data) == {white.tobytes(), pixels.tobytes(), scene(40, 32).tobytes()}


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    grey = scene(40, 32)[..., 0]
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    low = Image.fromarray(grey.astype(np.uint16))  # nearly black, not the picture
    data = load_data(folder_of(tmp_path, {"deep.png": deep, "deep.tif": deep, "low.png": low}))
    assert data.notes == ["3 images have 16 bits per channel, which are scaled to 8"]
    three = np.repeat(grey[..., None], 3, -1)
    assert specials(data) == {three.tobytes(), np.rint(three / 257).astype(np.uint8).tobytes()}


@pytest.mark.parametrize("values", [np.full((32, 40), 0.5, np.float32), np.full((32, 40), 70_000, np.int32)])
def test_pixels_of_no_known_range_are_refused(tmp_path, values):
    folder_of(tmp_path, {"a.tif": Image.fromarray(values), "b.png": Image.fromarray(scene(40, 32))})
    with pytest.raises(DataError, match=r"a\.tif: its pixels are of mode . and no known range, expected 8 or 16 bits"):
        load_data(str(tmp_path))


def test_the_first_of_several_frames_is_read(tmp_path):
    first, second = Image.fromarray(scene(40, 32)), Image.new("RGB", (40, 32), "red")
    options = {"save_all": True, "append_images": [second]}
    images = {"pages.tif": first, "moving.png": first}
    data = load_data(folder_of(tmp_path, images, **dict.fromkeys(images, options)))
    assert data.notes == ["2 images have several pages or frames, of which the first is read"]
    assert specials(data) == {scene(40, 32).tobytes()}


def test_print_colours_become_screen_colours(tmp_path):
    image = Image.fromarray(scene(40, 32)).convert("CMYK")
    data = load_data(folder_of(tmp_path, {"a.tif": image, "b.tif": image}))
    assert specials(data) == {np.asarray(image.convert("RGB")).tobytes()}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_kind_of_file_is_read(tmp_path, suffix):
    kind = {".jfif": "JPEG", ".jpe": "JPEG", ".pnm": "PPM", ".pgm": "PPM", ".pbm": "PPM", ".jp2": "JPEG2000"}
    image = Image.fromarray(scene(40, 32)).convert({".pgm": "L", ".pbm": "1"}.get(suffix, "RGB"))
    path = tmp_path / f"image{suffix.upper()}"
    image.save(path, kind.get(suffix))
    found = read_image(path).image
    assert found.shape == (32, 40, 3)
    assert np.abs(found.astype(int) - np.asarray(image.convert("RGB")).astype(int)).mean() < 8


def test_what_is_no_image_is_counted_and_said(tmp_path):
    write_images(tmp_path)
    for name in ("cat/notes.txt", "cat/a.heic", "dog/b.HEIC", "dog/README", "dog/.hidden"):
        (tmp_path / name).write_bytes(b"x")
    os.mkfifo(tmp_path / "cat/pipe.jpg")
    (tmp_path / "dog/gone.png").symlink_to("nowhere")
    assert load_data(str(tmp_path)).notes == [
        "left out 4 files whose names are not those of images: .heic (2), .txt (1), without an ending (1)",
        "left out 2 files of special kinds: pipes, devices, links to nowhere or in an archive",
    ]


@pytest.mark.parametrize(
    ("train", "test"),
    [("Train", "TEST"), ("training", "testing"), ("train", "Validation"), ("TRAIN", "dev"), ("training", "eval")],
)
def test_usual_names_of_train_and_test(tmp_path, train, test):
    write_images(tmp_path / train, count=4)
    write_images(tmp_path / test, count=2)
    data = load_data(str(tmp_path))
    assert (len(data.train_labels), len(data.test_labels)) == (8, 4)
    assert data.class_names == ["cat", "dog"]


def test_the_test_set_is_read_where_there_is_one_for_validation_too(tmp_path):
    for name, count in (("train", 4), ("val", 3), ("test", 2), ("extra", 1)):
        write_images(tmp_path / name, count=count)
    data = load_data(str(tmp_path))
    assert (len(data.train_labels), len(data.test_labels)) == (8, 4)
    assert data.notes == ["train, test are read; left out beside them: extra, val"]


def test_classes_may_be_called_as_halves_are(tmp_path):
    write_images(tmp_path, classes=["running", "training", "test"])
    assert load_data(str(tmp_path)).class_names == ["running", "test", "training"]


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["images", "labels"], "holds images and labels, as data sets of parts of images do"),
        (["Masks", "images"], "as data sets of parts of images do"),
        (["train/images", "train/labels"], "train holds images and labels"),
        (["train/cat", "train/dog", "Train/cat"], "holds both Train and train; expected one of them"),
        (["test/cat", "test/dog"], "looks like a test set, but .* holds no folder named train beside it"),
        (["train", "test"], "holds test and train without class folders in them; expected one folder of images per"),
        (["train"], "holds train without class folders in them"),
    ],
)
def test_folders_that_look_alike_are_refused(tmp_path, folders, message):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for index in range(2):
            Image.fromarray(scene(8, 8)).save(tmp_path / folder / f"{index}.png")
    with pytest.raises(DataError, match=message):
        load_data(str(tmp_path))


def test_images_whose_headers_lie_are_bad_not_of_another_size(tmp_path):
    write_images(tmp_path, count=4, size=(16, 16))
    path = tmp_path / "cat/1.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=rf"cannot read image {re.escape(str(path))}"):
        load_data(str(tmp_path))
    data = load_data(str(tmp_path), skip_bad=True)
    assert data.skipped == [str(path)]
    assert data.size == (16, 16)


def test_a_few_unreadable_images_are_left_out_and_named_many_are_an_error(tmp_path):
    paths = write_images(tmp_path, count=20)
    for path in (paths[0], paths[30]):
        path.write_bytes(b"no image")
    data = load_data(str(tmp_path))
    assert set(data.skipped) == {str(paths[0]), str(paths[30])}
    assert len(data.train_labels) + len(data.test_labels) == 38
    paths[31].write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot read image .*--skip-bad leaves such images out"):
        load_data(str(tmp_path))
    assert len(load_data(str(tmp_path), skip_bad=True).skipped) == 3


def test_sizes_of_named_data_sets_are_their_own():
    with pytest.raises(DataError, match="--image-size goes with an image folder; digits has images of one size"):
        load_data("digits", image_size=16)


@pytest.mark.parametrize("threads", [1, 3])
def test_scaled_images_are_the_same_in_any_number_of_threads(tmp_path, threads):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for index in range(40):
            Image.fromarray(scene(20 + index, 90 - index)).save(tmp_path / label / f"{index}.jpg")
    data = load_data(str(tmp_path), threads=threads)
    alone = {read_image(path, data.size).image.tobytes() for path in tmp_path.glob("*/*.jpg")}
    assert {image.numpy().tobytes() for image in torch.cat([data.train_images, data.test_images])} == alone
