"""Errors of the command line: one line on stderr, and an exit code."""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from nasfast.errors import NasfastError
from nasfast.utils.shown import shown

INTERRUPTED = 130

_OUT_OF_MEMORY = "out of memory; try a smaller --batch-size, or --recompute"
_USAGE: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

_debug = False


def show_tracebacks(show: bool) -> None:
    """Whether errors come with their traceback (--debug)."""
    global _debug
    _debug = show


def fail(message: str, code: int = 1) -> typer.Exit:
    """Print an error as one line, and the traceback where --debug asks for it; what to raise."""
    if _debug:
        traceback.print_exc()
    print(f"nasfast: error: {shown(' '.join(message.split()))}", file=sys.stderr, flush=True)
    return typer.Exit(code)


class Commands(TyperGroup):
    """The commands; wrong usage is one line too, with what may have been meant."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        try:
            code = super().main(*args, **(extra | {"standalone_mode": False}))
        except _USAGE as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                print(str(error))
                code = 0
            else:
                print(f"nasfast: error: {shown(self._usage(error))}", file=sys.stderr, flush=True)
                code = int(getattr(error, "exit_code", 2))
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else 0)
        return code

    @staticmethod
    def _usage(error: Any) -> str:
        text = " ".join(str(error.format_message()).split())
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "nasfast"
        return f"{text} See `{path} --help`."


def one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn what a command raises into one line on stderr and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
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
            if isinstance(error, (typer.Exit, _USAGE)) or type(error).__module__.startswith(("click", "typer")):
                raise
            if "out of memory" in str(error).lower():
                raise fail(_OUT_OF_MEMORY) from error
            message = f"internal error, {type(error).__name__}: {error}; `nasfast --debug ...` shows the traceback"
            raise fail(message) from error

    return run
