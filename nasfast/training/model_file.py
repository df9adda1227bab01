"""Retrained networks on disk: one safetensors file per label that also says what network its weights belong to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as deserialize
from safetensors.torch import save as serialize

from nasfast.errors import NasfastError, RunError
from nasfast.runs.checkpoint import FORMAT
from nasfast.runs.folder import RunFolder
from nasfast.spaces.base import Space
from nasfast.spaces.genotype import Genotype
from nasfast.spaces.genotype_network import DerivedNetwork
from nasfast.training.space_network import SpaceModelInfo, WholeNetwork
from nasfast.utils.files import atomic_write
from nasfast.utils.suggest import did_you_mean

_KEY, _CHECKSUM = "nasfast", "checksum"
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

    @property
    def architecture(self) -> dict[str, str]:
        """What the network is, for people and for the metadata of an exported file."""
        return {"genotype": self.genotype}

    def build(self, space: Space | None = None) -> DerivedNetwork:
        """The network, without its auxiliary head and with fresh weights.

        Raises:
            RunError: A space is given, and this is a network of cells.
        """
        if space is not None:
            raise RunError(f"{self.label} is a network of cells, got the space {space.name}")
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


def save_model(
    run: RunFolder, info: ModelInfo | SpaceModelInfo, state: Mapping[str, torch.Tensor], images: torch.Tensor
) -> Path:
    """Write the weights a trained network needs for inference (the auxiliary head is left out).

    Args:
        state: State dict of the network that ``info`` builds; of the network inside, for an architecture of a space.
        images: uint8 [N, H, W, C] test images; the first ``SAMPLE_COUNT`` are kept too.

    Raises:
        RunError: The file cannot be written.
    """
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in state.items()
        if not name.startswith("auxiliary_head.")
    }
    tensors[_SAMPLES] = images[:SAMPLE_COUNT].cpu().contiguous()
    description = {"format": FORMAT, **asdict(info)}
    description |= {_CHECKSUM: _checksum(description, tensors)}
    # One entry: several would stand in the file in an order of their own each time.
    content = serialize(tensors, metadata={_KEY: json.dumps(description)})
    path = model_path(run, info.label)
    atomic_write(path, content)
    return path


def _checksum(description: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """Of all that a file says, but for the checksum itself."""
    said = {name: value for name, value in description.items() if name != _CHECKSUM}
    digest = hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True)
class LoadedModel:
    """A retrained network in eval mode on the CPU, what is known of it, and a few test images (uint8 [N, H, W, C])."""

    network: DerivedNetwork | WholeNetwork
    info: ModelInfo | SpaceModelInfo
    images: torch.Tensor


def load_model(run: RunFolder, label: str = "derived", space: Space | None = None) -> LoadedModel:
    """Read a retrained network. Never runs code from the file.

    Args:
        space: That its architecture is of, where that is a space of your own.

    Raises:
        RunError: There are no retrained weights of this label, or the file is damaged or of another version.
    """
    path = model_path(run, label)
    if not path.is_file():
        others = sorted(p.stem.removeprefix("model-") for p in run.path.glob("model-*.safetensors"))
        raise RunError(
            f"{run.path} has no retrained network {label!r} ({path.name})"
            f"{', it has ' + ', '.join(others) if others else ''}; make it with: nasfast retrain {run.path}"
            f"{did_you_mean(label, others)}"
        )
    try:
        content = path.read_bytes()  # safetensors itself opens no path that is not UTF-8
        tensors: dict[str, torch.Tensor] = deserialize(content)
        metadata = _metadata(content)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise RunError(f"{path} is truncated or damaged: {error}") from error
    info = _parse_info(path, metadata.get(_KEY), tensors)
    network = info.build(space)
    try:
        images = tensors.pop(_SAMPLES)
        (network.network if isinstance(network, WholeNetwork) else network).load_state_dict(tensors)
    except (RuntimeError, KeyError) as error:
        raise RunError(f"{path}: the weights do not fit the network that the file describes") from error
    return LoadedModel(network.eval().to(memory_format=torch.channels_last), info, images)


def _metadata(content: bytes) -> dict[str, str]:
    """What a safetensors file, found whole, says beside its tensors."""
    length = int.from_bytes(content[:8], "little")
    found: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    return found


def _parse_info(path: Path, text: str | None, tensors: Mapping[str, torch.Tensor]) -> ModelInfo | SpaceModelInfo:
    try:
        content: dict[str, Any] = json.loads(text or "null")
        found = content.pop("format")
    except (ValueError, AttributeError, KeyError) as error:
        raise RunError(f"{path} holds weights, but nasfast did not write it: its description is missing") from error
    if found != FORMAT:
        raise RunError(f"{path} has format {found}, this nasfast reads format {FORMAT}")
    if content.pop(_CHECKSUM, None) != _checksum({"format": found, **content}, tensors):
        raise RunError(f"{path} is damaged: its checksum is not that of its content")
    try:
        for name in ("size", "mean", "std", "class_names"):
            content[name] = tuple(content[name])
        if "space" in content:
            return SpaceModelInfo(**content | {"gated": tuple(content.get("gated", ()))})
        info = ModelInfo(**content)
        Genotype.parse(info.genotype)
    except (TypeError, KeyError, NasfastError) as error:
        raise RunError(f"{path}: its description is damaged: {error}") from error
    return info
