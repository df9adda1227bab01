"""How long a training will take, told from a step of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import monotonic

from nasfast.data import DataSet
from nasfast.training.config import RetrainConfig
from nasfast.training.trainer import Task, Trainer, Watcher

FEW_IMAGES = 8
"""That a step on a CPU is measured with, where it takes as long as its images."""


def seconds_of_training(task: Task, dataset: DataSet, config: RetrainConfig, images: int = FEW_IMAGES) -> float:
    """Seconds that a training will take, about.

    A network of its own takes two steps, of which the second is measured; nothing is written, and no numbers are drawn
    from generators that others use.

    Args:
        images: In each of the two steps on a CPU, at most; the time of a step goes by its images.
    """
    images = config.batch_size if config.device.startswith("cuda") else min(config.batch_size, images)
    few = replace(config, batch_size=images)
    trainer = Trainer(task, Watcher(), dataset, Path(), few, "forecast")
    trainer.network.train()
    trainer.take_step()
    trainer.sums.tolist()  # waits for the device
    began = monotonic()
    trainer.take_step()
    trainer.sums.tolist()
    seconds = monotonic() - began
    return seconds * config.batch_size / images * config.steps(len(dataset.train_labels))
