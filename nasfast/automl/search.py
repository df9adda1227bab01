"""Tries candidates until the time is over, and keeps the best ensemble of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from nasfast.automl.calibrate import best_temperature, sharpen
from nasfast.automl.clock import Deadline
from nasfast.automl.ensemble import blend, greedy_weights
from nasfast.automl.members.base import Candidate
from nasfast.automl.metrics import Metric
from nasfast.automl.portfolio import FIRST, boosting_trials, network_trials
from nasfast.automl.prepare import Preparation
from nasfast.automl.problem import Array, Problem
from nasfast.automl.trials import Trial, run_trial

_NETWORK_SHARE = 0.7  # of the time, before anything is known
_SHARES = (0.35, 0.85)
_SECONDS_A_NETWORK = 30.0
_MOST_NETWORKS = 12
_FIRST_BOOSTING = 0.12  # of the time
_FINISH = 0.1  # of the time, for the ensemble, the diagnosis and the files
_LEAST_FINISH = 2.5  # seconds
_FINISH_OF_START = 0.3
_LINEAR = 0.1  # of the time
_LEAST_TRIAL = 3.0
_EPOCHS_OF_TIME, _EPOCHS_OF_TRIALS = 200, 60


@dataclass
class Found:
    """What was tried, and the ensemble of it."""

    candidates: list[Candidate] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    weights: Array = field(default_factory=lambda: np.empty(0))
    loss: float = float("inf")
    temperature: float = 1.0

    def best(self, family: str) -> int | None:
        """The best candidate of a family."""
        own = [i for i, c in enumerate(self.candidates) if c.family == family]
        return min(own, key=lambda i: self.losses[i]) if own else None

    def share(self, family: str) -> float:
        """The weight of a family in the ensemble."""
        return float(sum(w for w, c in zip(self.weights, self.candidates, strict=True) if c.family == family))

    def spent(self, family: str) -> float:
        """Seconds spent on a family."""
        return sum(c.seconds for c in self.candidates if c.family == family)


OnTrial = Callable[[Trial, Found], None]


class Search:
    """The search of one fit.

    Args:
        deadline: When it has to be over.
        trials: How many candidates are tried, where that is the limit.
        on_trial: Is told before each trial.
        on_done: Is told what came of it.
        on_better: Is told after each trial that made the ensemble better.
        before: Seconds that had been spent before this process began.
    """

    def __init__(
        self,
        problem: Problem,
        metric: Metric,
        preparation: Preparation,
        deadline: Deadline,
        trials: int | None,
        on_trial: OnTrial,
        on_done: Callable[[Trial, Candidate | None], None],
        on_better: Callable[[Found], None],
        on_step: Callable[[int, int], None] | None = None,
        before: float = 0.0,
    ) -> None:
        self._problem, self._metric, self._preparation = problem, metric, preparation
        self._deadline, self._limit = deadline, trials
        self._on_trial, self._on_done, self._on_better, self._on_step = on_trial, on_done, on_better, on_step
        self._judged = problem.judged()
        self._first_left, self._began = deadline.left() + before, deadline.spent() - before
        self.found = Found()

    def restore(self, done: Sequence[tuple[Trial, Candidate | None]]) -> None:
        """Begin after the trials of a fit that was stopped."""
        for trial, candidate in done:
            self._count(trial, candidate)

    def run(self, replay: Sequence[Trial] = ()) -> Found:
        """Try candidates; those of ``replay`` and no others, where there are any."""
        for trial in replay[len(self.found.trials) :] if replay else self._next_trials():
            self._on_trial(trial, self.found)
            self._try(trial, None if replay else self._seconds(trial.family))
        return self.found

    def _next_trials(self) -> Iterator[Trial]:
        kinds = {"boosting": boosting_trials(self._problem.seed), "network": network_trials(self._problem.seed)}
        yield from FIRST[len(self.found.trials) :]
        for trial in self.found.trials[len(FIRST) :]:
            next(kinds[trial.family])  # was tried before the fit was stopped
        for number in range(len(self.found.trials), 1 << 30):
            if number >= self._limit if self._limit is not None else self._usable() < _LEAST_TRIAL:
                return
            yield next(kinds[self._family(number)])

    def _usable(self) -> float:
        seconds = self._deadline.seconds or 0.0
        # A machine that was slow to start is slow to finish.
        finish = max(_LEAST_FINISH + _FINISH_OF_START * self._began, _FINISH * seconds)
        return self._deadline.left() - finish

    def _family(self, number: int) -> str:
        """The family of the next trial: boosting first, then whichever has had less than its share of the time."""
        tried = self.found.trials[len(FIRST) :]
        if any(trial.family == "boosting" and trial.size is None for trial in tried):
            return "network"  # a fold has a single class, of which no forest grows
        if number == len(FIRST):
            return "boosting"
        if self._limit is not None:
            return "boosting" if (number - len(FIRST)) % 3 == 0 else "network"
        spent = {family: self.found.spent(family) for family in ("boosting", "network")}
        if not spent["network"]:
            return "network"
        share = (_NETWORK_SHARE + self.found.share("network")) / 2
        share = float(np.clip(share, *_SHARES))
        return "network" if spent["network"] < share * sum(spent.values()) else "boosting"

    def _seconds(self, family: str) -> float | None:
        """What a trial may take: a part of the time, so that several fit; all of it where little would be left."""
        if self._limit is not None:
            return None
        usable = self._usable()
        if family in ("constant", "linear"):
            return _LINEAR * self._first_left
        if family == "boosting":
            part = _FIRST_BOOSTING * self._first_left
        else:
            networks = float(np.clip(round(self._first_left / _SECONDS_A_NETWORK), 1, _MOST_NETWORKS))
            part = _NETWORK_SHARE * self._first_left / networks
        return usable if usable < 1.4 * part else part

    def _try(self, trial: Trial, seconds: float | None) -> None:
        epochs = _EPOCHS_OF_TIME if seconds is not None else _EPOCHS_OF_TRIALS
        candidate, done = run_trial(
            trial, self._problem, self._metric, self._preparation, seconds, epochs, self._on_step
        )
        self._on_done(done, candidate)
        if self._count(done, candidate):
            self._on_better(self.found)

    def _count(self, trial: Trial, candidate: Candidate | None) -> bool:
        """Whether the ensemble got better by what came of a trial."""
        self.found.trials.append(trial)
        if candidate is None:
            return False
        y = self._problem.y[self._judged]
        found = self.found
        begun = any(c.family != "constant" for c in found.candidates)
        found.candidates.append(candidate)
        found.losses.append(self._metric.loss(y, candidate.oof[self._judged]))
        predictions = [c.oof[self._judged] for c in found.candidates]
        # A constant is there to be beaten: its shares of classes differ between folds, which would pass for knowledge.
        weighed = [i for i, c in enumerate(found.candidates) if c.family != "constant"] or [0]
        chosen, loss = greedy_weights([predictions[i] for i in weighed], y, self._metric)
        if begun and not loss < found.loss:  # what was picked greedily before is still the best
            found.weights = np.append(found.weights, 0.0)
            return False
        found.weights, found.loss = np.zeros(len(predictions)), loss
        found.weights[weighed] = chosen
        if self._problem.task.classes:
            found.temperature = best_temperature(blend(predictions, found.weights), y)
        return True

    def out_of_fold(self) -> Array:
        """Predictions of the ensemble for the rows that are judged."""
        mean = blend([c.oof[self._judged] for c in self.found.candidates], self.found.weights)
        return sharpen(mean, self.found.temperature) if self._problem.task.classes else mean
