"""The training of a weight-shared network by sampled paths: its state, and one step after the other.

An epoch is a pass over the train images that are not held out, then, for enas, the updates of the controller, whose
rewards are accuracies on held-out images. Everything random of a step follows from the seed, the number of the step
and the rank, or from a state in the checkpoint; so a run goes on with the same bits, and with another number of ranks
on the same paths and the same order of images.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nasfast.config.oneshot import OneShotConfig
from nasfast.data import DataSet, Sampler, augment, normalize, split_indices
from nasfast.data.fingerprint import data_fingerprint
from nasfast.errors import ConfigError, DataError, NasfastError
from nasfast.estimators.oneshot import OneShotEstimator
from nasfast.nn.memory_format import training_layout
from nasfast.search.inputs import augmentation_of
from nasfast.search.oneshot.step import accumulate_paths, average_over_ranks
from nasfast.spaces.base import Rows, Space
from nasfast.strategies.gradient.steps import cosine_rate
from nasfast.strategies.oneshot.path_samplers import ControllerPaths
from nasfast.supernets import SharedNetwork, make_supernet
from nasfast.supernets.path_forward import PathForward
from nasfast.training.distributed import Ranks
from nasfast.training.optim import set_rate, weight_optimizer
from nasfast.utils.memory import peak_memory

# Each generator of a run has a seed of its own, this far from the run's, so that no two draw the same numbers.
_SEED_TRAIN, _SEED_HELD_OUT, _SEED_PATHS = 1, 2, 3
_SEED_STRIDE = 1_000_003  # between the augmentations of two steps; more than there may be ranks


class SupernetError(NasfastError):
    """The training of a shared network has diverged."""


@dataclass
class Counts:
    """Of the current epoch: what all ranks have seen, on the device so that no step waits; the seconds it took."""

    sums: Tensor  # loss, right answers, images times paths; rewards, how many, of the controller
    seconds: float = 0.0


class SupernetTraining:
    """The state of a training.

    Args:
        config: Settings.
        space: What is searched.
        dataset: Images; moved to the device.
        ranks: The processes that train together.
    """

    def __init__(self, config: OneShotConfig, space: Space, dataset: DataSet, ranks: Ranks | None = None) -> None:
        self.config, self.space, self.ranks = config, space, ranks or Ranks()
        if config.batch_size % self.ranks.count or config.batch_size // self.ranks.count < 2:
            raise ConfigError(
                f"--batch-size must be a multiple of the {self.ranks.count} ranks, two images each at least, "
                f"got {config.batch_size}"
            )
        share = config.batch_size // self.ranks.count
        if share % config.accumulate or share // config.accumulate < 2:
            raise ConfigError(
                f"--accumulate must cut the {share} images of a step into equal parts of two at least, "
                f"got {config.accumulate}"
            )
        self.fingerprint = data_fingerprint(dataset)
        self.dataset = dataset.to(config.device)
        own, other = split_indices(len(dataset.train_labels), 1 - config.held_out, config.seed)
        self.train_indices, self.held_out = own, other
        self.train_sampler = Sampler(own, config.batch_size, config.seed + _SEED_TRAIN, "train part")
        self.augmentation = augmentation_of(config, dataset)
        self.network = self._build()
        self.forward = PathForward(self.network, bf16=config.bf16)
        self.optimizer = weight_optimizer(self.network, config)
        self.sampler = config.make_sampler().init(space, config.seed + _SEED_PATHS)
        self.paths = config.paths or self.sampler.paths
        self.controller_steps = 0
        if isinstance(self.sampler, ControllerPaths):
            self.controller_steps = -(-config.rewards // self.sampler.controller.batch)
            count = min(config.reward_images, len(other))
            self.reward_sampler = Sampler(other, count, config.seed + _SEED_HELD_OUT, "held-out part")
            self.rewarder = OneShotEstimator(
                self.network, *self.images(other[:count]), memory_bound=config.memory << 20
            )
        self.step = 0  # of the whole training
        self.counts = Counts(torch.zeros(5, dtype=torch.float64, device=config.device))

    def _build(self) -> SharedNetwork:
        config, data = self.config, self.dataset
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = make_supernet(self.space, data.num_classes, data.channels)
        self.layout = training_layout(network, config.device)
        return network.to(config.device).to(memory_format=self.layout)

    @property
    def steps_per_epoch(self) -> int:
        return self.train_sampler.batches_per_epoch + self.controller_steps

    @property
    def total_steps(self) -> int:
        return self.config.epochs * self.steps_per_epoch

    @property
    def epoch(self) -> int:
        """Epochs that are complete."""
        return self.step // self.steps_per_epoch

    def done(self) -> bool:
        return self.step >= self.total_steps

    def images(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised train images without augmentation, and their labels."""
        data, indices = self.dataset, indices.to(self.config.device)
        images = normalize(data.train_images[indices], data.mean, data.std)
        return images.contiguous(memory_format=self.layout), data.train_labels[indices]

    def take_step(self, stop: bool = False) -> bool:
        """One step of the weights or of the controller.

        Args:
            stop: This rank has been asked to stop.

        Returns:
            Whether any rank has been asked to stop; the same on all.
        """
        started = time.monotonic()
        flag = torch.tensor([float(stop)], device=self.config.device)
        if self.step % self.steps_per_epoch < self.train_sampler.batches_per_epoch:
            flag = self._weight_step(flag)
        else:
            flag = self._controller_step(flag)
        self.step += 1
        self.counts.seconds += time.monotonic() - started
        return bool(flag.item()) if self.ranks.count > 1 else stop

    def _weight_step(self, flag: Tensor) -> Tensor:
        config, data = self.config, self.dataset
        self.network.train()
        set_rate(self.optimizer, self._rate(self.epoch))
        indices = self.ranks.share(self.train_sampler.next()).to(config.device)
        inputs = augment(data.train_images[indices], self.augmentation, data.mean, data.std, self._augmenter())
        inputs = inputs.contiguous(memory_format=self.layout)
        rows_of_ranks = self._rows_of_ranks()
        rows = rows_of_ranks[self.ranks.index]
        self.optimizer.zero_grad(set_to_none=True)
        taken = accumulate_paths(
            self.forward,
            inputs,
            data.train_labels[indices],
            rows,
            bf16=config.bf16,
            distill=config.distill,
            parts=config.accumulate,
        )
        own = torch.stack([taken.loss, taken.right, torch.full_like(taken.loss, taken.seen)])
        flag, counts = average_over_ranks(self.network, self.ranks, rows_of_ranks, [flag, own], config.accumulate)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.grad_clip, foreach=True)
        self.optimizer.step()
        self.counts.sums[:3] += counts
        return flag

    def _rate(self, epoch: int) -> float:
        return cosine_rate(epoch, self.config.epochs, self.config.lr, self.config.lr_min)

    def _augmenter(self) -> torch.Generator:
        """A generator for this step's augmentation on this rank."""
        seed = (self.config.seed * _SEED_STRIDE + self.step) * _SEED_STRIDE + self.ranks.index
        return torch.Generator(self.config.device).manual_seed(seed % 2**63)

    def _rows_of_ranks(self) -> list[Rows]:
        count, different = self.ranks.count, self.config.rank_paths == "different"
        if not different:
            return [self.sampler.sample(self.paths)] * count
        return [self.sampler.sample(self.paths) for _ in range(count)]

    def _controller_step(self, flag: Tensor) -> Tensor:
        """Draw architectures, measure each on one batch of held-out images, and tell the controller.

        BatchNorm takes the statistics of that batch, as in the published code. Each rank measures a part of them.
        """
        assert isinstance(self.sampler, ControllerPaths)
        controller = self.sampler.controller
        rows = self.sampler.sample(controller.batch)
        images, labels = self.images(self.reward_sampler.next())
        own = range(self.ranks.index, len(rows), self.ranks.count)
        right = torch.zeros(len(rows), dtype=torch.float32, device=self.config.device)
        if len(own):
            right[list(own)] = torch.from_numpy(self.rewarder.correct(rows[own], images, labels, images)).to(right)
        flag, right = self.ranks.sum([flag, right])
        rewards = right.double().cpu() / len(labels)
        controller.tell(rows, rewards.numpy()[:, None])
        self.counts.sums[3:] += torch.stack([rewards.sum(), torch.tensor(float(len(rows)))]).to(self.counts.sums)
        return flag

    def end_epoch(self) -> dict[str, float | None]:
        """Numbers of the epoch that has just ended; starts the next."""
        epoch = self.epoch - 1
        sums = self.counts.sums.tolist()
        loss, right, seen, reward, rewards = sums
        if not all(map(math.isfinite, sums)):
            raise SupernetError(
                f"the loss is not finite in epoch {epoch + 1}; lower --lr (now {self.config.lr}) or --grad-clip "
                f"(now {self.config.grad_clip})"
            )
        self.ranks.check_same("the weights", self.network.state_dict().values())
        row = {
            "train_loss": loss / seen,
            "train_acc": right / seen,
            "reward": reward / rewards if rewards else None,
            "lr": self._rate(epoch),
            "seconds": self.counts.seconds,
            "images_per_second": seen / self.counts.seconds,
            "peak_memory_bytes": peak_memory(self.config.device),
        }
        self.counts.sums.zero_()
        self.counts.seconds = 0.0
        return row

    def state(self) -> dict[str, Any]:
        """Everything the next step depends on."""
        content: dict[str, Any] = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "paths": json.dumps(self.sampler.state()),
            "train_sampler": self.train_sampler.state(),
            "sums": self.counts.sums,
            "seconds": self.counts.seconds,
            "step": self.step,
            "data": self.fingerprint,
        }
        if self.controller_steps:
            content["reward_sampler"] = self.reward_sampler.state()
        return content

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`.

        Raises:
            DataError: The images are not those it began with.
        """
        if state["data"] != self.fingerprint:
            raise DataError(f"the images in {self.config.data} are not those that the run began with")
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.load_state(json.loads(state["paths"]))
        self.train_sampler.load_state(state["train_sampler"])
        self.counts.sums.copy_(state["sums"])
        self.counts.seconds, self.step = state["seconds"], state["step"]
        if self.controller_steps:
            self.reward_sampler.load_state(state["reward_sampler"])
