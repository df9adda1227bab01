"""The accuracy of a trained network on a test set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from nasfast.data import DataSet, normalize
from nasfast.data.image_size import size_text
from nasfast.errors import DataError, NasfastError
from nasfast.runs.folder import RunFolder
from nasfast.spaces.base import Space
from nasfast.training.model_file import load_model
from nasfast.utils.shown import shown

_EVAL_BATCH = 256


class TrainError(NasfastError):
    """Training has diverged."""


def evaluate_network(network: nn.Module, dataset: DataSet) -> tuple[float, float]:
    """Accuracy (0 to 1) and mean cross-entropy of a network on the test images; leaves its mode as it was."""
    was_training = network.training
    network.eval()
    correct, loss = 0, 0.0
    with torch.no_grad():
        for images, labels in zip(
            dataset.test_images.split(_EVAL_BATCH), dataset.test_labels.split(_EVAL_BATCH), strict=True
        ):
            logits, _ = network(normalize(images, dataset.mean, dataset.std))
            loss += float(F.cross_entropy(logits.float(), labels, reduction="sum"))
            correct += int((logits.argmax(1) == labels).sum())
    network.train(was_training)
    count = len(dataset.test_labels)
    return correct / count, loss / count


def evaluate(
    run: RunFolder | str | Path,
    dataset: DataSet,
    label: str = "derived",
    device: str = "cpu",
    space: Space | None = None,
) -> tuple[float, float]:
    """Test accuracy (0 to 1) and loss of a run's retrained network, from the weights in the run folder.

    Images are normalised with the statistics the network was trained with. A space of your own has to be given.

    Raises:
        RunError: The run has no such network.
        DataError: The data set has other classes, channels or sizes of images than the network was trained on.
    """
    run = run if isinstance(run, RunFolder) else RunFolder.open(run, lock=False)
    model = load_model(run, label, space)
    info = model.info
    if list(info.class_names) != list(dataset.class_names):
        raise DataError(
            f"the network knows {len(info.class_names)} classes ({shown(', '.join(info.class_names[:3]))} ...), "
            f"the data set {shown(dataset.name)} has {dataset.num_classes} others; expected the same"
        )
    if info.in_channels != dataset.channels:
        raise DataError(f"the network takes {info.in_channels} channels, the data set has {dataset.channels}")
    if tuple(info.size) != dataset.size:
        raise DataError(
            f"the network was trained on images of {size_text(info.size)} pixels, the data set {dataset.name} has "
            f"{size_text(dataset.size)} (width x height); expected the same"
        )
    dataset = replace(dataset.to(device))
    dataset.mean, dataset.std = list(info.mean), list(info.std)
    return evaluate_network(model.network.to(device), dataset)
