"""JSON files with a checksum of all that they say, so that no other values are read than were written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from nasfast.errors import NasfastError
from nasfast.utils.texts import read_json

CHECKSUM = "checksum"
"""The key of an object's checksum; it is of all other keys and values, however they are laid out in the file."""

_DIGEST = 16


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """An object of JSON with its checksum, which stands last; one that it has already goes."""
    plain = _without(content)
    return {**plain, CHECKSUM: _checksum(plain)}


def fits(content: Mapping[str, Any]) -> bool:
    """Whether an object of a file has the checksum of what else it says."""
    return content.get(CHECKSUM) == _checksum(_without(content))


def damaged(path: str | os.PathLike[str], error: type[NasfastError]) -> NasfastError:
    """What is said of a file that has no checksum, or one that does not fit."""
    return error(f"{path} is damaged: its checksum does not fit; restore it from a copy")


def read_sealed(path: str | os.PathLike[str], expected: str, error: type[NasfastError]) -> dict[str, Any]:
    """The object in a file that nasfast wrote for itself (:func:`sealed`), without its checksum.

    Args:
        expected: What the file should hold, for errors.
        error: What to raise.

    Raises:
        NasfastError: It cannot be read, is no JSON, has no checksum, or one that does not fit.
    """
    content = read_json(path, expected, error)
    if not isinstance(content, dict):
        raise error(f"{path} must hold {expected}, got {type(content).__name__}")
    if not fits(content):
        raise damaged(path, error)
    return _without(content)


def _without(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name != CHECKSUM}


def _checksum(content: Mapping[str, Any]) -> str:
    # Through JSON once: what is written as a list, or under a text as its key, is read so.
    plain = json.loads(json.dumps(content))
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=_DIGEST).hexdigest()
