"""Retrained networks on disk: one safetensors file per label that also says what network its weights belong to."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize

from nasfast.derived import DerivedNetwork
from nasfast.errors import NasfastError, RunError
from nasfast.run import FORMAT, RunFolder, atomic_write
from nasfast.spaces.genotype import Genotype

_KEY = "nasfast"
_SAMPLES = "sample_images"
SAMPLE_COUNT = 8
"""Test images kept beside the weights, for checking an exported network on real data wherever the run is taken."""


@dataclass(frozen=True)
class ModelInfo:
    """What is needed to build a retrained network and to prepare its images.

    ``mean`` and ``std`` normalise images on the scale 0 to 1, per channel; ``size`` is height and width in pixels.
    """

    label: str
    genotype: str
    channels: int
    layers: int
    in_channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]

    def build(self) -> DerivedNetwork:
        """The network, without its auxiliary head and with fresh weights."""
        return DerivedNetwork(
            self.channels,
            len(self.class_names),
            self.layers,
            False,
            Genotype.parse(self.genotype),
            in_channels=self.in_channels,
        )


def model_path(run: RunFolder, label: str) -> Path:
    """Where the weights of ``label`` are kept."""
    return run.path / f"model-{label}.safetensors"


def save_model(run: RunFolder, info: ModelInfo, network: DerivedNetwork, images: torch.Tensor) -> Path:
    """Write the weights a trained network needs for inference (the auxiliary head is left out).

    Args:
        images: uint8 [N, H, W, C] test images; the first ``SAMPLE_COUNT`` are kept too.

    Raises:
        RunError: The file cannot be written.
    """
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
        if not name.startswith("auxiliary_head.")
    }
    tensors[_SAMPLES] = images[:SAMPLE_COUNT].cpu().contiguous()
    content = serialize(tensors, metadata={_KEY: json.dumps({"format": FORMAT, **asdict(info)})})
    path = model_path(run, info.label)
    atomic_write(path, content)
    return path


@dataclass(frozen=True)
class LoadedModel:
    """A retrained network in eval mode on the CPU, what is known of it, and a few test images (uint8 [N, H, W, C])."""

    network: DerivedNetwork
    info: ModelInfo
    images: torch.Tensor


def load_model(run: RunFolder, label: str = "derived") -> LoadedModel:
    """Read a retrained network. Never runs code from the file.

    Raises:
        RunError: There are no retrained weights of this label, or the file is damaged or of another version.
    """
    path = model_path(run, label)
    if not path.is_file():
        raise RunError(
            f"{run.path} has no retrained network {label!r} ({path.name}); make it with: nasfast retrain {run.path}"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} is truncated or damaged: {error}") from error
    info = _parse_info(path, metadata.get(_KEY))
    network = info.build()
    try:
        images = tensors.pop(_SAMPLES)
        network.load_state_dict(tensors)
    except (RuntimeError, KeyError) as error:
        raise RunError(f"{path}: the weights do not fit the network that the file describes") from error
    return LoadedModel(network.eval().to(memory_format=torch.channels_last), info, images)


def _parse_info(path: Path, text: str | None) -> ModelInfo:
    try:
        content: dict[str, Any] = json.loads(text or "null")
        found = content.pop("format")
    except (ValueError, AttributeError, KeyError) as error:
        raise RunError(f"{path} holds weights, but nasfast did not write it: its description is missing") from error
    if found != FORMAT:
        raise RunError(f"{path} has format {found}, this nasfast reads format {FORMAT}")
    try:
        for name in ("size", "mean", "std", "class_names"):
            content[name] = tuple(content[name])
        info = ModelInfo(**content)
        Genotype.parse(info.genotype)
    except (TypeError, KeyError, NasfastError) as error:
        raise RunError(f"{path}: its description is damaged: {error}") from error
    return info
