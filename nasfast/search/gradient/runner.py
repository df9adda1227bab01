"""Run a search by gradients, derive the architecture, retrain it beside a random one, in a run folder.

One run is one folder, which can be stopped and resumed at any step. ``run_gradient`` starts it, ``resume_gradient``
goes on with it: weights, architecture, optimizers, schedule, order of images and random generators then end with the
bits of a run that was never stopped (on the same machine, with the same number of threads, which config.json keeps).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from nasfast.config.gradient import SearchConfig
from nasfast.errors import ConfigError, RunError, SpaceError
from nasfast.runs.checkpoint import load_checkpoint
from nasfast.runs.environment import describe_environment
from nasfast.runs.folder import RunFolder
from nasfast.runs.genotype import read_genotype
from nasfast.search.gradient.loop import KIND, SearchLoop, fit_batches
from nasfast.search.gradient.result import SpaceResult, check_table, finish_space, read_result
from nasfast.search.gradient.retraining import (
    LABELS,
    change_retraining,
    plan_of_training,
    retraining_config,
    share_of_search,
)
from nasfast.search.inputs import absolute_path, keep_data_record, load_run_data, pin_settings
from nasfast.search.result import RunResult, retraining_table
from nasfast.spaces.base import Space
from nasfast.spaces.darts import random_genotype
from nasfast.spaces.genotype import Genotype
from nasfast.training.config import RetrainResult
from nasfast.training.forecast import seconds_of_training
from nasfast.training.genotype_trainer import GenotypeTask, check_retraining, retrain
from nasfast.training.space_trainer import SpaceTask
from nasfast.utils.device import check_device, check_threads, use_threads
from nasfast.utils.progress import Progress

SEED_RANDOM = 4
"""The seed of the random architecture is this far from the run's; see ``loop.py`` for the others."""

_FEW_STEPS = 200  # of a training that is over so soon that nothing is said of its end


@dataclass(kw_only=True)
class GradientResult(RunResult):
    """What a search by gradients has found.

    Attributes:
        genotype: The derived cells; None where a space was searched.
        found: The derived architecture of a space, and the random one; None where cells were searched.
        epochs: Epochs searched.
        stopped: Why the guard stopped the search early, else None.
        results: Retraining results by label: "derived" and "random"; empty without retraining.
    """

    genotype: Genotype | None = None
    found: SpaceResult | None = None
    epochs: int
    stopped: str | None
    results: dict[str, RetrainResult] = field(default_factory=dict)

    def lines(self) -> list[str]:
        stopped = f", stopped early: {self.stopped}" if self.stopped else ""
        searched = f"searched   {self.epochs} epochs{stopped}"
        found = [f"genotype   {self.genotype}"] if self.found is None else self.found.lines()
        return [searched, *found, *retraining_table(list(self.results.values()))]


def run_gradient(
    config: SearchConfig,
    out: str | os.PathLike[str],
    progress: Progress | None = None,
    space: Space | None = None,
) -> GradientResult:
    """Search and retrain in a new run folder.

    Args:
        config: What to do; :meth:`SearchConfig.of` gives sensible defaults for a data set.
        out: The run folder, which must not exist (or be empty).
        progress: Where to show progress; nowhere by default.
        space: A space of your own, in place of the one that ``config`` names.

    Raises:
        NasfastError: Bad data, settings or folders; see the subclasses in nasfast.errors. Nothing is written then.
        KeyboardInterrupt: Ctrl-C; a checkpoint was written, :func:`resume_gradient` goes on.
    """
    progress = progress or Progress(quiet=True)
    RunFolder.check_free(out)
    check_device(config.device)
    check_threads(config.threads)
    use_threads(config.threads)
    config = pin_settings(config)
    if config.table:
        config = replace(config, table=absolute_path(config.table, ()))
    if space is not None:
        if config.space_set:
            raise ConfigError(f"--space-set belongs to a space by name, got one of your own, {space.name}")
        config = replace(config, space=space.name)
    dataset = load_run_data(config, progress)
    config = fit_batches(config, dataset, progress)
    if space is None and not config.of_space and config.retrain:
        check_retraining(config.retrain_config(), dataset)
    loop = SearchLoop(config, dataset, space or config.searched_space())
    check_table(loop)
    content = {"search": config.to_dict(), "environment": describe_environment(), **plan_of_training(config)}
    with RunFolder.create(out, content) as run:
        loop.save(run)
        keep_data_record(run, loop.fingerprint)
        return _finish(run, loop, progress)


