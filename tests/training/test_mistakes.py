"""What a trained network makes of the test images, as it is kept and as a report shows it."""

import base64
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from nasfast.data import load_data
from nasfast.data.augment import Augmentation
from nasfast.data.dataset import DataSet
from nasfast.errors import RunError
from nasfast.report.mistakes import mistakes_of
from nasfast.training.mistakes import find_mistakes, mistakes_path, read_mistakes, save_mistakes


class Table(torch.nn.Module):
    """Gives every image the logits that stand for the grey value of its first pixel."""

    def __init__(self, logits, data):
        super().__init__()
        self.logits, self.data = logits, data

    def forward(self, images):
        grey = (images[:, 0, 0, 0] * self.data.std[0] + self.data.mean[0]) * 255
        return self.logits[grey.round().long()], None


def made(labels, logits, names=("cat", "dog", "owl"), files=()):
    """A data set whose test images are told apart by their grey value, and a network that gives them these logits."""
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 4, 6, 3).contiguous()
    train = torch.randint(0, 256, (7, 4, 6, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    data = DataSet(
        "made", train, torch.tensor([0, 0, 0, 1, 1, 2, 2]), images, torch.tensor(labels), list(names),
        Augmentation(0, False), test_files=list(files),
    )  # fmt: skip
    return Table(torch.tensor(logits), data), data


LOGITS = [[9.0, 0, 0], [0, 2.0, 0], [0, 5.0, 0], [0, 9.0, 0], [1.0, 0, 0], [0, 0, 1.0]]
LABELS = [0, 0, 0, 1, 1, 2]


def test_counts_and_the_surest_mistakes():
    network, data = made(LABELS, LOGITS, files=[f"f{i}" for i in range(6)])
    network.train()
    found = find_mistakes(network, data)
    assert network.training
    assert found.classes == ("cat", "dog", "owl")
    assert found.train_images == (3, 2, 2)
    assert found.confusion == ((0, 0, 1), (0, 1, 2), (1, 0, 1), (1, 1, 1), (2, 2, 1))
    assert [(worst.file, worst.label, worst.seen) for worst in found.worst] == [
        ("f2", 0, 1),
        ("f1", 0, 1),
        ("f4", 1, 0),
    ]
    assert found.worst[0].probability == pytest.approx(float(torch.tensor(LOGITS[2]).softmax(0)[1]), abs=1e-4)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(found.worst[0].png))))
    assert np.array_equal(picture, data.test_images[2].numpy())


def test_batches_make_no_difference_and_only_the_surest_are_kept():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (250,), generator=generator)
    logits = torch.randn(250, 3, generator=generator)
    network, data = made(labels.tolist(), logits.tolist())
    doubled = DataSet(
        "twice", data.train_images, data.train_labels, data.test_images.repeat(2, 1, 1, 1), labels.repeat(2),
        data.class_names, data.augmentation,
    )  # fmt: skip
    found = find_mistakes(network, doubled)
    right = int((logits.argmax(1) == labels).sum())
    assert sum(count for own, seen, count in found.confusion if own == seen) == 2 * right
    assert sum(count for _, _, count in found.confusion) == 500
    assert len(found.worst) == 24
    assert [worst.probability for worst in found.worst] == sorted((w.probability for w in found.worst), reverse=True)
    assert all(worst.file == "" and worst.label == doubled.test_labels[worst.image] for worst in found.worst)


def test_large_images_are_kept_small():
    data = load_data("digits")
    big = DataSet(
        "big", data.train_images[:10], data.train_labels[:10],
        torch.zeros(1, 300, 200, 3, dtype=torch.uint8), torch.tensor([1]), data.class_names, data.augmentation,
    )  # fmt: skip
    found = find_mistakes(lambda_network(torch.tensor([[3.0, *[0.0] * 9]])), big)
    assert Image.open(io.BytesIO(base64.b64decode(found.worst[0].png))).size == (64, 96)


def lambda_network(logits):
    network = torch.nn.Identity()
    network.forward = lambda images: (logits.expand(len(images), -1), None)
    return network


def test_the_file_holds_what_was_found_and_is_refused_where_it_was_changed(tmp_path):
    run = SimpleNamespace(path=tmp_path)
    found = find_mistakes(*made(LABELS, LOGITS))
    save_mistakes(run, "derived", found)
    path = mistakes_path(run, "derived")
    assert read_mistakes(path) == found
    path.write_text(path.read_text().replace("owl", "fox"))
    with pytest.raises(RunError, match=r"mistakes-derived.json is damaged: its checksum does not fit"):
        read_mistakes(path)


def shown(network, data):
    (one,) = mistakes_of(SimpleNamespace(mistakes={"derived": find_mistakes(network, data)}))
    return one


def test_the_report_has_the_least_accurate_class_first():
    one = shown(*made(LABELS, LOGITS))
    assert [(row.name, row.train, row.test, row.accuracy, row.taken_for) for row in one.rows] == [
        ("cat", 3, 3, 1 / 3, "dog (2)"),
        ("dog", 2, 2, 0.5, "cat (1)"),
        ("owl", 2, 1, 1.0, ""),
    ]
    assert [[square.count for square in line] for line in one.matrix] == [[1, 2, 0], [1, 1, 0], [0, 0, 1]]
    assert one.worst[0][1] == "cat, taken for dog (98.67 %)"


def test_of_many_classes_there_is_no_matrix_and_a_class_without_test_images_has_no_accuracy():
    names = [f"class {index}" for index in range(120)]
    logits = torch.zeros(3, 120)
    logits[:, 5] = 1
    one = shown(*made([5, 6, 5], logits.tolist(), names))
    assert not one.matrix
    assert (len(one.rows), one.left_out) == (100, 20)
    assert (one.rows[0].name, one.rows[0].accuracy) == ("class 6", 0.0)
    assert one.rows[2].accuracy is None
