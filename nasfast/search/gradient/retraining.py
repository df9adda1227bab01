"""How what a search by gradients has found is trained: by its settings, and within its budget of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nasfast.config.budget import Budget
from nasfast.config.gradient import SearchConfig
from nasfast.errors import RunError
from nasfast.runs.folder import RunFolder
from nasfast.search.gradient.loop import SearchLoop
from nasfast.training.config import RetrainConfig
from nasfast.training.forecast import seconds_of_training
from nasfast.training.trainer import Task
from nasfast.utils.clock import time_in
from nasfast.utils.progress import Progress

LABELS = ("derived", "random")
"""The networks that are trained after a search."""

_KEY = "retraining"  # in config.json
_DECIDED = ("epochs", "batch_size")
_CAUTION = 0.9  # of the time that is left: the networks are tested and written too
_FEW_STEPS = 300
_SMALL_BATCH = 8


def plan_of_training(config: SearchConfig) -> dict[str, Any]:
    """What config.json says of the trainings from the start of a run on: the share of its budget that they have."""
    timed = config.retrain and not config.table and Budget.parse(config.budget).timed
    return {_KEY: {"share": config.training_share}} if timed and config.training_share else {}


def share_of_search(run: RunFolder) -> float:
    """The share of a budget of time that the search of a run may spend."""
    return 1.0 - float(run.read_config().get(_KEY, {}).get("share", 0.0))


def kept_settings(run: RunFolder) -> dict[str, Any]:
    """Settings of the trainings that were decided after the search, over those of the run; none before that."""
    kept = run.read_config().get(_KEY, {})
    return {name: kept[name] for name in _DECIDED if name in kept}


def retraining_config(
    run: RunFolder, loop: SearchLoop, task: Task, usual: RetrainConfig, progress: Progress
) -> RetrainConfig:
    """The settings of the trainings, of as many epochs as the rest of the budget has time for, and no more than usual.

    Where so few epochs have few steps, batches are smaller. What is decided is kept in config.json, so that a run that
    is stopped goes on with it.

    Args:
        task: One of the trainings; the others take as long.
    """
    config = run.read_config()
    if _KEY in config and loop.config.retrain and not kept_settings(run):
        fitted = _within(loop, Budget.parse(loop.config.budget), task, usual, progress)
        run.write_config(config | {_KEY: config[_KEY] | {name: getattr(fitted, name) for name in _DECIDED}})
    return replace(usual, **kept_settings(run))


def _within(loop: SearchLoop, budget: Budget, task: Task, usual: RetrainConfig, progress: Progress) -> RetrainConfig:
    spent = loop.meter.spent(0)
    left = _CAUTION * spent.seconds * max(0.0, 1.0 / budget.share(spent) - 1.0)
    images = len(loop.dataset.train_labels)
    fitted, seconds = _epochs_in(left, loop, task, usual)
    while fitted.epochs < usual.epochs and fitted.steps(images) < _FEW_STEPS and fitted.batch_size > _SMALL_BATCH:
        smaller = replace(usual, batch_size=max(_SMALL_BATCH, fitted.batch_size // 2))
        fitted, seconds = _epochs_in(left, loop, task, smaller)
    if fitted.epochs < usual.epochs:
        steps = "" if fitted.batch_size == usual.batch_size else f" and batches of {fitted.batch_size} for more steps"
        progress.say(
            f"the trainings take {fitted.epochs} of {usual.epochs} epochs, for which the budget has time{steps}: they "
            f"end about {time_in(seconds)}"
        )
    return fitted


def _epochs_in(left: float, loop: SearchLoop, task: Task, config: RetrainConfig) -> tuple[RetrainConfig, float]:
    """The trainings with so many epochs as these seconds have time for, and the seconds that they take."""
    whole = len(LABELS) * seconds_of_training(task, loop.dataset, config, images=config.batch_size)
    epochs = max(1, min(config.epochs, int(left / whole * config.epochs)))
    return replace(config, epochs=epochs), whole * epochs / config.epochs


def change_retraining(run: RunFolder, config: SearchConfig, changed: Mapping[str, Any]) -> None:
    """Write other settings of the retraining into the run that has not begun it. Epochs that are named are kept.

    Raises:
        RunError: It has begun with others; nothing is written then.
    """
    content = run.read_config()
    begun = [label for label in LABELS if (run.path / f"retrain-{label}.pt").exists()]
    other = [name for name in changed if name != "retrain" and content["search"].get(name) != getattr(config, name)]
    if begun and other:
        raise RunError(
            f"run {run.path} has begun its retraining ({begun[0]}), whose settings can no longer be changed, got "
            f"{', '.join(other)}; nasfast retrain {run.path} --label NAME trains with others beside it"
        )
    content["search"] = config.to_dict()
    if _KEY in content and other:
        content[_KEY] = {"share": content[_KEY]["share"]}
        if "retrain_epochs" in changed:
            content[_KEY] |= {name: getattr(config, f"retrain_{name}") for name in _DECIDED}
    run.write_config(content)
