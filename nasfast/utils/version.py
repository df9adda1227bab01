"""The version of nasfast."""

from __future__ import annotations

from importlib import metadata


def nasfast_version() -> str:
    """Version of the running nasfast."""
    try:
        return metadata.version("nasfast")
    except metadata.PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"
