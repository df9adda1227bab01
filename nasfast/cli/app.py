"""The ``nasfast`` command. Every error is one line on stderr and exit code 1 (2 for wrong usage); Ctrl-C is 130."""

from __future__ import annotations

import functools
import json
import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from nasfast.cli.options import with_compare_options, with_search_options
from nasfast.config.base import option_name
from nasfast.config.gradient import SearchConfig
from nasfast.errors import ConfigError, NasfastError
from nasfast.utils.progress import Progress

INTERRUPTED = 130

app = typer.Typer(
    name="nasfast",
    help="Search network architectures: by gradients on fused kernels, with a shared network, or by evaluations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_debug = False


@app.callback()
def _global_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    global _debug
    _debug = debug


def _fail(message: str, code: int = 1) -> typer.Exit:
    """Print an error as one line, and the traceback where --debug asks for it."""
    if _debug:
        traceback.print_exc()
    print(f"nasfast: error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return typer.Exit(code)


def _one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn what a command raises into one line on stderr and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except NasfastError as error:
            raise _fail(str(error)) from error
        except KeyboardInterrupt as error:
            raise _fail("interrupted", INTERRUPTED) from error
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise _fail(f"{where}{error.strerror or error}") from error
        except MemoryError as error:
            raise _fail("out of memory; try a smaller --batch-size, or --recompute") from error
        except Exception as error:
            if isinstance(error, typer.Exit) or type(error).__module__.startswith(("click", "typer")):
                raise
            if "out of memory" in str(error).lower():
                raise _fail("out of memory; try a smaller --batch-size, or --recompute") from error
            message = f"internal error, {type(error).__name__}: {error}; `nasfast --debug ...` shows the traceback"
            raise _fail(message) from error

    return run


RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a search.")]
LabelOption = Annotated[
    str | None,
    typer.Option(help="Which retrained network of the run: derived, best, random ... Default: what it found."),
]
DeviceOption = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1 ...")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


@app.command()
@with_search_options
@_one_line_errors
def search(
    *,
    out: Annotated[Path | None, typer.Option(help="Run folder to make. Default: runs/DATA-STRATEGY.")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Go on with a run that was stopped. Takes its settings from there."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="JSON or TOML file of these settings, or the config.json of a run. Options win over it."),
    ] = None,
    quiet: QuietOption = False,
    **given: Any,
) -> None:
    """Search cells on images, or with --space an architecture of that space; write the report.

    By gradients (darts, pcdarts, gdas, snas, drnas): cells without --space, or an architecture of one whose operations
    are where they are; the derived network is trained beside a random one, or both are looked up with --table.
    With --space and spos, fairnas or enas, or with --estimator oneshot: one network that all architectures share is
    trained on the images, and the architectures are compared with its weights.
    """
    # A polite kill (a batch system's, say) saves the state as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = {name: value for name, value in given.items() if value not in (None, [])}
    progress = Progress(quiet=quiet)
    if resume is not None:
        budget = settings.pop("budget", None)
        extra = [option_name(name) for name in settings]
        extra += [name for name, value in (("--out", out), ("--config", config)) if value is not None]
        if extra:
            raise typer.BadParameter(f"--resume takes its settings from {resume}; leave out {', '.join(extra)}")
        target, start = resume, _resuming(resume, progress, budget)
    else:
        target, start = _starting(settings, config, out, progress)
    try:
        result = start()
    except KeyboardInterrupt as error:
        if not (target / "config.json").is_file():
            raise _fail("interrupted before the run began; nothing was written", INTERRUPTED) from error
        again = shlex.join(["nasfast", "search", "--resume", str(target)])
        raise _fail(f"interrupted; the state was saved, go on with: {again}", INTERRUPTED) from error
    if result is not None:  # None: another rank has the result
        _print_result(result)


def _starting(
    settings: dict[str, Any], config: Path | None, out: Path | None, progress: Progress
) -> tuple[Path, Callable[[], Any]]:
    """The run folder of a new search, and what starts it."""
    from nasfast.search.routing import runner_of

    runner, settings = runner_of(settings, config)
    if runner == "blackbox":
        from nasfast.config.blackbox import BlackBoxConfig
        from nasfast.search.blackbox.runner import run_blackbox

        chosen = BlackBoxConfig.of(settings)
        target = out or _free_folder(f"{chosen.space}-{chosen.strategy}")
        return target, lambda: run_blackbox(chosen, target, progress)
    if runner == "oneshot":
        from nasfast.config.oneshot import OneShotConfig
        from nasfast.search.oneshot.runner import run_oneshot

        shared = OneShotConfig.of(settings)
        target = out or _free_folder(f"{Path(shared.data).resolve().name}-{shared.space}-{shared.strategy}")
        return target, lambda: run_oneshot(shared, target, progress)
    from nasfast.search.gradient.runner import run_search

    searched = SearchConfig.for_data(**settings)
    parts = [Path(searched.data).resolve().name, *([searched.space] if searched.of_space else []), searched.strategy]
    target = out or _free_folder("-".join(parts))
    return target, lambda: run_search(searched, target, progress)


def _resuming(run: Path, progress: Progress, budget: str | None) -> Callable[[], Any]:
    """What goes on with a run, until another budget is spent where one is given."""
    from nasfast.runs.folder import RunFolder

    stored = RunFolder.open(run, lock=False).read_config()
    if "blackbox" in stored:
        from nasfast.search.blackbox.runner import resume_blackbox

        return lambda: resume_blackbox(run, progress, budget=budget)
    if budget is not None:
        raise ConfigError(f"--budget goes with --resume of a black-box search, which {run} is not; leave it out")
    if "oneshot" in stored:
        from nasfast.search.oneshot.runner import resume_oneshot

        return lambda: resume_oneshot(run, progress)
    from nasfast.search.gradient.runner import resume_search

    return lambda: resume_search(run, progress)


def _free_folder(name: str) -> Path:
    """runs/NAME, with a number where that exists."""
    base = Path("runs") / name
    number = 1
    folder = base
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder


def _print_result(result: Any) -> None:
    if result.was_finished:
        print(f"run {result.path} is finished, there is nothing to resume")
    if hasattr(result, "front"):
        _print_found(result)
    else:
        stopped = f", stopped early: {result.stopped}" if result.stopped else ""
        print(f"searched   {result.epochs} epochs{stopped}")
        if result.genotype is not None:
            print(f"genotype   {result.genotype}")
        else:
            _print_derived(result.found)
        if result.results:
            _print_table(list(result.results.values()))
    print(f"report     {result.report}")


def _print_derived(found: Any) -> None:
    """The derived architecture of a space, and what a table says of it and of the others."""
    print(f"derived    {found.architecture}")
    for label, metrics in found.metrics.items():
        if "score" in metrics:
            accuracy = metrics.get("test_accuracy", metrics["score"])
            print(f"{label:<15} in the table: test accuracy {accuracy:.2f} %, {found.space.decode(found.rows[label])}")


def _print_found(result: Any) -> None:
    """The best architecture of a space, and the front where there is more than one objective."""
    failed = f", {result.failed} failed" if getattr(result, "failed", 0) else ""
    print(f"searched   {result.space.name}, {result.evaluations} evaluations{failed}")
    print(f"best       {result.space.decode(result.best.row)}")
    metrics = {name: f"{value:,.2f}".removesuffix(".00") for name, value in result.best.metrics.items()}
    print("           " + ", ".join(f"{name} {value}" for name, value in metrics.items()))
    if len(result.front) > 1:
        print(f"front      {len(result.front)} architectures, in {result.path / 'architectures.json'}")
    if getattr(result, "results", None):
        _print_table(list(result.results.values()))


def _print_table(results: list[Any]) -> None:
    print(f"{'network':<10} {'test accuracy':>13} {'test loss':>10} {'parameters':>12} {'seconds':>8}")
    for row in results:
        accuracy = f"{100 * row.test_acc:.2f} %"
        print(f"{row.label:<10} {accuracy:>13} {row.test_loss:>10.4f} {row.params:>12,} {row.seconds:>8.1f}")


@app.command()
@with_compare_options
@_one_line_errors
def compare(
    *,
    out: Annotated[Path | None, typer.Option(help="Run folder to make. Default: runs/DATA-SPACE-compare.")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Go on with a comparison that was stopped. Takes its settings from there."),
    ] = None,
    quiet: QuietOption = False,
    **given: Any,
) -> None:
    """Compare estimators: how well each ranks architectures as the full training does, and what that costs."""
    from nasfast.compare.runner import resume_compare, run_compare
    from nasfast.config.compare import CompareConfig

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = {name: value for name, value in given.items() if value not in (None, [])}
    progress = Progress(quiet=quiet)
    if resume is not None:
        extra = [option_name(name) for name in settings] + (["--out"] if out is not None else [])
        if extra:
            raise typer.BadParameter(f"--resume takes its settings from {resume}; leave out {', '.join(extra)}")
        target = resume
    else:
        config = CompareConfig.of(settings)
        target = out or _free_folder(f"{Path(config.data).resolve().name}-{config.space}-compare")
    try:
        result = resume_compare(target, progress) if resume is not None else run_compare(config, target, progress)
    except KeyboardInterrupt as error:
        again = shlex.join(["nasfast", "compare", "--resume", str(target)])
        raise _fail(f"interrupted; go on with: {again}", INTERRUPTED) from error
    _print_comparisons(result)


def _print_comparisons(result: Any) -> None:
    print(f"{'estimator':<48} {'tau':>6} {'95 %':>14} {'FLOPs':>9} {'seconds':>8}")
    for row in result.comparisons:
        tau, low, high = ("-" if value is None else f"{value:.2f}" for value in (row.tau, row.low, row.high))
        print(f"{row.name:<48} {tau:>6} {low + ' ... ' + high:>14} {row.flops:>9.2g} {row.seconds:>8.2f}")
    for name, reason in result.omitted.items():
        print(f"{name}: left out, {reason}")
    print(f"report     {result.report}")


@app.command()
@_one_line_errors
def retrain(
    run: RunArgument,
    label: Annotated[
        str | None, typer.Option(help="Name of this training within the run. Default: derived, or best.")
    ] = None,
    genotype: Annotated[
        Path | None,
        typer.Option(help="Of cells: a genotype's file, JSON or as published. Default: RUN/genotype.json."),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(help="Of a space: its text, with training settings or without. Default: what the run has found."),
    ] = None,
    space_set: Annotated[
        list[str] | None,
        typer.Option(help="Of a space: its setting, like channels=16. Default: as the run. May be repeated."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs. Default: as the run.")] = None,
    channels: Annotated[
        int | None, typer.Option(help="Of cells: channels of the first cell. Default: as the run.")
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Of cells: how many. Default: as the run.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step. Default: as the run.")] = None,
    lr: Annotated[float | None, typer.Option(help="First epoch's learning rate. Default: as the run.")] = None,
    drop_path: Annotated[
        float | None,
        typer.Option(help="Of cells: probability that a path is dropped, at the end. Default: as the run."),
    ] = None,
    cutout: Annotated[
        int | None,
        typer.Option(help="Side of the blanked square in pixels, 0: none. Default: by the image's size."),
    ] = None,
    auxiliary: Annotated[
        bool | None, typer.Option(help="Of cells: train with the auxiliary head. Default: with it.")
    ] = None,
    inherit: Annotated[
        bool,
        typer.Option(
            "--inherit",
            help="Start from what the search has trained: of cells its network, with its channels and layers; of "
            "a space the architecture's own weights, or those in the shared network.",
        ),
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Seed. Default: as the run.")] = None,
    device: Annotated[str | None, typer.Option(help="Where to compute. Default: as the run.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Start again where this label was trained already.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Train the network that a search has found; goes on where an earlier training of this label was stopped."""
    from nasfast.report.build import build_report
    from nasfast.retrain.from_run import read_stored_search, retrain_of_space
    from nasfast.runs.folder import RunFolder

    stored, progress = read_stored_search(run), Progress(quiet=quiet)
    every: dict[str, Any] = {
        "epochs": epochs, "batch_size": batch_size, "lr": lr, "cutout": cutout, "seed": seed, "device": device
    }  # fmt: skip
    of_cells: dict[str, Any] = {"genotype": genotype, "channels": channels, "layers": layers, "drop_path": drop_path,
                "auxiliary": auxiliary}  # fmt: skip
    of_spaces: dict[str, Any] = {"arch": arch, "space_set": tuple(space_set) if space_set else None}
    options, cells, choices = map(_given, (every, of_cells, of_spaces))
    foreign = cells if stored.space else choices
    if foreign:
        what = f"of the space {stored.space}" if stored.space else "of cells"
        raise ConfigError(f"{option_name(next(iter(foreign)))} does not go with {run}, a search {what}")
    with RunFolder.open(run) as folder:
        try:
            name = stored.label if label is None else label
            if stored.space:
                choices |= {"overwrite": force, "inherit": inherit}
                result = retrain_of_space(stored, folder, label=name, options=options, progress=progress, **choices)
            else:
                given = options | cells | {"inherit": inherit}
                result = _retrain_cells(stored, folder, name, given, progress, force)
        except KeyboardInterrupt as error:
            raise _fail("interrupted; the state was saved, the same command goes on", INTERRUPTED) from error
        _print_table([result])
        print(f"report     {build_report(folder)}")


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Those options that have a value."""
    return {name: value for name, value in options.items() if value is not None}


def _retrain_cells(stored: Any, folder: Any, label: str, given: dict[str, Any], progress: Progress, force: bool) -> Any:
    """Train the network of a genotype."""
    from dataclasses import replace

    from nasfast.search.gradient.runner import inherited_weights
    from nasfast.spaces.genotype import Genotype
    from nasfast.training.genotype_trainer import retrain as train
    from nasfast.utils.device import check_device

    genotype, inherit = given.pop("genotype", folder.genotype_path), given.pop("inherit", False)
    settings = replace(stored.retrain_config(), **given)
    check_device(settings.device)
    cells = Genotype.load(genotype)
    dataset = stored.load_data(progress)
    weights = inherited_weights(folder) if inherit else None
    return train(cells, dataset, folder, settings, label, weights, progress, overwrite=force)


@app.command()
@_one_line_errors
def evaluate(
    run: RunArgument, label: LabelOption = None, device: DeviceOption = "cpu", quiet: QuietOption = False
) -> None:
    """Test a retrained network on the test images of its run."""
    from nasfast.retrain.from_run import read_stored_search
    from nasfast.training.evaluate import evaluate as test
    from nasfast.utils.device import check_device

    check_device(device)
    stored = read_stored_search(run)
    name = stored.label if label is None else label
    accuracy, loss = test(stored.folder, stored.load_data(Progress(quiet=quiet)), name, device)
    print(f"{name}: test accuracy {100 * accuracy:.2f} %, test loss {loss:.4f}")


@app.command()
@_one_line_errors
def export(
    run: RunArgument,
    format: Annotated[str, typer.Option(metavar="onnx|pt2", help="ONNX, or torch.export's program.")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="File to write. Default: RUN/model-LABEL.FORMAT.")] = None,
    label: LabelOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Export a retrained network, checked to give the same outputs before it is written."""
    from nasfast.export.formats import export_onnx, export_pt2
    from nasfast.retrain.from_run import read_stored_search

    writers = {"onnx": export_onnx, "pt2": export_pt2}
    if format not in writers:
        raise ConfigError(f"--format must be onnx or pt2, got {format!r}")
    stored = read_stored_search(run)
    name = stored.label if label is None else label
    target = out or run / f"model-{name}.{format}"
    difference = writers[format](stored.folder, target, name, force=force)
    print(f"wrote {target}; its outputs differ from PyTorch's by at most {difference:.1e}")


@app.command()
@_one_line_errors
def report(run: RunArgument) -> None:
    """Write the report of a run, as far as it has come."""
    from nasfast.report.build import build_report

    print(build_report(run))


@app.command()
@_one_line_errors
def info(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show versions, the extension's build and instruction set, threads, and the GPU or why there is none."""
    from nasfast.runs.environment import describe_environment

    content = describe_environment()
    if as_json:
        print(json.dumps(content, indent=2, default=str))
        return
    extension = content.pop("extension")
    built = {"": extension} if isinstance(extension, str) else extension
    for name, value in (content | {f"extension {name}".strip(): value for name, value in built.items()}).items():
        print(f"{name:<22} {value}")


def main() -> None:
    """Entry point of the ``nasfast`` command."""
    app()


if __name__ == "__main__":
    main()
