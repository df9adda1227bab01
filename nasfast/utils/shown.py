"""Texts that come from elsewhere, such as the names of files, as they may be written to a terminal."""

from __future__ import annotations


def shown(text: object) -> str:
    """The text with what is no visible character, such as an escape, a line feed or a broken byte, as ``\\x1b``."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
