"""Several processes that train one network: what they agree on, and how they notice that one is lost.

Started by ``torchrun``, which sets RANK, WORLD_SIZE and the rest; without it there is one rank, and nothing here costs
anything. Sums are the same bits on every rank.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from nasfast.errors import NasfastError, RunError


class RankLost(RunError):
    """Another rank has ended, or did not answer in time."""


class Ranks:
    """The group of processes. One, unless :func:`open_ranks` says otherwise.

    Attributes:
        index, count: Which rank this is, and how many there are.
    """

    def __init__(self, index: int = 0, count: int = 1, timeout: float = 600.0) -> None:
        self.index, self.count, self.timeout = index, count, timeout

    @property
    def is_first(self) -> bool:
        """Whether this rank writes files and shows progress."""
        return self.index == 0

    def share(self, items: Tensor) -> Tensor:
        """This rank's part of a batch: consecutive items, as many on every rank."""
        each = len(items) // self.count
        return items[self.index * each : (self.index + 1) * each]

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Sums of tensors of one dtype and device over the ranks, in one message.

        Every rank gives tensors of the same shapes in the same order.
        """
        if self.count == 1:
            return list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with self._reaching_all():
            dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def check_same(self, what: str, tensors: Iterable[Tensor]) -> None:
        """Raise where the bits of tensors are not the same on all ranks."""
        if self.count == 1:
            return
        digest = hashlib.blake2b(digest_size=8)
        for tensor in tensors:
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        found: list[str | None] = [None] * self.count
        with self._reaching_all():
            dist.all_gather_object(found, digest.hexdigest())
        if len(set(found)) > 1:
            raise NasfastError(f"the ranks no longer agree on {what}: digests {', '.join(map(str, found))}")

    def wait(self) -> None:
        """Go on when every rank has come here."""
        if self.count > 1:
            with self._reaching_all():
                dist.barrier()

    @contextmanager
    def _reaching_all(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise RankLost(
                f"rank {self.index} of {self.count} lost another rank (none may take longer than "
                f"{self.timeout:g} s): {str(error).splitlines()[0][:160]}"
            ) from error


@contextmanager
def open_ranks(device: str, timeout: float) -> Iterator[Ranks]:
    """The processes that torchrun has started, for the length of the block; one where it has not.

    Args:
        device: Where this rank computes; NCCL connects GPUs, gloo processors.
        timeout: Seconds after which a rank that does not answer is lost.

    Raises:
        RankLost: Not all ranks came together.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks()
        return
    ranks = Ranks(int(os.environ["RANK"]), count, timeout)
    backend = "nccl" if torch.device(device).type == "cuda" else "gloo"
    with ranks._reaching_all():
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


def rank_device(device: str) -> str:
    """The device of this rank: with torchrun, ``cuda`` is the GPU of its number on this machine."""
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return device
