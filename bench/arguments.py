"""Command-line options that every bench takes, and what is done with them before and after."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from bench import environment
from bench.tables import section


def parse(
    name: str,
    description: str | None,
    plot: bool = True,
    cuda: bool = False,
    traffic: bool = False,
    compiles: bool = True,
    arguments: Sequence[str] | None = None,
) -> argparse.Namespace:
    """Options of the bench `name`; sets torch's thread count.

    Args:
        plot, cuda, traffic, compiles: it draws a plot, can measure on a GPU, compares that with counted bytes, times
            torch.compile.
        arguments: instead of the command line's.
    """
    parser = make_parser(name, description, cuda)
    if traffic:
        add_traffic(parser)
    if compiles:
        parser.add_argument(
            "--compile",
            type=float,
            metavar="SECONDS",
            dest="compile_limit",
            help="time torch.compile too, giving each compilation this long",
        )
    default_plot = Path("runs/bench") / f"{name}.svg"
    if plot:
        parser.add_argument("--plot", type=Path, metavar="FILE", help=f"svg or png (default {default_plot}); CPU only")
    options = finish(parser, arguments)
    if plot:
        if options.device == "cuda" and options.plot:
            parser.error("--plot goes with --device cpu: how cost grows is not measured on a GPU")
        options.plot = options.plot or default_plot
    return options


def make_parser(name: str, description: str | None, cuda: bool = False, device: str = "cpu") -> argparse.ArgumentParser:
    """With the options that every bench takes; a bench of its own ones adds them, and calls `finish`."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=description)
    add_common(parser, cuda, device)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    return parser


def finish(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options given, checked."""
    options = parser.parse_args(arguments)
    check(parser, options)
    return options


def add_traffic(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--traffic",
        type=Path,
        metavar="FILE",
        help="with --device cuda: bytes of every kernel, as python -m bench.cuda_traffic --json FILE counts them",
    )


def add_rounds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=at_least_one, metavar="N", help="samples of every time")


def at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def add_common(parser: argparse.ArgumentParser, cuda: bool, device: str = "cpu") -> None:
    parser.add_argument("--quick", action="store_true", help="fewer sizes and rounds: a look, not a measurement")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: torch's")
    parser.add_argument("--device", choices=["cpu", "cuda"] if cuda else ["cpu"], default=device)


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    cores = os.cpu_count() or 1
    if not 1 <= options.threads <= cores:
        parser.error(f"--threads must be 1 to {cores} on this machine, got {options.threads}")
    torch.set_num_threads(options.threads)
    if options.device == "cuda":
        from bench.cuda import missing

        lacks = missing()
        if lacks:
            parser.error(f"--device cuda: {lacks}")
    elif getattr(options, "traffic", None):
        parser.error("--traffic goes with --device cuda")


def print_environment(options: argparse.Namespace) -> dict[str, object]:
    facts = environment.describe(options.device, options.threads)
    print(section("Measured on", ("", ""), environment.as_rows(facts)), flush=True)
    return facts


IN_PERCENT: dict[str, object] = {"accuracies": "percent; train_acc and valid_acc: fractions"}
"""Stands in a file of results whose accuracies are in percent, as papers print them; nasfast itself has fractions."""


def write_json(path: Path | None, results: dict[str, object]) -> None:
    """Written beside and renamed, so a FILE that exists is whole."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(results, indent=1) + "\n")
    partial.replace(path)
    print(f"\nwrote {path}")


def progress(done: int, total: int, what: str) -> None:
    """A line on stderr, so that tables on stdout stay clean."""
    print(f"[{done}/{total}] {what}", file=sys.stderr, flush=True)
