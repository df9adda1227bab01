"""Texts that come from elsewhere, such as the names of files, as they may be written to a terminal."""

from __future__ import annotations


def as_utf8(text: str) -> str:
    """The text with what UTF-8 cannot hold, such as bytes of a file's name in another encoding, as ``\\udce9``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def shown(text: object) -> str:
    """The text with what is no visible character, such as an escape, a line feed or a broken byte, as ``\\x1b``."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
