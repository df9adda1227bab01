"""Errors of the command line: one line on stderr, and an exit code."""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click
from click.exceptions import Exit

from nasfast.errors import NasfastError
from nasfast.utils.shown import shown

INTERRUPTED = 130

_OUT_OF_MEMORY = "out of memory; try a smaller --batch-size, or --recompute"

_debug = False


def show_tracebacks(show: bool) -> None:
    """Whether errors come with their traceback (--debug)."""
    global _debug
    _debug = show


def print_error(message: str) -> None:
    """Print an error as one line."""
    print(f"nasfast: error: {shown(' '.join(message.split()))}", file=sys.stderr, flush=True)


def fail(message: str, code: int = 1) -> Exit:
    """Print an error as one line, and the traceback where --debug asks for it; what to raise."""
    if _debug:
        traceback.print_exc()
    print_error(message)
    return Exit(code)


def one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn what a command raises into one line on stderr and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (click.ClickException, click.Abort, Exit):
            raise
        except NasfastError as error:
            raise fail(str(error)) from error
        except KeyboardInterrupt as error:
            raise fail("interrupted", INTERRUPTED) from error
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise fail(f"{where}{error.strerror or error}") from error
        except MemoryError as error:
            raise fail(_OUT_OF_MEMORY) from error
        except Exception as error:
            if "out of memory" in str(error).lower():
                raise fail(_OUT_OF_MEMORY) from error
            message = f"internal error, {type(error).__name__}: {error}; `nasfast --debug ...` shows the traceback"
            raise fail(message) from error

    return run
