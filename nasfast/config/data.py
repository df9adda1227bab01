"""Settings of the images, and of every search that trains on them."""

from __future__ import annotations

from dataclasses import dataclass

from nasfast.config.base import _DATA, _RUN, option


@dataclass(frozen=True)
class DataOptions:
    """Settings of every run that looks at images: which they are, and where it computes."""

    data: str = option("digits", "digits, cifar10, or the path of an image folder: one folder per class.", _DATA)
    data_root: str = option("data", "Folder where torchvision keeps CIFAR-10.", _DATA)
    download: bool = option(False, "Let torchvision download CIFAR-10 where it is missing.", _DATA)
    skip_bad: bool = option(False, "Leave out images that cannot be read, instead of stopping.", _DATA)
    test_fraction: float = option(0.2, "Share of each class to test on, where there is no test set.", _DATA, 0.001, 0.9)

    seed: int = option(0, "Seed of everything random.", _RUN, 0)
    threads: int = option(0, "CPU threads; 0: as torch decides.", _RUN, 0)
    device: str = option("cpu", "Where to compute, as torch names it: cpu, cuda, cuda:1 ...", _RUN)


@dataclass(frozen=True)
class ImageSearchConfig(DataOptions):
    """Settings of every search that learns from images: how it sees them, and when it writes checkpoints."""

    crop_pad: int | None = option(
        None, "Shift train images by up to so many pixels. Default: as the data set.", _DATA, 0
    )
    flip: bool | None = option(None, "Mirror half of the train images. Default: as the data set.", _DATA)
    cutout: int = option(0, "Side of the square that is blanked in train images while searching; 0: none.", _DATA, 0)

    budget: str = option(
        "",
        "What the search may cost in all: '30m', '200 trials', '10 gpu-hours', '8 cpu-hours', or several with commas "
        "between. A retraining of what was found comes on top.",
        _RUN,
    )
    checkpoint_steps: int = option(0, "Write a checkpoint every so many steps; 0: by time alone.", _RUN, 0)
    checkpoint_seconds: float = option(
        60.0, "Write a checkpoint after so many seconds, and at each epoch's end.", _RUN, 0
    )
