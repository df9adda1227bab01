"""MODEL on disk: ``model.json`` and the arrays it names; another model takes its place whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from hashlib import blake2b
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from nasfast.automl.members.base import Arrays
from nasfast.automl.members.load import load_member
from nasfast.automl.model import FittedModel
from nasfast.automl.names import CARD_FILES, MODEL_FILE, ONNX_FILE, REPORT_FILE
from nasfast.automl.prepare import Preparation, Prepared
from nasfast.automl.task import task_of
from nasfast.errors import RunError
from nasfast.tables import Schema, TargetSpec
from nasfast.utils.files import atomic_write
from nasfast.utils.sealed import read_sealed, sealed
from nasfast.utils.version import nasfast_version

FORMAT = 1
"""Of the folder; one of another number is not read."""

_DIGEST = 16
_PREPARATION, _BACKGROUND = "preparation", "background"


def save_model(model: FittedModel, folder: Path, made: Collection[str] = ()) -> None:
    """Write a model into its folder, in the place of the one that is there and of all that was made of that.

    Args:
        made: Names of files that have been made of this model already.

    Raises:
        RunError: It cannot be written; the model before is as it was.
    """
    arrays: Arrays = {
        f"{_PREPARATION}/{key}": np.ascontiguousarray(a) for key, a in model.preparation.to_arrays().items()
    }
    if model.background is not None:
        arrays |= {f"{_BACKGROUND}/numbers": model.background.numbers, f"{_BACKGROUND}/codes": model.background.codes}
    members = []
    for i, (name, weight, member) in enumerate(model.members):
        arrays |= {f"{i}/{key}": np.ascontiguousarray(a) for key, a in member.to_arrays().items()}
        members.append({"name": name, "kind": member.kind, "weight": weight, "settings": dict(member.settings())})
    content = save(arrays)
    digest = checksum(content)
    weights = f"weights-{digest}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / weights, content)
    described = {
        "format": FORMAT,
        "nasfast": nasfast_version(),
        "target": model.target.to_json(),
        "schema": model.schema.to_json(),
        "preparation": model.preparation.to_json(),
        "members": members,
        "temperature": model.temperature,
        "weights": weights,
        "about": dict(model.about),
    }
    # From here on the new model counts: whoever reads sees the one or the other.
    atomic_write(folder / MODEL_FILE, json.dumps(sealed(described), indent=1))
    for old in folder.glob("weights-*.safetensors"):
        if old.name != weights:
            old.unlink(missing_ok=True)
    for name in {*CARD_FILES, REPORT_FILE, ONNX_FILE}.difference(made):
        (folder / name).unlink(missing_ok=True)


def load_model(folder: str | os.PathLike[str]) -> FittedModel:
    """The model in a folder.

    Raises:
        RunError: There is none, it is damaged, or of another format.
    """
    path = Path(folder) / MODEL_FILE
    if not path.is_file():
        raise RunError(f"{folder} holds no model of `nasfast fit`: there is no {MODEL_FILE}")
    content = read_sealed(path, "a model of `nasfast fit`", RunError)
    if content.get("format") != FORMAT:
        raise RunError(
            f"{path} has format {content.get('format')!r}, this nasfast {nasfast_version()} reads {FORMAT}: "
            f"fit it again, or use nasfast {content.get('nasfast', '?')}"
        )
    weights = Path(folder) / str(content["weights"])
    arrays = read_arrays(weights, weights.stem.partition("-")[2])
    target = TargetSpec.from_json(content["target"])
    task = task_of(target)
    members = []
    for i, described in enumerate(content["members"]):
        own = _own(arrays, str(i))
        members.append(
            (described["name"], described["weight"], load_member(described["kind"], own, described["settings"], task))
        )
    preparation = Preparation.from_json(content["preparation"], _own(arrays, _PREPARATION))
    return FittedModel(
        Schema.from_json(content["schema"]),
        preparation,
        target,
        tuple(members),
        content["temperature"],
        content["about"],
        _background(_own(arrays, _BACKGROUND), preparation, weights),
    )


def _background(arrays: Arrays, preparation: Preparation, path: Path) -> Prepared | None:
    """The background rows; None of a model that has none."""
    if not arrays:
        return None
    expected = (preparation.width, len(preparation.codes))
    found = tuple(arrays[name].shape[1:] for name in ("numbers", "codes") if name in arrays)
    if found != ((expected[0],), (expected[1],)) or len(arrays["numbers"]) != len(arrays["codes"]):
        raise RunError(f"{path} is damaged: background rows must have {expected[0]} numbers and {expected[1]} codes")
    return Prepared(arrays["numbers"], arrays["codes"])


def _own(arrays: Arrays, part: str) -> Arrays:
    """Those of one part, without its name."""
    return {key.removeprefix(f"{part}/"): a for key, a in arrays.items() if key.startswith(f"{part}/")}


def read_arrays(path: Path, digest: str) -> Arrays:
    """The arrays of a file that has this checksum.

    Raises:
        RunError: It cannot be read, or has another one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    if checksum(content) != digest:
        raise RunError(f"{path} is damaged: its checksum does not fit; restore it from a copy")
    try:
        return load(content)
    except SafetensorError as error:
        raise RunError(f"{path} is damaged: {error}") from error


def checksum(content: bytes) -> str:
    """Of a file's content."""
    return blake2b(content, digest_size=_DIGEST).hexdigest()
