"""Texts and JSON that people hand in: read whatever byte order mark they begin with, refused in one line."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nasfast.errors import NasfastError

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
MARK = "\ufeff"
"""The byte order mark, as a text begins with it that was decoded with it."""


def read_text(path: str | os.PathLike[str], expected: str, error: type[NasfastError]) -> str:
    """The text of a file in UTF-8, or in UTF-16 where it begins with the mark of that, without the mark.

    Args:
        expected: What the file should hold, for errors.
        error: What to raise.

    Raises:
        NasfastError: It cannot be read, is no text, or is empty.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as reason:
        raise error(f"cannot read {path}: {reason.strerror or reason}") from reason
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as reason:
        raise error(f"{path} is not a text file: expected {expected}") from reason
    if not text.strip():
        raise error(f"{path} is empty: expected {expected}")
    return text


def read_json(
    path: str | os.PathLike[str],
    expected: str,
    error: type[NasfastError],
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """What a JSON file holds.

    Args:
        expected, error: See :func:`read_text`.
        pairs: What makes an object of its names and values.

    Raises:
        NasfastError: See :func:`read_text`; it is no JSON, or nested deeper than can be read.
    """
    return parse_json(read_text(path, expected, error), str(path), expected, error, pairs)


def parse_json(
    text: str,
    where: str,
    expected: str,
    error: type[NasfastError],
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """What a JSON text holds; ``where`` says in errors what it is of."""
    text = text.removeprefix(MARK)
    if not text.strip():
        raise error(f"{where} is empty: expected {expected}")
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except NasfastError:  # of pairs; some are ValueErrors
        raise
    except ValueError as reason:
        raise error(f"{where} is not valid JSON ({reason}): expected {expected}") from reason
    except RecursionError:
        raise error(f"{where} is nested too deep: expected {expected}") from None
