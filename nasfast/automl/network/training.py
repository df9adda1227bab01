"""Trains a table network on all folds at once and keeps it where it was best out of fold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nasfast.automl.metrics import Metric
from nasfast.automl.network.dropout import MaskPool
from nasfast.automl.network.encoding import Encoding
from nasfast.automl.network.network import TableNetwork
from nasfast.automl.network.prediction import predict_held_out
from nasfast.automl.network.settings import NetworkSettings
from nasfast.automl.network.unmet import settle_unmet_codes
from nasfast.automl.problem import Array, Problem
from nasfast.automl.task import Task

_WARM = 0.03  # of all steps: the rate rises
_MEASURED = 6  # steps that tell how many fit
_BETAS = (0.9, 0.98)
_MOST_EVALUATIONS = 30
_EVALUATION_SHARE = 1.15  # what evaluations add to the time of a step
_USUAL = 1000
_STEPS_AN_EPOCH, _LEAST_BATCH = 10, 32


@dataclass(frozen=True)
class Target:
    """Targets as networks learn them: numbers are standardised.

    Attributes:
        y: float32 or int64 [N].
    """

    y: Tensor
    mean: float
    spread: float

    @classmethod
    def of(cls, problem: Problem) -> Target:
        """Standardised by all rows; the same for every fold."""
        if problem.task.kind != "regression":
            y = torch.from_numpy(problem.y.astype(np.int64))
            return cls(y if problem.task.kind == "multiclass" else y.float(), 0.0, 1.0)
        mean, spread = float(problem.y.mean()), float(problem.y.std()) or 1.0
        return cls(torch.from_numpy(((problem.y - mean) / spread).astype(np.float32)), mean, spread)


def _loss(out: Tensor, y: Tensor, weight: Tensor, task: Task) -> Tensor:
    """The mean of the members' losses, summed over folds: no fold touches another's weights."""
    groups, members, batch, _ = out.shape
    if task.kind == "multiclass":
        each = F.cross_entropy(
            out.flatten(0, 2), y[:, None].expand(groups, members, batch).flatten(), reduction="none"
        ).view(groups, members, batch)
    elif task.kind == "binary":
        each = F.binary_cross_entropy_with_logits(
            out.squeeze(-1), y[:, None].expand(groups, members, batch), reduction="none"
        )
    else:
        each = (out.squeeze(-1) - y[:, None]) ** 2
    return (each * weight[:, None]).mean((1, 2)).sum()


@dataclass(frozen=True)
class Trained:
    """A network where it was best.

    Attributes:
        network: Its weights of then.
        oof: Out-of-fold predictions [N, outputs] of then.
        step: Steps that led there.
        planned: Steps that the rates were planned for.
        done: Steps that were taken.
        curve: Loss at each evaluation.
    """

    network: TableNetwork
    oof: Array
    step: int
    planned: int
    done: int
    curve: tuple[float, ...]
    target: Target


class NetworkTraining:
    """One training; every random number comes from its seed.

    Args:
        settings: The candidate.
        encoding: Of the problem's table.
        seed: Of weights, order of rows and dropout.
    """

    def __init__(
        self, problem: Problem, metric: Metric, settings: NetworkSettings, encoding: Encoding, seed: int
    ) -> None:
        self._problem, self._metric, self._settings = problem, metric, settings
        bins, fractions = encoding.apply(problem.prepared)
        self._bins, self._fractions = torch.from_numpy(bins), torch.from_numpy(fractions)
        self._target = Target.of(problem)
        self._weight = torch.from_numpy(problem.weight.astype(np.float32))
        self._generator = torch.Generator().manual_seed(seed)
        self._masks = MaskPool(settings.dropout, self._generator)
        groups = len(problem.folds)
        self.network = TableNetwork(encoding.layout, problem.task.logits, groups, settings, self._generator)
        self._optimizer = self._make_optimizer()
        self._train = [torch.from_numpy(fold.train) for fold in problem.folds]
        fewest = min(len(rows) for rows in self._train)
        self._batch = _batch_size(settings.batch, fewest)
        self.steps_per_epoch = max(fewest // self._batch, 1)
        self._queue: list[Tensor] = []

    def _make_optimizer(self) -> torch.optim.Optimizer:
        n, s = self.network, self._settings
        decayed = [n.embedding, *n.weights, n.head]
        free = [n.bias, *n.biases, n.head_bias]
        return torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": s.decay, "factor": 1.0},
                {"params": free, "weight_decay": 0.0, "factor": 1.0},
                {"params": [n.scales], "weight_decay": 0.0, "factor": s.scale_rate},
            ],
            lr=s.rate,
            betas=_BETAS,
            fused=True,
        )

    def _batch_rows(self) -> Tensor:
        """Rows [G, B] of the next step: every fold's in an order of its own."""
        if not self._queue:
            used = self.steps_per_epoch * self._batch
            orders = [rows[torch.randperm(len(rows), generator=self._generator)[:used]] for rows in self._train]
            self._queue = list(torch.stack(orders).split(self._batch, dim=1))[::-1]
        return self._queue.pop().contiguous()

    def _step(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.rate * rate * group["factor"]
        rows = self._batch_rows()
        out = self.network(self._bins, self._fractions, rows, self._masks)
        loss = _loss(out, self._target.y[rows], self._weight[rows], self._problem.task)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def _out_of_fold(self) -> Array:
        task, valid = self._problem.task, [fold.valid for fold in self._problem.folds]
        found = predict_held_out(self.network, task, self._bins.numpy(), self._fractions.numpy(), valid)
        return found * self._target.spread + self._target.mean

    def run(
        self,
        seconds: float | None,
        most_epochs: int,
        steps: tuple[int, int] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Trained:
        """Train, and keep the weights that were best out of fold.

        Args:
            seconds: As many steps are planned as fit, from the time that the first ones take. None: all epochs.
            most_epochs: No more than that.
            steps: Instead of both: the steps that rates are planned for and the steps to take, of an earlier training.
            on_step: Is told the steps done and planned.
        """
        clock = _Clock(seconds if steps is None else None, most_epochs * self.steps_per_epoch)
        planned, last = steps if steps is not None else (clock.planned, clock.planned)
        best: tuple[float, int, dict[str, Tensor]] | None = None
        curve: list[float] = []
        judged = self._problem.judged()
        done = 0
        while planned is None or done < planned:
            self._step(_rate(done, planned if planned is not None and done >= _MEASURED else _USUAL))
            done += 1
            if planned is None:
                planned = last = clock.plan(done)
            if planned is None or done < min(_MEASURED, planned):
                continue
            if on_step is not None:
                on_step(done, planned)
            late = clock.is_late() or done == last
            every = max(self.steps_per_epoch, math.ceil(planned / _MOST_EVALUATIONS))
            if done % every == 0 or late:
                oof = self._out_of_fold()
                curve.append(self._metric.loss(self._problem.y[judged], oof[judged]))
                if best is None or not curve[-1] >= best[0]:
                    best = curve[-1], done, {k: v.clone() for k, v in self.network.state_dict().items()}
            if late:
                break
        assert best is not None
        assert planned is not None
        self.network.load_state_dict(best[2])
        encoded = self._bins.numpy(), self._fractions.numpy()
        train = [rows.numpy() for rows in self._train]
        settle_unmet_codes(self.network.embedding, self.network.layout, *encoded, train)
        return Trained(self.network, self._out_of_fold(), best[1], planned, done, tuple(curve), self._target)


class _Clock:
    """How many steps fit into a time.

    Attributes:
        planned: Steps, where no time limits them.
    """

    def __init__(self, seconds: float | None, most: int) -> None:
        self._seconds, self._most = seconds, most
        self.planned = most if seconds is None else None
        self._start = self._warm = perf_counter()

    def plan(self, done: int) -> int | None:
        """After each of the first steps: how many there will be, once that can be told."""
        assert self._seconds is not None
        if done == 1:  # the very first step is slower
            self._warm = perf_counter()
        if done < _MEASURED:
            return None
        each = (perf_counter() - self._warm) / (_MEASURED - 1)
        fit = int((self._seconds - (perf_counter() - self._start)) / (each * _EVALUATION_SHARE))
        return max(min(fit, self._most), _MEASURED + 1)

    def is_late(self) -> bool:
        """Whether the time is over, by more than a little."""
        return self._seconds is not None and perf_counter() - self._start > self._seconds * 1.1


def _batch_size(most: int, rows: int) -> int:
    """A power of two with ten steps an epoch or more, where there are rows for it."""
    fits = 1 << max(rows // _STEPS_AN_EPOCH, 1).bit_length() - 1
    return min(most, max(fits, _LEAST_BATCH), rows)


def _rate(done: int, planned: int) -> float:
    """Rises, stays, and falls as a cosine from the half on."""
    part = (done + 1) / planned
    if part < _WARM:
        return part / _WARM
    if part < 0.5:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (part - 0.5) / 0.5))
