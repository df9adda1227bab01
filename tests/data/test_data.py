"""Data sets: what is loaded, what is refused and how the message names it, and the reproducible order of images."""

import os
import re

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from nasfast.data import Augmentation, Sampler, augment, load_data, normalize, split_indices
from nasfast.data.dataset import _stored_digits
from nasfast.errors import DataError


def write_images(folder, classes=("cat", "dog"), count=3, size=(8, 8), mode="RGB"):
    """Real PNG files of random pixels; returns the paths."""
    generator = np.random.default_rng(len(str(folder)))
    paths = []
    for name in classes:
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            paths.append(folder / name / f"{index}.png")
            Image.fromarray(pixels).convert(mode).save(paths[-1])
    return paths


def test_digits_are_the_real_ones():
    images, labels = load_digits(return_X_y=True)
    assert np.array_equal(_stored_digits(), np.column_stack([images, labels]))
    data = load_data("digits", seed=3)
    assert data.train_images.shape == (1438, 8, 8, 3)
    assert data.test_images.shape == (359, 8, 8, 3)
    assert data.train_images.dtype == torch.uint8
    assert data.train_images.max() == 255
    assert data.num_classes == 10
    assert torch.bincount(data.test_labels).min() >= 34
    same, other = load_data("digits", seed=3), load_data("digits", seed=4)
    assert torch.equal(data.test_images, same.test_images)
    assert not torch.equal(data.test_images, other.test_images)


def test_folder_with_train_and_test(tmp_path):
    paths = write_images(tmp_path / "train") + write_images(tmp_path / "test", count=2)
    data = load_data(str(tmp_path))
    assert data.class_names == ["cat", "dog"]
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test_labels.tolist() == [0, 0, 1, 1]
    images = torch.cat([data.train_images, data.test_images])
    for image, path in zip(images, paths, strict=True):
        assert np.array_equal(image.numpy(), np.asarray(Image.open(path)))


def test_folder_is_split_by_seed_within_each_class(tmp_path):
    write_images(tmp_path, count=100)
    data = load_data(str(tmp_path), test_fraction=0.3, seed=1)
    assert all(15 <= count <= 45 for count in torch.bincount(data.test_labels).tolist())
    assert torch.equal(data.test_images, load_data(str(tmp_path), test_fraction=0.3, seed=1).test_images)
    assert not torch.equal(data.test_images, load_data(str(tmp_path), test_fraction=0.3, seed=2).test_images)


def as_set(images):
    return {image.numpy().tobytes() for image in images}


def test_images_that_come_or_go_move_no_other(tmp_path):
    paths = write_images(tmp_path / "all", count=40)
    before = load_data(str(tmp_path / "all"))
    extra = write_images(tmp_path / "more", classes=["cat"], count=25)
    for number, path in enumerate(extra):
        path.rename(tmp_path / f"all/cat/{number:03}-new.png")
    after = load_data(str(tmp_path / "all"))
    assert as_set(before.train_images) < as_set(after.train_images)
    assert as_set(before.test_images) < as_set(after.test_images)
    for path in paths[::2]:
        path.rename(path.with_name(f"moved-{path.name}"))
    (tmp_path / "all/dog/39.png").unlink()
    last = load_data(str(tmp_path / "all"))
    assert as_set(last.train_images) <= as_set(after.train_images)
    assert as_set(last.test_images) <= as_set(after.test_images)


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_each_class_has_an_image_in_each_half(tmp_path, fraction):
    write_images(tmp_path, count=5)
    data = load_data(str(tmp_path), test_fraction=fraction)
    small, large = sorted((data.train_labels, data.test_labels), key=len)
    assert torch.bincount(small).tolist() == [1, 1]
    assert torch.bincount(large).tolist() == [4, 4]


def test_copies_of_systems_and_hidden_files_are_no_images(tmp_path):
    for half in ("train", "test"):
        write_images(tmp_path / half)
    plain = load_data(str(tmp_path))
    for place in ("train/cat/.ipynb_checkpoints", "train/dog/@eaDir", "train/dog/deep/.hidden", "test/cat/__MACOSX"):
        write_images(tmp_path / place, classes=["copies"])
    write_images(tmp_path / "train", classes=[".ipynb_checkpoints", "__MACOSX"])
    (tmp_path / "train/cat/.DS_Store").write_bytes(b"\0" * 16)
    (tmp_path / "train/cat/._0.png").write_bytes(b"a resource fork")
    os.mkfifo(tmp_path / "train/cat/pipe.png")
    data = load_data(str(tmp_path))
    assert data.class_names == plain.class_names
    assert torch.equal(data.train_images, plain.train_images)
    assert torch.equal(data.test_images, plain.test_images)


