"""Settings of the images, and of every search that trains on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nasfast.config.base import RUN_PANEL, option
from nasfast.config.budget import check_budget
from nasfast.config.settings import Settings
from nasfast.utils.seeds import LARGEST_SEED


@dataclass(frozen=True)
class DataOptions(Settings, panel="Data"):
    """Settings of every run that looks at images: which they are, and where it computes."""

    data: str = option(
        "digits",
        "digits, cifar10, or the path of an image folder (one folder per class), of a .zip or .tar of one, or of a "
        ".csv of files and labels.",
    )
    data_root: str = option("data", "Folder where torchvision keeps CIFAR-10.")
    download: bool = option(False, "Let torchvision download CIFAR-10 where it is missing.")
    skip_bad: bool = option(
        False, "Leave out images that cannot be read, however many: more than 1 in 20 are an error else."
    )
    image_size: int = option(
        0, "Scale and crop images of a folder to squares of this side; 0: as they are, or as fits them.", 0, 4096
    )
    test_fraction: float = option(0.2, "Share of each class to test on, where there is no test set.", 0.001, 0.9)

    seed: int = option(0, "Seed of everything random.", 0, LARGEST_SEED, panel=RUN_PANEL)
    threads: int = option(0, "CPU threads; 0: as torch decides.", 0, 4096, panel=RUN_PANEL)
    device: str = option("cpu", "Where to compute, as torch names it: cpu, cuda, cuda:1 ...", panel=RUN_PANEL)

    @property
    def data_name(self) -> str:
        """What the images are called in the name of a run folder."""
        return Path(self.data).resolve().name


@dataclass(frozen=True)
class ImageSearchConfig(DataOptions, panel="Data"):
    """Settings of every search that learns from images: how it sees them, and when it writes checkpoints."""

    crop_pad: int | None = option(None, "Shift train images by up to so many pixels. Default: as the data set.", 0)
    flip: bool | None = option(None, "Mirror half of the train images. Default: as the data set.")
    cutout: int = option(0, "Side of the square that is blanked in train images while searching; 0: none.", 0)

    budget: str = option(
        "",
        "What the search may cost in all: '1h 30m', '200 trials', '10 gpu-hours', '8 cpu-hours', or several with "
        "commas between. Trainings of what was found have their share of it (--training-share) after a search by "
        "gradients, and come on top after others.",
        panel=RUN_PANEL,
    )
    checkpoint_steps: int = option(0, "Write a checkpoint every so many steps; 0: by time alone.", 0, panel=RUN_PANEL)
    checkpoint_seconds: float = option(
        60.0, "Write a checkpoint after so many seconds, and at each epoch's end.", 0, panel=RUN_PANEL
    )

    def check(self) -> None:
        check_budget(self.budget, self.device)
