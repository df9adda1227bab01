"""What a trained network sees in images of files."""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nasfast.data import normalize
from nasfast.data.image_file import SUFFIXES, ImageFile, Size, read_image
from nasfast.data.layout import named_images
from nasfast.errors import DataError
from nasfast.training.model_file import LoadedModel
from nasfast.utils.files import atomic_write
from nasfast.utils.progress import Progress
from nasfast.utils.shown import shown

_BATCH = 128  # images that are read and computed at a time, whatever their number is in all


@dataclass(frozen=True)
class Predictions:
    """What a network has seen in N images.

    Attributes:
        files: Paths of the images.
        class_names: Names of the classes that the network knows.
        probabilities: float32 [N, classes], rows sum to 1.
        skipped: Paths that could not be read.
    """

    files: list[str]
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    skipped: list[str]

    @property
    def classes(self) -> list[str]:
        """The most probable class of each image."""
        return [self.class_names[index] for index in self.probabilities.argmax(1)] if self.files else []

    def __str__(self) -> str:
        rows = zip(self.files, self.classes, self.probabilities.max(1, initial=0), strict=True)
        return "\n".join(f"{shown(file)}: {shown(name)} ({100 * share:.1f} %)" for file, name, share in rows)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a row for each image: file, prediction, and ``p_CLASS`` for each class.

        Raises:
            RunError: The file could not be written.
        """
        text = io.StringIO(newline="")
        table = csv.writer(text)
        table.writerow(["file", "prediction", *(f"p_{name}" for name in self.class_names)])
        for file, name, row in zip(self.files, self.classes, self.probabilities.tolist(), strict=True):
            table.writerow([file, name, *(f"{value:.6g}" for value in row)])
        # File names are bytes: those that are no UTF-8 come back from the table as they were.
        atomic_write(path, text.getvalue().encode("utf-8", "surrogateescape"))


def find_files(images: Sequence[str | os.PathLike[str]]) -> list[ImageFile]:
    """Image files, those of folders and archives with all that is below them, and those of tables, in the order given.

    Raises:
        DataError: A path does not exist, an archive or a table cannot be read, or one of them holds no images.
    """
    found: list[ImageFile] = []
    for path in map(Path, images):
        if not path.exists():
            raise DataError(f"there is no image or folder {shown(path)}")
        several = named_images(path)
        if several is not None and not several:
            raise DataError(f"{shown(path)} holds no images; expected files like {', '.join(SUFFIXES[:4])}")
        found += [path] if several is None else several
    if not found:
        raise DataError("no images are given; expected files or folders")
    return found


def predict_files(
    model: LoadedModel,
    files: Sequence[ImageFile],
    *,
    device: str = "cpu",
    skip_bad: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """Probabilities of each image, which is prepared as those that the network was trained on were.

    Raises:
        DataError: An image cannot be read, unless ``skip_bad`` leaves it out.
    """
    info, network = model.info, model.network.to(device).eval()
    size = (int(info.size[0]), int(info.size[1]))
    rows, read, skipped = [], [], []
    with (
        warnings.catch_warnings(),
        (progress or Progress(quiet=True)).stage("predict", len(files), unit="image") as stage,
        ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool,
    ):
        warnings.simplefilter("ignore")  # PIL's of photos larger than most, and of metadata that nothing here reads
        for part in _batches(files):
            pixels = list(pool.map(lambda path: _read(path, size, skip_bad), part))
            kept = [image for image in pixels if image is not None]
            read += [str(path) for path, image in zip(part, pixels, strict=True) if image is not None]
            skipped += [str(path) for path, image in zip(part, pixels, strict=True) if image is None]
            if kept:
                batch = torch.from_numpy(np.stack(kept)).to(device)
                with torch.inference_mode():
                    logits, _ = network(normalize(batch, info.mean, info.std))
                rows.append(logits.double().softmax(1).float().cpu().numpy())
            stage.advance(len(part))
    probabilities = np.concatenate(rows) if rows else np.zeros((0, len(info.class_names)), np.float32)
    return Predictions(read, tuple(info.class_names), probabilities, skipped)


def _batches(files: Sequence[ImageFile]) -> Iterator[Sequence[ImageFile]]:
    for start in range(0, len(files), _BATCH):
        yield files[start : start + _BATCH]


def _read(path: ImageFile, size: Size, skip_bad: bool) -> np.ndarray | None:
    try:
        return read_image(path, size).image
    except DataError:
        if not skip_bad:
            raise
        return None
