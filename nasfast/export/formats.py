"""Write a retrained network as ONNX or as a torch.export program, once it has been shown to give the same outputs.

An exported network takes images as files hold them, uint8 [N, H, W, C] with any N, and gives logits [N, classes]; scale
and normalisation are inside. Names of the classes, and the size that images have to be scaled to, are in its metadata.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from nasfast.errors import ExportError
from nasfast.runs.folder import RunFolder
from nasfast.spaces.base import Space
from nasfast.training.model_file import LoadedModel, load_model
from nasfast.utils.files import atomic_write

TOLERANCE = 1e-4
"""Largest difference of a logit that counts as equal, relative to the largest logit (or to 1 where that is smaller)."""

CHECK_BATCHES = (1, 7)
"""Batch sizes an exported network is checked with; both differ from the one it is traced with."""

_TRACE_BATCH = 2


class Classifier(nn.Module):
    """A retrained network with its normalisation in front.

    Shape: uint8 images [N, H, W, C] to logits [N, classes].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: LoadedModel) -> None:
        super().__init__()
        self.network = model.network
        self.register_buffer("mean", torch.tensor(model.info.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(model.info.std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        scaled = images.permute(0, 3, 1, 2).float() / 255
        logits, _ = self.network((scaled - self.mean) / self.std)
        return logits


def export_onnx(
    run: RunFolder | str | Path,
    path: str | Path,
    label: str = "derived",
    *,
    force: bool = False,
    space: Space | None = None,
) -> float:
    """Write ``path`` as an ONNX model with input "images", output "logits" and a free batch size.

    Args:
        space: That the architecture is of, where that is a space of your own.

    Returns:
        The largest relative difference that was seen between its outputs (onnxruntime) and PyTorch's.

    Raises:
        ExportError: onnx, onnxscript or onnxruntime is not installed, ``path`` exists (and not ``force``), or the
            outputs differ by more than ``TOLERANCE``; nothing is written then.
        RunError: The run has no retrained network of this label.
    """
    _check_onnx_packages()
    return _export(run, path, label, space, force, "ONNX", _to_onnx, _run_onnx)


def export_pt2(
    run: RunFolder | str | Path,
    path: str | Path,
    label: str = "derived",
    *,
    force: bool = False,
    space: Space | None = None,
) -> float:
    """Write ``path`` for ``torch.export.load``, with a free batch size; otherwise as :func:`export_onnx`."""
    return _export(run, path, label, space, force, "torch.export", _to_pt2, _run_pt2)


FORMATS: dict[str, Callable[..., float]] = {"onnx": export_onnx, "pt2": export_pt2}
"""What writes each format, by name."""


def _export(
    run: RunFolder | str | Path,
    path: str | Path,
    label: str,
    space: Space | None,
    force: bool,
    what: str,
    convert: Callable[[Classifier, Tensor, dict[str, str]], bytes],
    execute: Callable[[bytes, Tensor], Tensor],
) -> float:
    target = Path(path)
    if target.is_dir() or (target.exists() and not force):
        hint = "expected the name of a file" if target.is_dir() else "--force overwrites it"
        raise ExportError(f"{target} exists already; {hint}")
    if not target.parent.is_dir():
        raise ExportError(f"{target}: there is no folder {target.parent}")
    run = run if isinstance(run, RunFolder) else RunFolder.open(run, lock=False)
    model = load_model(run, label, space)
    classifier = Classifier(model).eval()
    images = _check_images(model)
    metadata = {
        "class_names": json.dumps(model.info.class_names),
        "image_size": json.dumps(list(model.info.size)),
        **model.info.architecture,
    }
    try:
        with torch.no_grad(), _quiet():
            content = convert(classifier, images[:_TRACE_BATCH], metadata)
            difference = max(_difference(classifier, images[:n], execute(content, images[:n])) for n in CHECK_BATCHES)
    except Exception as error:  # each exporter raises types of its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(f"{what} export failed: {reason}") from error
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{what} export: outputs differ from PyTorch's by {difference:.2g}, more than {TOLERANCE:.0e}; "
            "nothing was written"
        )
    atomic_write(target, content)
    return difference


def _check_images(model: LoadedModel) -> Tensor:
    """Real test images, uint8 [N, H, W, C]; repeated where the run's test set was tiny."""
    repeats = -(-max(CHECK_BATCHES) // len(model.images))
    return model.images.repeat(repeats, 1, 1, 1)


def _difference(classifier: Classifier, images: Tensor, got: Tensor) -> float:
    expected = classifier(images)
    if got.shape != expected.shape:
        raise ExportError(f"outputs have shape {list(got.shape)}, expected {list(expected.shape)}")
    return float((got - expected).abs().max() / expected.abs().max().clamp_min(1))


def _batch_axis() -> dict[str, dict[int, torch.export.Dim]]:
    return {"images": {0: torch.export.Dim("batch", min=1)}}


def _to_pt2(classifier: Classifier, images: Tensor, metadata: dict[str, str]) -> bytes:
    program = torch.export.export(classifier, (images,), dynamic_shapes=_batch_axis())
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"nasfast.json": json.dumps(metadata)})
    return buffer.getvalue()


def _run_pt2(content: bytes, images: Tensor) -> Tensor:
    result: Tensor = torch.export.load(io.BytesIO(content)).module()(images)
    return result


def _check_onnx_packages() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ExportError(f"ONNX export needs {name}: pip install 'nasfast[onnx]'") from error


def _to_onnx(classifier: Classifier, images: Tensor, metadata: dict[str, str]) -> bytes:
    program = torch.onnx.export(
        classifier,
        (images,),
        dynamo=True,
        dynamic_shapes=_batch_axis(),
        input_names=["images"],
        output_names=["logits"],
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    for key, value in metadata.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    content: bytes = proto.SerializeToString()
    return content


def _run_onnx(content: bytes, images: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    return torch.from_numpy(logits)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' own progress notes and deprecation warnings off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
