"""What a trained network makes of the test images: class by class, and the images that it gets most wrong."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from nasfast.data import DataSet, normalize
from nasfast.errors import RunError
from nasfast.runs.folder import RunFolder
from nasfast.utils.files import atomic_write
from nasfast.utils.sealed import read_sealed, sealed

_BATCH = 256
_MOST_WORST = 24
_SIDE = 96  # pixels of a picture that is kept, at most
_FORMAT = {"format": "nasfast-mistakes", "version": 1}


@dataclass(frozen=True)
class WorstImage:
    """A test image that was taken for another class.

    Attributes:
        image: Its index among the test images.
        file: Where it stands; "" where the data set has no files.
        label, seen: The class that it is of, and the one that it was taken for.
        probability: Of the class that it was taken for, 0 to 1.
        png: The image, base64.
    """

    image: int
    file: str
    label: int
    seen: int
    probability: float
    png: str


@dataclass(frozen=True)
class Mistakes:
    """What came of testing a network.

    Attributes:
        classes: Names.
        train_images: Of each class.
        confusion: ``(class, what it was taken for, test images)``, of the pairs that occur.
        worst: Images that were taken for another class, the surest mistakes first.
    """

    classes: tuple[str, ...]
    train_images: tuple[int, ...]
    confusion: tuple[tuple[int, int, int], ...]
    worst: tuple[WorstImage, ...]


def mistakes_path(run: RunFolder, label: str) -> Path:
    """Where the mistakes of the network of ``label`` are kept."""
    return run.path / f"mistakes-{label}.json"


def find_mistakes(network: nn.Module, dataset: DataSet) -> Mistakes:
    """Test a network on the test images; leaves its mode as it was."""
    surest, seen = _seen(network, dataset)
    count, labels = dataset.num_classes, dataset.test_labels.cpu()
    pairs, times = (labels * count + seen).unique(return_counts=True)
    confusion = tuple((p // count, p % count, t) for p, t in zip(pairs.tolist(), times.tolist(), strict=True))
    wrong = (seen != labels).nonzero().flatten()
    order = wrong[surest[wrong].argsort(descending=True, stable=True)][:_MOST_WORST]
    worst = tuple(
        WorstImage(
            index,
            dataset.test_files[index] if dataset.test_files else "",
            int(labels[index]),
            int(seen[index]),
            round(float(surest[index]), 4),
            _png(dataset.test_images[index]),
        )
        for index in order.tolist()
    )
    trained = torch.bincount(dataset.train_labels.cpu(), minlength=count)
    return Mistakes(tuple(dataset.class_names), tuple(trained.tolist()), confusion, worst)


def save_mistakes(run: RunFolder, label: str, mistakes: Mistakes) -> None:
    """Write them into a run."""
    atomic_write(mistakes_path(run, label), json.dumps(sealed({**_FORMAT, **asdict(mistakes)})) + "\n")


def read_mistakes(path: Path) -> Mistakes:
    """What :func:`save_mistakes` wrote.

    Raises:
        RunError: The file is damaged, or of another version.
    """
    content = read_sealed(path, "what a network got wrong", RunError)
    if any(content.get(name) != value for name, value in _FORMAT.items()):
        raise RunError(f"{path} is no file of what a network got wrong, or of another version")
    values: dict[str, Any] = {f.name: tuple(content[f.name]) for f in fields(Mistakes)}
    values["confusion"] = tuple(tuple(entry) for entry in values["confusion"])
    values["worst"] = tuple(WorstImage(**entry) for entry in values["worst"])
    return Mistakes(**values)


def _seen(network: nn.Module, dataset: DataSet) -> tuple[Tensor, Tensor]:
    """The class that every test image is taken for, [N], after the probability of it; on the CPU."""
    was_training = network.training
    network.eval()
    found: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for images in dataset.test_images.split(_BATCH):
            logits, _ = network(normalize(images, dataset.mean, dataset.std))
            surest, seen = logits.float().softmax(1).max(1)
            found.append((surest.cpu(), seen.cpu()))
    network.train(was_training)
    surest, seen = map(torch.cat, zip(*found, strict=True))
    return surest, seen


def _png(image: Tensor) -> str:
    picture = Image.fromarray(image.cpu().numpy())
    picture.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
