"""Data sets in memory, augmentation on the device, and the order of images."""

from nasfast.data.augment import Augmentation, augment, normalize
from nasfast.data.dataset import DATA_SETS, DataSet, load_data
from nasfast.data.resize import shrink_images
from nasfast.data.sampler import Sampler, split_indices

__all__ = [
    "DATA_SETS",
    "Augmentation",
    "DataSet",
    "Sampler",
    "augment",
    "load_data",
    "normalize",
    "shrink_images",
    "split_indices",
]
