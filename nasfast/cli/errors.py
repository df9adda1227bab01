"""Errors of the command line: one line on stderr, and an exit code."""

from __future__ import annotations

import functools
import os
import select
import sys
import traceback
from collections.abc import Callable
from typing import Any, TextIO

import click
from click.exceptions import Exit

from nasfast.errors import NasfastError
from nasfast.utils.shown import shown

INTERRUPTED = 130
NO_READER = 141  # what a shell says of a command that nobody reads any more

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
            sys.stdout.flush()
        except (click.ClickException, click.Abort, Exit):
            raise
        except NasfastError as error:
            raise fail(str(error)) from error
        except KeyboardInterrupt as error:
            raise fail("interrupted", INTERRUPTED) from error
        except OSError as error:
            if isinstance(error, BrokenPipeError) and _is_unread(sys.stdout):
                raise Exit(NO_READER) from error
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


def _is_unread(output: TextIO) -> bool:
    """Whether output goes to a pipe that nobody reads any more (``| head``); what is left of it then goes nowhere."""
    poll = select.poll()
    poll.register(output, 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
    return True
