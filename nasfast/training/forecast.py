"""How long a training will take, told from a step of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import monotonic

from nasfast.data import DataSet
from nasfast.spaces.genotype import Genotype
from nasfast.training.config import RetrainConfig
from nasfast.training.genotype_trainer import GenotypeTask
from nasfast.training.trainer import Trainer, Watcher

_IMAGES = 8  # on a CPU, where a step takes as long as its images


def training_seconds(genotype: Genotype, dataset: DataSet, config: RetrainConfig) -> float:
    """Seconds that :func:`nasfast.training.genotype_trainer.retrain` will take, about.

    A network of its own takes two steps, of which the second is measured; nothing is written, and no numbers are drawn
    from generators that others use.
    """
    images = config.batch_size if config.device.startswith("cuda") else min(config.batch_size, _IMAGES)
    few = replace(config, batch_size=images)
    trainer = Trainer(GenotypeTask(genotype), Watcher(), dataset, Path(), few, "forecast")
    trainer.network.train()
    trainer.take_step()
    trainer.sums.tolist()  # waits for the device
    began = monotonic()
    trainer.take_step()
    trainer.sums.tolist()
    seconds = monotonic() - began
    return seconds * config.batch_size / images * config.steps(len(dataset.train_labels))
