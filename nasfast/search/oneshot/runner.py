"""A one-shot search in a run folder: train the shared network, search its children, retrain, report; stop and resume.

``run_oneshot`` starts it, ``resume_oneshot`` goes on with it, whatever stage it was stopped in, and it then ends with
the bits of a run that was never stopped (on the same machine, with the same number of threads and ranks). Files beside
those of every run: ``checkpoint.pt`` of the training, ``search.pt`` of the search, ``retrain-<label>.pt``.

Under torchrun, all ranks train; the first one writes, searches and retrains, and the others return when the training
is over. They need to see the run folder to resume.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nasfast.config.budget import Meter, Spent
from nasfast.config.oneshot import OneShotConfig
from nasfast.errors import ConfigError, NasfastError, RunError, SpaceError
from nasfast.runs.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from nasfast.runs.environment import describe_environment
from nasfast.runs.folder import RunFolder, search_path
from nasfast.search.blackbox.search import BlackBoxSearch
from nasfast.search.inputs import absolute_path, keep_data_record, limit_batches, pin_settings
from nasfast.search.oneshot.children import SEARCH_KIND, load_images, open_children, search_children
from nasfast.search.oneshot.training import SupernetTraining
from nasfast.search.pretrained import TRAINING_KIND
from nasfast.search.result import FoundInSpace
from nasfast.search.workers.open import check_picklable, with_workers
from nasfast.spaces.base import Rows, Space
from nasfast.training.distributed import RankLost, Ranks, open_ranks, rank_device
from nasfast.training.space_trainer import retrain_row
from nasfast.utils.checkpointed_loop import CheckpointedLoop
from nasfast.utils.device import check_device, check_threads, use_threads
from nasfast.utils.numbers import percent_text
from nasfast.utils.progress import Progress

_SEED_RANDOM = 12
_TRAINING_SHARE = 0.8
"""Of a budget of time; the search among the children has the rest."""


@dataclass(kw_only=True)
class OneShotResult(FoundInSpace):
    """What a one-shot search has found. Scores are accuracies with shared weights, 0 to 1.

    ``results`` are of "best" and "random".
    """


def run_oneshot(
    config: OneShotConfig,
    out: str | os.PathLike[str],
    progress: Progress | None = None,
    space: Space | None = None,
) -> OneShotResult | None:
    """Search a space in a new run folder.

    Args:
        config: What to do.
        out: The run folder, which must not exist (or be empty).
        progress: Where to show progress; nowhere by default.
        space: Of your own, in place of the one that ``config`` names.

    Returns:
        What was found; None on ranks other than the first.

    Raises:
        NasfastError: Bad settings, data or folders. Nothing is written then.
        RankLost: Another rank has ended; the run goes on from its last checkpoint with :func:`resume_oneshot`.
        KeyboardInterrupt: Ctrl-C; a checkpoint was written, :func:`resume_oneshot` goes on.
    """
    RunFolder.check_free(out)
    if space is not None:
        config = replace(config, space=space.name, space_set=())
    config = with_workers(config)
    if config.workers:
        check_picklable(space, None)
    if not config.on_ray:  # on a cluster they are those of its machines
        check_threads(config.threads)
    use_threads(config.threads)
    config = replace(pin_settings(config), latency=absolute_path(config.latency, ("",)))
    return _run(config, Path(out), progress or Progress(quiet=True), space, new=True)


def resume_oneshot(
    out: str | os.PathLike[str], progress: Progress | None = None, space: Space | None = None
) -> OneShotResult | None:
    """Go on with a run. A space of your own has to be given again. Returns and raises as :func:`run_oneshot`.

    Raises:
        RunError: No run is there, it is in use, or its checkpoint cannot be read.
    """
    stored = RunFolder.open(out, lock=False).read_config().get("oneshot")
    if not isinstance(stored, dict):
        raise RunError(f"{out} holds no settings of a one-shot search")
    config = OneShotConfig.of(stored)
    if space is not None and space.name != config.space:
        raise SpaceError(f"run {out} searches {config.space}, got the space {space.name}")
    use_threads(config.threads)
    return _run(config, Path(out), progress or Progress(quiet=True), space, new=False)


def _with_batches_that_fit(config: OneShotConfig, images: int, ranks: int, progress: Progress) -> OneShotConfig:
    """Batches are cut to the images that are not held out, in parts that ranks and ``accumulate`` share equally."""
    unit = ranks * config.accumulate
    most = {"batch_size": int(images * (1 - config.held_out)) // unit * unit}
    if config.retrain:
        most["retrain_batch_size"] = images
    return limit_batches(config, most, images, progress)


def _run(config: OneShotConfig, out: Path, progress: Progress, space: Space | None, new: bool) -> OneShotResult | None:
    stored, config = config, replace(config, device=rank_device(config.device))
    check_device(config.device)
    own, space = space, space or config.make_space()
    run: RunFolder | None = None
    try:
        with open_ranks(config.device, config.rank_timeout) as ranks:
            progress = progress if ranks.is_first else Progress(quiet=True)
            if not new and ranks.is_first:
                run = RunFolder.open(out)
            images = load_images(config, space, progress)
            if new:
                config = _with_batches_that_fit(config, len(images.train_labels), ranks.count, progress)
                stored = replace(stored, batch_size=config.batch_size, retrain_batch_size=config.retrain_batch_size)
            training = SupernetTraining(config, space, images, ranks)
            if new and ranks.is_first:
                content = {"oneshot": stored.to_dict(), "environment": describe_environment()}
                run = RunFolder.create(out, content)
            state = None if new else _load_state(out)
            if state is not None:
                _take_up(training, out, state)
            if run is not None:
                keep_data_record(run, training.fingerprint)
            meter = _meter(config, ranks, state, out)
            ranks.wait()  # until all have read what the first may overwrite
            _train(training, run, meter, progress)
        if run is None:
            return None
        return _finish(run, training, own, meter, progress)
    except RankLost as error:
        raise RankLost(
            f"{error}; go on from the last checkpoint with --resume {out}, on any number of ranks"
        ) from error
    finally:
        if run is not None:
            run.close()


def _meter(config: OneShotConfig, ranks: Ranks, state: dict[str, Any] | None, out: Path) -> Meter:
    """Counts what the run costs, from what it has cost before."""
    if config.limits().timed and ranks.count > 1:
        raise ConfigError("--budget with a time does not go with several ranks, which share no clock; see --epochs")
    path = search_path(RunFolder(out))
    later = load_checkpoint(path, SEARCH_KIND) if path.exists() else state
    before = Spent(**later["spent"]) if later else None
    return Meter(config.threads or torch.get_num_threads(), float(config.device.startswith("cuda")), before)


# training


def _load_state(out: Path) -> dict[str, Any] | None:
    """The checkpoint of the training; None where the run was killed before its first one."""
    run = RunFolder(out)
    if not run.checkpoint_path.exists() and run.metrics.position == 0:
        return None
    return load_checkpoint(run.checkpoint_path, TRAINING_KIND)


def _take_up(training: SupernetTraining, out: Path, state: dict[str, Any]) -> None:
    try:
        training.load_state(state)
        position = int(state["metrics_position"])
    except NasfastError:
        raise
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{out / 'checkpoint.pt'} does not fit the run's config.json") from error
    run = RunFolder(out)
    if training.ranks.is_first and not search_path(run).exists():
        run.metrics.truncate(position)


def _train(training: SupernetTraining, run: RunFolder | None, meter: Meter, progress: Progress) -> None:
    """Take the steps that are left, or for which the budget lasts."""
    config, budget = training.config, training.config.limits()

    def save() -> None:
        if run is not None:
            _save(run, training, meter)

    def over() -> bool:
        has_its_share = budget.timed and training.step > 0 and budget.share(meter.spent(0)) >= _TRAINING_SHARE
        return training.done() or has_its_share

    if run is not None and training.step == 0:
        save()
        run.metrics.append({"kind": "training", "way": training.forward.way})
    if training.done() or (run is not None and search_path(run).exists()):
        return
    progress.say(f"paths are computed {training.forward.way}")
    loop = CheckpointedLoop(
        save, over, seconds=config.checkpoint_seconds, steps=config.checkpoint_steps, taken=training.step
    )
    with progress.stage("train", training.total_steps, done=training.step) as stage, loop:
        for _ in loop:
            loop.stop = training.take_step(loop.interrupted())
            note = None
            if training.step % training.steps_per_epoch == 0:
                note, loop.due = _log_epoch(run, training, training.end_epoch()), True
            stage.advance(note=note)
    if not training.done():
        progress.say(f"the training has had its share of the budget after {training.epoch} epochs")


def _log_epoch(run: RunFolder | None, training: SupernetTraining, row: dict[str, float | None]) -> str:
    epoch = training.epoch - 1
    if run is not None:
        run.log_scalars(training.step, {f"train/{name}": value for name, value in row.items()})
        run.metrics.append({"kind": "epoch", "epoch": epoch, "step": training.step, **row})
    reward = "" if row["reward"] is None else f", reward {percent_text(row['reward'], 1)}"
    return f"epoch {epoch + 1}: train {percent_text(row['train_acc'] or 0, 1)}{reward}"


def _save(run: RunFolder, training: SupernetTraining, meter: Meter) -> None:
    content = {**training.state(), "metrics_position": run.metrics.position, "spent": asdict(meter.spent(0))}
    save_checkpoint(run.checkpoint_path, TRAINING_KIND, content)


# after the training


def _finish(
    run: RunFolder, training: SupernetTraining, own: Space | None, meter: Meter, progress: Progress
) -> OneShotResult:
    """Everything that comes after the training."""
    with open_children(run, training, own, meter) as (session, estimator):
        was_finished = search_children(run, training, session, estimator, progress)
    search, results, trained = session.search, {}, False
    if training.config.retrain:
        for label, row in _to_retrain(training, search).items():
            trained |= not _has_result(run, label)
            config = training.config.retrain_config()
            settings = training.config.space_settings()
            results[label] = retrain_row(
                training.space, row, training.dataset, run, config, label, progress, settings=settings
            )
    was_finished &= not trained
    return OneShotResult(
        path=run.path,
        space=training.space,
        best=search.best(),
        front=search.front(),
        evaluations=len(search.trials),
        failed=len(search.failed),
        results=results,
        was_finished=was_finished,
    )


def _to_retrain(training: SupernetTraining, search: BlackBoxSearch) -> dict[str, Rows]:
    """The best architecture, and a random one to compare it with."""
    generator = np.random.default_rng(training.config.seed + _SEED_RANDOM)
    return {"best": np.array(search.best().row, np.int64), "random": training.space.sample(generator, 1)[0]}


def _has_result(run: RunFolder, label: str) -> bool:
    return any(row.get("kind") == "result" and row.get("label") == label for row in run.metrics.rows())
