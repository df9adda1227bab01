"""Checkpoints of a run: written whole or not at all, and read without running code of theirs."""

from __future__ import annotations

import io
import pickletools
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from nasfast.errors import RunError
from nasfast.utils.checksum import is_damaged, is_sealed, seal_zip
from nasfast.utils.files import atomic_write
from nasfast.utils.version import nasfast_version

FORMAT = 3
"""Version of a run folder, of its checkpoints and of trained networks. A file of another version is refused, by name.

In version 1, scores that are accuracies were in percent; in version 2, not every file had a checksum.
"""


class CheckpointError(RunError, ValueError):
    """A checkpoint is missing, damaged, of another version, or holds more than plain tensors and containers."""


def save_checkpoint(path: Path, kind: str, content: dict[str, Any]) -> None:
    """Save plain tensors and containers, with the format version, the nasfast version and ``kind`` (what it is for).

    A checksum of all of it is at the end.
    """
    # Serialised in memory first: torch's zip writer turns an OSError of its file into an anonymous RuntimeError.
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "nasfast": nasfast_version(), "kind": kind, **content}, buffer)
    sealed = seal_zip(buffer)
    atomic_write(path, lambda file: _write_all(file, sealed))


def _write_all(file: IO[bytes], buffer: io.BytesIO) -> None:
    file.write(buffer.getbuffer())


def _holds_pickled_code(path: Path, reason: str) -> bool:
    """Whether a file that would not load names Python objects. Reads the pickle's opcodes; never runs them."""
    if zipfile.is_zipfile(path):
        return "global" in reason.lower()
    with open(path, "rb") as file:
        if file.read(2) == b"PK":
            return False
        file.seek(0)
        try:
            while file.peek(1):  # torch's old format is several pickles, one after the other
                if any(op.name in ("GLOBAL", "STACK_GLOBAL", "INST") for op, _, _ in pickletools.genops(file)):
                    return True
        except Exception:  # pickletools raises many types on bytes that are no pickle
            return False
    return False


def load_checkpoint(path: Path, kind: str) -> dict[str, Any]:
    """Load what :func:`save_checkpoint` wrote, tensors on the CPU.

    Raises:
        CheckpointError: Missing, damaged, of another format version or kind, or holding pickled Python objects.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        damaged = is_damaged(path)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    if damaged:
        raise CheckpointError(f"{path} is damaged: its checksum is not that of its content")
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols: one error says it all
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if _holds_pickled_code(path, str(error)):
            raise CheckpointError(
                f"{path} holds pickled Python code, which nasfast never loads; expected plain tensors and containers"
            ) from error
        raise CheckpointError(f"{path} is truncated or damaged: it cannot be read as a checkpoint") from error
    if not isinstance(content, dict) or "format" not in content or "kind" not in content:
        raise CheckpointError(f"{path} is no nasfast checkpoint: it has no format version")
    if content["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {content['format']} (nasfast {content.get('nasfast')}); "
            f"this nasfast {nasfast_version()} reads format {FORMAT}"
        )
    if not is_sealed(path):
        raise CheckpointError(f"{path} is damaged: it has no checksum")
    if content["kind"] != kind:
        raise CheckpointError(f"{path} is a checkpoint of kind {content['kind']!r}, expected {kind!r}")
    return content
