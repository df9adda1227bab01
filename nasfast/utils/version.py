"""The version of nasfast."""

from __future__ import annotations


def nasfast_version() -> str:
    """Version of the running nasfast."""
    from importlib import metadata  # takes longer to load than most commands need

    try:
        return metadata.version("nasfast")
    except metadata.PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"


def __getattr__(name: str) -> str:
    if name == "__version__":
        return nasfast_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