def resume_gradient(
    out: str | os.PathLike[str],
    progress: Progress | None = None,
    space: Space | None = None,
    changed: Mapping[str, Any] | None = None,
) -> GradientResult:
    """Go on with a run, whatever stage it was stopped in. A space of your own has to be given again.

    Args:
        changed: Settings of the retraining in place of those that the run began with.

    Raises:
        RunError: No run is there, it is in use, or its checkpoint cannot be read.
        DataError: The images are no longer those the run began with.
    """
    progress = progress or Progress(quiet=True)
    with RunFolder.open(out) as run:
        stored = run.read_config().get("search")
        if not isinstance(stored, dict):
            raise RunError(f"{run.config_path} holds no search settings")
        config = SearchConfig.of(stored | dict(changed or {}))
        if space is not None and space.name != config.space:
            raise SpaceError(f"run {run.path} searches {config.space or 'cells'}, got the space {space.name}")
        space = space or config.searched_space()
        done = _finished_result(run, config, space)
        if done is not None:
            if changed:
                raise RunError(f"run {run.path} is finished: nothing is left that reads {', '.join(changed)}")
            return done
        check_device(config.device)
        use_threads(config.threads)
        dataset = load_run_data(config, progress)
        if changed:
            if not config.of_space and config.retrain:
                check_retraining(config.retrain_config(), dataset)
            change_retraining(run, config, changed)
        state = None
        if run.checkpoint_path.exists() or run.metrics.position > 0:
            state = load_checkpoint(run.checkpoint_path, KIND)
        loop = SearchLoop(config, dataset, space)
        if state is not None:
            loop.load(run, state)
        else:  # killed before the first checkpoint, which is written before the first step
            loop.save(run)
        keep_data_record(run, loop.fingerprint)
        return _finish(run, loop, progress)


def _finish(run: RunFolder, loop: SearchLoop, progress: Progress) -> GradientResult:
    """Everything that is left to do."""
    config = loop.config
    loop.run(run, progress, share_of_search(run), 0.0 if loop.done() else _seconds_of_training(loop))
    derived = loop.strategy.derive()
    if not isinstance(derived, Genotype):
        assert loop.space is not None
        task = SpaceTask(loop.space, derived)
        training = retraining_config(run, loop, task, config.retrain_config().plain(), progress)
        found, results = finish_space(run, loop, derived, training, config.seed + SEED_RANDOM, progress)
        return GradientResult(path=run.path, found=found, epochs=loop.epoch, stopped=loop.stopped, results=results)
    derived.save(run.genotype_path)
    results = {}
    if config.retrain:
        training = retraining_config(run, loop, GenotypeTask(derived), config.retrain_config(), progress)
        for label, genotype in zip(LABELS, (derived, _random_cells(config)), strict=True):
            results[label] = retrain(genotype, loop.dataset, run, training, label, progress=progress)
    return GradientResult(path=run.path, genotype=derived, epochs=loop.epoch, stopped=loop.stopped, results=results)


def _random_cells(config: SearchConfig) -> Genotype:
    generator = torch.Generator().manual_seed(config.seed + SEED_RANDOM)
    return random_genotype(generator, config.steps, multiplier=config.steps)


def _seconds_of_training(loop: SearchLoop) -> float:
    """Of what is trained after a search of cells, about; 0 where that is nothing or little."""
    config, training = loop.config, loop.config.retrain_config()
    if loop.space is not None or not config.retrain or training.steps(len(loop.dataset.train_labels)) < _FEW_STEPS:
        return 0.0
    return len(LABELS) * seconds_of_training(GenotypeTask(_random_cells(config)), loop.dataset, training)


def _finished_result(run: RunFolder, config: SearchConfig, space: Space | None) -> GradientResult | None:
    """The result of a run that has nothing left to do, from its files; None where something is left."""
    derived_path = run.genotype_path if space is None else run.architectures_path
    if not derived_path.is_file():
        return None
    with run.metrics.expected_rows():
        rows = {row["label"]: row for row in run.metrics.rows() if row.get("kind") == "result"}
        if config.retrain and not config.table and not {"derived", "random"} <= set(rows):
            return None
        names = RetrainResult.__dataclass_fields__
        results = {label: RetrainResult(**{name: row[name] for name in names}) for label, row in rows.items()}
        epochs = sum(row.get("kind") == "epoch" for row in run.metrics.rows())
        stopped = next((row["reason"] for row in run.metrics.rows() if row.get("action") == "stop"), None)
    result = GradientResult(path=run.path, epochs=epochs, stopped=stopped, results=results, was_finished=True)
    if space is not None:
        return replace(result, found=read_result(run, space))
    return replace(result, genotype=read_genotype(run))
