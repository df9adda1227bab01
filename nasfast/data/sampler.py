"""Which images come next: shuffled epochs from an explicit generator, with a state that a checkpoint can hold."""

from __future__ import annotations

from typing import Any

import torch

from nasfast.errors import DataError


class Sampler:
    """Endless batches of indices; every epoch is a new permutation, and its last, smaller batch is left out.

    The state is that of the generator before the current epoch was drawn, and the position in it, so it is small and
    the order after :meth:`load_state` is the same to the last index.
    """

    def __init__(self, indices: torch.Tensor, batch_size: int, seed: int, what: str = "data set") -> None:
        """
        Args:
            indices: int64 ``[N]``, the images to draw from.
            batch_size: Indices per batch.
            seed: Seed of the order.
            what: Name of the images, for the error.

        Raises:
            DataError: A batch is larger than the number of images.
        """
        if batch_size < 1:
            raise DataError(f"batch size must be at least 1, got {batch_size}")
        if batch_size > len(indices):
            raise DataError(f"batch size {batch_size} is larger than the {what}, which holds {len(indices)} images")
        self._indices = indices.cpu()
        self._batch_size = batch_size
        self._generator = torch.Generator().manual_seed(seed)
        self._start_epoch()

    def _start_epoch(self) -> None:
        self._epoch_state = self._generator.get_state()
        self._order = self._indices[torch.randperm(len(self._indices), generator=self._generator)]
        self._position = 0

    @property
    def batches_per_epoch(self) -> int:
        """Full batches in one pass over the images."""
        return len(self._indices) // self._batch_size

    def next(self) -> torch.Tensor:
        """int64 ``[batch_size]`` on the CPU."""
        if self._position == self.batches_per_epoch:
            self._start_epoch()
        first = self._position * self._batch_size
        self._position += 1
        return self._order[first : first + self._batch_size]

    def state(self) -> dict[str, Any]:
        """Plain tensors and numbers for :meth:`load_state`."""
        return {"generator": self._epoch_state.clone(), "position": self._position}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue where the sampler was whose state this is."""
        self._generator.set_state(state["generator"])
        self._start_epoch()
        self._position = int(state["position"])


def split_indices(count: int, portion: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Split ``range(count)`` at random: the first part holds ``portion`` of it (rounded down), the second the rest."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    first = int(count * portion)
    return order[:first], order[first:]
