"""Files of a run written by a test, with the checksum that nasfast asks for."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nasfast.utils.checksum import seal_zip
from nasfast.utils.sealed import sealed


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """An object of JSON; a checksum that it has already, as of a file that was read, is made anew."""
    path.write_text(json.dumps(sealed(content)))


def replace_sealed(path: Path, old: str, new: str) -> None:
    """Another text in an object of JSON that was read from a file."""
    text = path.read_text()
    assert old in text
    write_sealed(path, json.loads(text.replace(old, new)))


def save_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """What torch.load gives of a checkpoint, changed."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    path.write_bytes(seal_zip(buffer).getvalue())
