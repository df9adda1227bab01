"""Networks as members: their weights, and how they read a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from time import perf_counter
from typing import Any

import numpy as np
import torch

from nasfast.automl.members.base import Arrays, Candidate, RowsOfFolds
from nasfast.automl.metrics import Metric
from nasfast.automl.network.encoding import Encoding
from nasfast.automl.network.network import TableNetwork
from nasfast.automl.network.prediction import predict_held_out, predict_rows
from nasfast.automl.network.settings import NetworkSettings
from nasfast.automl.network.training import NetworkTraining
from nasfast.automl.prepare import Preparation, Prepared
from nasfast.automl.problem import Array, Problem
from nasfast.automl.task import Task
from nasfast.errors import RunError

_EDGES = "edges"


class Network:
    """The mean of networks, one per fold, each the mean of its members."""

    kind = "network"

    def __init__(
        self,
        task: Task,
        settings: NetworkSettings,
        encoding: Encoding,
        network: TableNetwork,
        mean: float,
        spread: float,
    ) -> None:
        self.task, self.form, self.encoding, self.network = task, settings, encoding, network
        self.mean, self.spread = mean, spread

    def predict(self, prepared: Prepared) -> Array:
        found = predict_rows(self.network, self.task, *self.encoding.apply(prepared))
        return found * self.spread + self.mean

    def predict_held_out(self, prepared: Prepared, folds: RowsOfFolds) -> Array:
        found = predict_held_out(self.network, self.task, *self.encoding.apply(prepared), folds)
        return found * self.spread + self.mean

    def to_arrays(self) -> Arrays:
        arrays: Arrays = {name: tensor.numpy() for name, tensor in self.network.state_dict().items()}
        lengths = np.array([len(edges) for edges in self.encoding.edges], np.int64)
        edges = np.concatenate([*self.encoding.edges, np.empty(0, np.float32)])
        codes = np.array(self.encoding.codes, np.int64)
        target = np.array([self.mean, self.spread])
        return arrays | {_EDGES: edges, "edge_counts": lengths, "codes": codes, "target": target}

    def settings(self) -> Mapping[str, Any]:
        return asdict(self.form)

    @classmethod
    def from_arrays(cls, arrays: Arrays, settings: Mapping[str, Any], task: Task) -> Network:
        """The one that was stored.

        Raises:
            RunError: The arrays or settings are not of such a member.
        """
        arrays = dict(arrays)
        try:
            form = NetworkSettings(**settings)
            edges, counts = arrays.pop(_EDGES), arrays.pop("edge_counts")
            codes, target = arrays.pop("codes"), arrays.pop("target")
            if counts.sum() != len(edges) or (counts < 0).any() or target.shape != (2,):
                raise ValueError(f"{len(edges)} edges for counts {counts}")
            encoding = Encoding(
                tuple(np.split(edges, np.cumsum(counts)[:-1])) if len(counts) else (), tuple(map(int, codes))
            )
            groups = len(arrays["embedding"])
            network = TableNetwork(encoding.layout, task.logits, groups, form, torch.Generator().manual_seed(0))
            network.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in arrays.items()})
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"network member: {str(error).splitlines()[0]}") from error
        return cls(task, form, encoding, network, float(target[0]), float(target[1]))


def fit_network(
    problem: Problem,
    metric: Metric,
    preparation: Preparation,
    settings: NetworkSettings,
    name: str,
    seconds: float | None,
    most_epochs: int,
    seed: int,
    steps: tuple[int, int] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Candidate:
    """Train one candidate on all folds for about ``seconds``; see `NetworkTraining.run`."""
    start = perf_counter()
    encoding = Encoding.of(problem.prepared, preparation, settings.bins)
    training = NetworkTraining(problem, metric, settings, encoding, seed)
    left = None if seconds is None else seconds - (perf_counter() - start)
    trained = training.run(left, most_epochs, steps, on_step)
    model = Network(problem.task, settings, encoding, trained.network, trained.target.mean, trained.target.spread)
    notes = {
        **asdict(settings),
        "step": trained.step,
        "planned": trained.planned,
        "done": trained.done,
        "epochs": round(trained.done / training.steps_per_epoch, 1),
        "curve": [round(loss, 6) for loss in trained.curve],
    }
    return Candidate(name, "network", model, trained.oof, perf_counter() - start, notes)
