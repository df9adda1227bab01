"""A rank that tells what it does with its devices: `python -m tests.helpers.rank_devices FOLDER`; see test_ranks.py.

    RANK=0 LOCAL_RANK=0 WORLD_SIZE=2 MASTER_ADDR=... MASTER_PORT=... python -m tests.helpers.rank_devices OUT

The messages really go, by gloo: tensors asked for on a GPU are made on the processor, and the GPU is noted.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.overrides import TorchFunctionMode

from nasfast.errors import NasfastError
from nasfast.training.distributed import open_ranks, rank_device

init_process_group = dist.init_process_group


class OnProcessor(TorchFunctionMode):
    """Makes on the processor what is asked for on a GPU."""

    def __init__(self, asked):
        super().__init__()
        self.asked = asked

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if "device" in kwargs:
            self.asked.append(str(kwargs["device"]))
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


def main() -> None:
    seen = {"own": [], "groups": [], "asked": [], "different": ""}

    def by_gloo(backend, *, timeout, device_id):
        seen["groups"].append([backend, str(device_id), list(seen["own"])])
        init_process_group("gloo", timeout=timeout)

    torch.cuda.device_count = lambda: 2
    torch.cuda.set_device = lambda device: seen["own"].append(str(device))
    dist.init_process_group = by_gloo
    with open_ranks(rank_device("cuda"), 60.0) as ranks, OnProcessor(seen["asked"]):
        values = torch.arange(5.0)
        ranks.check_same("the weights", [values, values.to(torch.bfloat16)])
        try:
            ranks.check_same("the weights", [values + ranks.index])
        except NasfastError as error:
            seen["different"] = str(error)
    (Path(sys.argv[1]) / f"{ranks.index}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