def test_repeated_images_are_counted_and_stay_on_one_side_of_a_split(tmp_path):
    train, test = write_images(tmp_path / "given/train"), write_images(tmp_path / "given/test", count=4)
    test[0].write_bytes(train[0].read_bytes())
    test[5].write_bytes(train[1].read_bytes())
    assert load_data(str(tmp_path / "given")).repeated == 2
    paths = write_images(tmp_path / "split", count=20)
    for path in paths:
        path.with_name(f"copy-{path.name}").write_bytes(path.read_bytes())
    data = load_data(str(tmp_path / "split"))
    assert data.repeated == 0
    assert not as_set(data.train_images) & as_set(data.test_images)


def test_a_class_folder_that_leads_back_is_refused(tmp_path):
    write_images(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path)
    expect(r"class folder .*loop is a link to .*, which holds it", tmp_path)


def test_many_images_keep_their_order_in_any_number_of_threads(tmp_path):
    write_images(tmp_path, count=300, size=(4, 4))
    one, three = load_data(str(tmp_path), threads=1), load_data(str(tmp_path), threads=3)
    assert torch.equal(one.train_images, three.train_images)
    assert torch.equal(one.train_labels, three.train_labels)


def test_grey_and_palette_images_become_three_channels(tmp_path):
    write_images(tmp_path / "a", mode="L")
    write_images(tmp_path / "b", mode="P")
    for name in "ab":
        assert load_data(str(tmp_path / name)).channels == 3


def test_statistics_are_those_of_the_train_images(tmp_path):
    write_images(tmp_path, count=10)
    data = load_data(str(tmp_path))
    values = data.train_images.double().div(255).reshape(-1, 3)
    assert torch.allclose(torch.tensor(data.mean, dtype=torch.float64), values.mean(0))
    assert torch.allclose(torch.tensor(data.std, dtype=torch.float64), values.std(0, correction=0))


def expect(message, source, **options):
    with pytest.raises(DataError, match=message) as caught:
        load_data(str(source), **options)
    assert "\n" not in str(caught.value)


def test_missing_empty_and_wrong_folders(tmp_path):
    expect(r"data folder .*gone does not exist; expected digits, cifar10 or", tmp_path / "gone")
    expect("holds no images; expected one folder of images per class", tmp_path)
    (tmp_path / "file").write_text("")
    expect("is a file; expected a folder", tmp_path / "file")
    Image.new("RGB", (8, 8)).save(tmp_path / "loose.png")
    expect("holds images but no class folder", tmp_path)
    (tmp_path / "cat").mkdir()
    expect(r"class folder .*cat holds no images", tmp_path)


def test_one_class(tmp_path):
    write_images(tmp_path, classes=["cat"])
    expect(r"holds one class \(cat\); expected at least two", tmp_path)


def test_class_in_one_half_only(tmp_path):
    write_images(tmp_path / "train")
    write_images(tmp_path / "test", classes=["cat", "cow"])
    expect(r"class cow is in .*test but not in .*train", tmp_path)


