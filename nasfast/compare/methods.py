"""The estimators that a comparison sets beside the full training, each by name with what makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nasfast.config.compare import CompareConfig
from nasfast.config.oneshot import OneShotConfig
from nasfast.data import DataSet, normalize, split_indices
from nasfast.errors import NasfastError
from nasfast.estimators.base import Estimator
from nasfast.estimators.curves.estimator import CurveEstimator
from nasfast.estimators.inherit import InheritEstimator
from nasfast.estimators.oneshot import OneShotEstimator
from nasfast.estimators.table import TableEstimator
from nasfast.estimators.train import BACKWARD, Fidelity, TrainEstimator
from nasfast.estimators.zero_cost import PROXIES, ZeroCostEstimator
from nasfast.runs.checkpoint import load_checkpoint, save_checkpoint
from nasfast.search.oneshot.training import SupernetTraining
from nasfast.spaces.base import Rows, Space
from nasfast.spaces.registry import make_space
from nasfast.supernets import SharedNetwork
from nasfast.utils.progress import Progress
from nasfast.utils.seeds import LARGEST_SEED

REFERENCE = "full training"
PROXY_IMAGES = 64
PROXY_DRAWS = 2

_SEED_BATCH, _SEED_WEIGHTS = 21, 22
_KIND = "compare-oneshot"


@dataclass(frozen=True)
class Method:
    """One estimator of a comparison.

    Attributes:
        name: For the report.
        family: What kind of estimate it is.
        make: The estimator.
        shared: FLOPs and seconds spent once for all architectures, known after ``make``.
    """

    name: str
    family: str
    make: Callable[[], Estimator]
    shared: Callable[[], tuple[float, float]] = lambda: (0.0, 0.0)


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' if count > 1 else ''}"


class Methods:
    """All estimators that a comparison's settings allow, in the order in which they run.

    Args:
        config: Settings.
        space: What is compared.
        dataset: Images.
        folder: For the checkpoints.
        rows: int64 [K, D], what is compared.
        parent: A row that is none of them; the morphisms start from it.
        progress: Where to show the training of the shared network.
        table: One more estimator.
    """

    def __init__(
        self,
        config: CompareConfig,
        space: Space,
        dataset: DataSet,
        folder: Path,
        rows: Rows,
        parent: Rows,
        progress: Progress,
        table: TableEstimator | None = None,
    ) -> None:
        self.config, self.space, self.dataset, self.progress = config, space, dataset, progress
        self.folder, self.rows, self.parent, self.table = folder, rows, parent, table
        self.omitted: dict[str, str] = {}
        self._shared: tuple[SharedNetwork, float, float] | None = None

    def all(self) -> list[Method]:
        """The reference first."""
        few, half = max(1, self.config.epochs // 4), max(1, self.config.epochs // 2)
        other_seed = (self.config.seed + 1) % LARGEST_SEED
        return [
            Method(REFERENCE, "training", self._train(REFERENCE)),
            Method(f"{REFERENCE}, another seed", "training", self._train("seed", seed=other_seed)),
            *self._fidelities(few, half),
            *self._curves(half),
            *self._proxies(),
            Method("one-shot, recalibrated", "one-shot", lambda: self._oneshot(True), self._spent),
            Method("one-shot, shared statistics", "one-shot", lambda: self._oneshot(False), self._spent),
            Method(
                f"weights of the shared network, {_epochs(few)}", "inherited weights",
                lambda: self._inherit("shared", few, True), self._spent,
            ),
            Method(
                f"morphism of one parent, {_epochs(few)}", "inherited weights",
                lambda: self._inherit("morphism", few, False), self._parent_spent,
            ),
            *self._table(),
        ]  # fmt: skip

    def _train(
        self, label: str, fidelity: Fidelity | None = None, seed: int | None = None
    ) -> Callable[[], TrainEstimator]:
        config = self.config
        at = fidelity or Fidelity(epochs=config.epochs)
        folder = self.folder / label.replace(" ", "-")
        return lambda: TrainEstimator(self.space, self.dataset, folder, config.training(seed), at)

    def _fidelities(self, few: int, half: int) -> Iterator[Method]:
        full, family = self.config.epochs, "lower fidelity"
        for epochs in dict.fromkeys((few, half)):
            yield Method(f"{epochs} of {full} epochs", family, self._train(f"epochs{epochs}", Fidelity(epochs)))
        yield Method("a quarter of the images", family, self._train("images", Fidelity(full, images=0.25)))
        size = self.dataset.size[0] // 2
        if self._takes(self.space, size, f"images of {size} pixels"):
            yield Method(f"images of {size} pixels", family, self._train("size", Fidelity(full, size=size)))
        smaller = self._smaller()
        if smaller is not None:
            yield Method("half the channels", family, self._train("channels", Fidelity(full, model=smaller)))

    def _takes(self, space: Space, size: int, what: str) -> bool:
        try:
            space.cost(self.parent, self.dataset.num_classes, self.dataset.channels, size)
            space.build(self.parent, self.dataset.num_classes, self.dataset.channels)(
                torch.zeros(2, self.dataset.channels, size, size)
            )
        except (NasfastError, RuntimeError, ValueError) as error:
            self.omitted[what] = str(error).split("\n")[0]
            return False
        return True

    def _smaller(self) -> Space | None:
        """The space with half the channels."""
        channels = getattr(self.space, "channels", None)
        if not isinstance(channels, int) or channels < 2:
            self.omitted["half the channels"] = f"{self.space.name} has no setting channels that is 2 or more"
            return None
        return make_space(self.config.space, {**self.config.space_settings(), "channels": str(channels // 2)})

    def _curves(self, half: int) -> Iterator[Method]:
        config = self.config
        for seen in dict.fromkeys((max(3, config.epochs // 4), max(3, half))):
            folder = self.folder / f"curve{seen}"
            yield Method(
                f"learning curve, {seen} of {config.epochs} epochs seen", "learning curve",
                lambda seen=seen, folder=folder: CurveEstimator(  # type: ignore[misc]
                    self.space, self.dataset, folder, seen, config.training(), Fidelity(config.epochs)
                ),
            )  # fmt: skip

    def _proxies(self) -> Iterator[Method]:
        for name in PROXIES:
            yield Method(name, "zero-cost", lambda name=name: self._zero_cost(name))  # type: ignore[misc]

    def _zero_cost(self, name: str) -> ZeroCostEstimator:
        data, seed = self.dataset, self.config.seed
        own, _ = split_indices(len(data.train_labels), 1 - self.config.held_out, seed)
        order = torch.randperm(len(own), generator=torch.Generator().manual_seed(seed + _SEED_BATCH))
        chosen = own[order[:PROXY_IMAGES]]
        images = normalize(data.train_images[chosen], data.mean, data.std).to(self.config.device)
        labels = data.train_labels[chosen].to(self.config.device)
        return ZeroCostEstimator(
            self.space, images, labels, [name], seed + _SEED_WEIGHTS, draws=PROXY_DRAWS, num_classes=data.num_classes
        )

    def _supernet(self) -> tuple[SharedNetwork, float, float]:
        """The shared network, trained once; the FLOPs and the seconds of that."""
        if self._shared is None:
            config = self.config
            shared = OneShotConfig.of(
                {"space": config.space, "space_set": config.space_set, "data": config.data, "seed": config.seed,
                 "epochs": config.oneshot_epochs, "held_out": config.held_out, "device": config.device}
            )  # fmt: skip
            training = SupernetTraining(shared, self.space, self.dataset)
            path = self.folder / "oneshot.pt"
            if path.exists():
                saved = load_checkpoint(path, _KIND)
                training.network.load_state_dict(saved["network"])
                self._shared = training.network, float(saved["flops"]), float(saved["seconds"])
            else:
                self._shared = self._train_supernet(training, path)
        return self._shared

    def _train_supernet(self, training: SupernetTraining, path: Path) -> tuple[SharedNetwork, float, float]:
        with self.progress.stage("shared network", training.total_steps) as stage:
            while not training.done():
                training.take_step()
                stage.advance()
        data, rows = self.dataset, self.space.sample(np.random.default_rng(self.config.seed), 32)
        forward = np.mean([self.space.cost(r, data.num_classes, data.channels, data.size[0]).flops for r in rows])
        images = training.total_steps * training.config.batch_size * training.paths
        flops, seconds = float(forward) * (1 + BACKWARD) * images, training.counts.seconds
        content = {"network": training.network.state_dict(), "flops": flops, "seconds": seconds}
        save_checkpoint(path, _KIND, content)
        return training.network, flops, seconds

    def _spent(self) -> tuple[float, float]:
        _, flops, seconds = self._supernet()
        return flops, seconds

    def _oneshot(self, recalibrated: bool) -> OneShotEstimator:
        network, _, _ = self._supernet()
        data, config = self.dataset, self.config
        own, held_out = split_indices(len(data.train_labels), 1 - config.held_out, config.seed)

        def images(indices: torch.Tensor) -> torch.Tensor:
            return normalize(data.train_images[indices], data.mean, data.std).to(config.device)

        labels = data.train_labels[held_out].to(config.device)
        statistics = images(own[: config.calibration]) if recalibrated else None
        return OneShotEstimator(network, images(held_out), labels, statistics)

    def _inherit(self, label: str, epochs: int, shared: bool) -> InheritEstimator:
        estimator = InheritEstimator(
            self.space, self.dataset, self.folder / label, self.config.training(), Fidelity(epochs),
            self.config.epochs, self._supernet()[0] if shared else None, inherited_lr=self.config.lr / 2,
        )  # fmt: skip
        if not shared:
            estimator.estimate(self.parent[None])
            for row in self.rows.tolist():
                estimator.note_ancestors(tuple(row), (tuple(self.parent.tolist()),))
        return estimator

    def _parent_spent(self) -> tuple[float, float]:
        full = self._train(REFERENCE)()
        return full.cost(self.parent), 0.0

    def _table(self) -> Iterator[Method]:
        table = self.table
        if table is not None:
            yield Method("table", "table", lambda: table)
