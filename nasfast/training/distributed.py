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
        device: Where this rank's messages are: NCCL sends what is on the rank's own GPU.
    """

    def __init__(self, index: int = 0, count: int = 1, timeout: float = 600.0, device: str = "cpu") -> None:
        self.index, self.count, self.timeout, self.device = index, count, timeout, device

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
        own = torch.tensor([int.from_bytes(digest.digest(), signed=True)], dtype=torch.int64, device=self.device)
        gathered = [torch.empty_like(own) for _ in range(self.count)]
        with self._reaching_all():
            dist.all_gather(gathered, own)
        found = [tensor.item() for tensor in gathered]
        if len(set(found)) > 1:
            digests = ", ".join(int(value).to_bytes(8, signed=True).hex() for value in found)
            raise NasfastError(f"the ranks no longer agree on {what}: digests {digests}")

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
        NasfastError: A rank on a GPU does not say which, or names one that this machine does not have.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks()
        return
    ranks = Ranks(int(os.environ["RANK"]), count, timeout, device)
    gpu = torch.device(device) if torch.device(device).type == "cuda" else None
    if gpu is not None:
        _take_gpu(ranks, gpu)
    with ranks._reaching_all():
        backend = "gloo" if gpu is None else "nccl"
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout), device_id=gpu)
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


def _take_gpu(ranks: Ranks, gpu: torch.device) -> None:
    """Make a GPU this process's own: what names none, in torch and in NCCL, is on it and not on the first."""
    present = torch.cuda.device_count()
    if gpu.index is None:
        raise NasfastError(
            f"rank {ranks.index} of {ranks.count}: LOCAL_RANK must say which GPU is its own; see torchrun"
        )
    if gpu.index >= present:
        raise NasfastError(
            f"rank {ranks.index} of {ranks.count} computes on {gpu}, and this machine has {present} GPUs: "
            "start as many ranks on it as it has"
        )
    torch.cuda.set_device(gpu)


def rank_device(device: str) -> str:
    """The device of this rank: with torchrun, ``cuda`` is the GPU of its number on this machine."""
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return device