def test_class_too_small_to_split(tmp_path):
    write_images(tmp_path, count=1)
    expect(r"class cat of .* holds one image; splitting off a test set needs two", tmp_path)


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_corrupt_image_is_named_and_skipped_only_on_request(tmp_path, damage):
    paths = write_images(tmp_path / "train") + write_images(tmp_path / "test")
    bad = paths[4]
    bad.write_bytes({"cut": bad.read_bytes()[:150], "text": b"no image", "empty": b""}[damage])
    expect(rf"cannot read image {bad}: .*--skip-bad", tmp_path)
    data = load_data(str(tmp_path), skip_bad=True)
    assert data.skipped == [str(bad)]
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1]
    assert np.array_equal(data.train_images[4].numpy(), np.asarray(Image.open(paths[5])))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a\x1b[31m.png", r"a\x1b[31m.png"), ("a\nb.png", r"a\nb.png"), ("a\udc80.png", r"a\udc80.png")],
)
def test_control_characters_of_a_file_name_are_escaped(tmp_path, name, expected):
    write_images(tmp_path / "train")
    write_images(tmp_path / "test")
    (tmp_path / "train" / "cat" / name).write_bytes(b"no image")
    expect(re.escape(f"cannot read image {tmp_path}/train/cat/{expected}: "), tmp_path)
    for found in (tmp_path / "train" / "cat").iterdir():
        found.write_bytes(b"")
    (tmp_path / "train" / "cat").rename(tmp_path / "train" / f"{name} class")
    expect(re.escape(f"{expected} class"), tmp_path)


def test_skipping_never_empties_a_class(tmp_path):
    paths = write_images(tmp_path / "train", count=2) + write_images(tmp_path / "test", count=1)
    for path in paths[2:4]:
        path.write_bytes(b"")
    expect("no readable train image of class dog is left", tmp_path, skip_bad=True)
    for path in paths:
        path.write_bytes(b"")
    expect("none of the 6 images can be read", tmp_path, skip_bad=True)


def test_cifar10_is_not_fetched_unasked(tmp_path):
    expect(
        "CIFAR-10 is not in .*; name its folder with --data-root or fetch it with --download", "cifar10", root=tmp_path
    )
    assert list(tmp_path.iterdir()) == []


def test_normalize():
    images = torch.randint(256, (2, 4, 5, 3), dtype=torch.uint8)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    inputs = normalize(images, mean.tolist(), std.tolist())
    expected = (images.permute(0, 3, 1, 2).float() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    assert torch.allclose(inputs, expected)
    assert inputs.is_contiguous(memory_format=torch.channels_last)


def augmented(images, augmentation, seed=0):
    return augment(images, augmentation, [0, 0, 0], [1 / 255] * 3, torch.Generator().manual_seed(seed)).permute(
        0, 2, 3, 1
    )


def test_crop_and_flip_are_shifts_and_mirrors_of_each_image():
    images = torch.randint(1, 256, (64, 4, 5, 3), dtype=torch.uint8)
    result = augmented(images, Augmentation(pad=1, flip=True)).round().to(torch.uint8)
    padded = torch.nn.functional.pad(images, (0, 0, 1, 1, 1, 1))
    seen = set()
    for image, wide in zip(result, padded, strict=True):
        options = {}
        for dy in range(3):
            for dx in range(3):
                view = wide[dy : dy + 4, dx : dx + 5]
                options[dy, dx, False] = view
                # The mirrored image is shifted, not the shifted image mirrored; both sets of results are the same.
                options[dy, dx, True] = view.flip(1)
        found = [key for key, view in options.items() if torch.equal(view, image)]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 12


def test_cutout_blanks_a_square():
    images = torch.full((200, 8, 8, 3), 255, dtype=torch.uint8)
    blank = augmented(images, Augmentation(cutout=3)) == 0
    sizes = blank[..., 0].flatten(1).sum(1)
    assert set(sizes.tolist()) <= {4, 6, 9}  # cut at a corner, at an edge, whole
    assert sizes.max() == 9
    assert torch.equal(blank[..., 0], blank[..., 2])


def test_augmentation_depends_on_the_generator_alone():
    images = torch.randint(256, (16, 8, 8, 3), dtype=torch.uint8)
    every = Augmentation(pad=2, flip=True, cutout=2)
    torch.manual_seed(1)
    first = augmented(images, every, seed=5)
    torch.manual_seed(2)
    assert torch.equal(first, augmented(images, every, seed=5))
    assert not torch.equal(first, augmented(images, every, seed=6))


def test_sampler_visits_every_index_once_per_epoch():
    sampler = Sampler(torch.arange(10, 22), 4, seed=0)
    epochs = [torch.cat([sampler.next() for _ in range(sampler.batches_per_epoch)]).tolist() for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10, 22))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 7])
def test_sampler_continues_from_its_state(steps):
    sampler, other = Sampler(torch.arange(11), 4, seed=0), Sampler(torch.arange(11), 4, seed=9)
    for _ in range(steps):
        sampler.next()
    other.load_state(sampler.state())
    for _ in range(9):
        assert torch.equal(sampler.next(), other.next())
    assert torch.equal(sampler.state()["generator"], other.state()["generator"])


def test_batch_larger_than_the_data():
    with pytest.raises(DataError, match="batch size 12 is larger than the train half, which holds 11 images"):
        Sampler(torch.arange(11), 12, seed=0, what="train half")
    with pytest.raises(DataError, match="at least 1, got 0"):
        Sampler(torch.arange(11), 0, seed=0)


def test_split_indices():
    first, second = split_indices(11, 0.5, seed=0)
    assert len(first) == 5
    assert sorted(torch.cat([first, second]).tolist()) == list(range(11))
