"""The commands by name, loaded when they are called."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from nasfast.cli.errors import INTERRUPTED, print_error
from nasfast.cli.help import write_tables
from nasfast.utils.suggest import did_you_mean

COMMANDS = {
    "check": "Look at a table before anything is trained on it: kinds of columns, leaks, duplicates, drift, guesses.",
    "search": "Search cells on images, or with --space an architecture of that space; write the report.",
    "fit": "Fit a model to a table: networks are searched for it, and weighed with trees and a linear model.",
    "compare": "Compare estimators: how well each ranks architectures as the full training does, and what that costs.",
    "retrain": "Train the network that a search has found; goes on where an earlier training of this label was "
    "stopped.",
    "evaluate": "Test a retrained network on the test images of its run.",
    "predict": "Predict each row of a table, or say what a retrained network sees in images.",
    "export": "Export a retrained network, checked to give the same outputs before it is written.",
    "report": "Write the report of a run, as far as it has come.",
    "info": "Show versions, the extension's build and instruction set, threads, and the GPU or why there is none.",
}
"""What each command does: the first sentence of its help, which the list of commands shows without loading them."""


class Commands(click.Group):
    """The commands; wrong usage is one line too, with what may have been meant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"nasfast.cli.commands.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            ctx.fail(f"No such command {args[0]!r}{did_you_mean(args[0], COMMANDS) or '.'}")
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["--help"])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [row for p in self.get_params(ctx) if (row := p.get_help_record(ctx)) is not None]
        write_tables(formatter, {"Options": options, "Commands": list(COMMANDS.items())})

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        try:
            code = super().main(*args, **(extra | {"standalone_mode": False}))
        except click.Abort:
            print_error("interrupted")
            code = INTERRUPTED
        except click.ClickException as error:
            print_error(_usage(error))
            code = error.exit_code
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else 0)
        return code


def _usage(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    text = error.format_message()
    end = "" if text.endswith((".", "?", "?)")) else "."
    return f"{text}{end} See `{context.command_path if context else 'nasfast'} --help`."
