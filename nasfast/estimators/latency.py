"""Latency of a network as the sum of its operations', each measured once on this machine and kept in a file.

Cai, Zhu, Han, "ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware", ICLR 2019.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from nasfast.errors import ConfigError
from nasfast.runs.environment import describe_environment
from nasfast.spaces.base import Space
from nasfast.spaces.cost import Size, operations_of
from nasfast.spaces.graph import Graph, Op
from nasfast.spaces.graph_network import make_operation
from nasfast.utils.files import atomic_write
from nasfast.utils.texts import read_json

FORMAT_NAME = "nasfast.latency"
FORMAT_VERSION = 1
_ROUNDS, _WARM_UP = 15, 3


class LatencyTable:
    """Milliseconds of single operations on the CPU, float32, channels_last, without gradients.

    What the file does not hold yet is measured when it is first asked for, and added to the file; so a search that is
    resumed sees the same numbers. Sums, concatenations and identities are taken to cost nothing.

    Args:
        path: JSON file; made where it is missing.
        batch: Images at a time.

    Raises:
        ConfigError: The file is none of latencies, or was measured with another batch, number of threads or processor.
    """

    def __init__(self, path: str | Path, batch: int = 1) -> None:
        self.path = Path(path)
        environment = describe_environment()
        self.setting = {"processor": environment["processor"], "threads": torch.get_num_threads(), "batch": batch}
        self.milliseconds: dict[str, float] = {}
        if self.path.exists():
            self._read()

    def of(self, space: Space, row: Any, num_classes: int = 10, size: int | None = None) -> float:
        """Milliseconds of an architecture for images of ``size`` pixels a side (the space's by default)."""
        graph = space.graph(row, num_classes)
        total, measured = 0.0, False
        for op, shape in operations_of(graph, size or space.image_size):
            if op.is_identity or op.is_zero:
                continue
            key = f"{space.name}: {_text(op)} on {'x'.join(map(str, shape))}"
            if key not in self.milliseconds:
                self.milliseconds[key] = _measure(graph, op, shape, self.setting["batch"])
                measured = True
            total += self.milliseconds[key]
        if measured:
            self._write()
        return total

    def _read(self) -> None:
        try:
            content = read_json(self.path, "a file of latencies", ConfigError)
            head = (content["format"], content["version"])
            found = {str(key): float(value) for key, value in content["milliseconds"].items()}
            setting = {key: content[key] for key in self.setting}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{self.path} is no file of latencies: {error}") from error
        if head != (FORMAT_NAME, FORMAT_VERSION):
            raise ConfigError(f"{self.path}: expected {FORMAT_NAME} version {FORMAT_VERSION}, got {head[0]} {head[1]}")
        for key, value in self.setting.items():
            if setting[key] != value:
                raise ConfigError(
                    f"{self.path} was measured with {key} {setting[key]}, this is {value}; choose another file"
                )
        self.milliseconds = found

    def _write(self) -> None:
        content = {"format": FORMAT_NAME, "version": FORMAT_VERSION, **self.setting, "milliseconds": self.milliseconds}
        atomic_write(self.path, json.dumps(content, indent=1) + "\n")


def _text(op: Op) -> str:
    settings = "".join(f" {key}={value}" for key, value in op.settings)
    return f"{op.name} {op.c_in}->{op.c_out} stride={op.stride}{settings}"


@torch.no_grad()
def _measure(graph: Graph, op: Op, size: Size, batch: int) -> float:
    """Median of several runs, in milliseconds."""
    module = make_operation(graph, op).eval()
    x = torch.randn(batch, op.c_in, *size, generator=torch.Generator().manual_seed(0))
    if x.ndim == 4:
        module, x = module.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    times = []
    for _ in range(_WARM_UP + _ROUNDS):
        start = time.perf_counter()
        module(x)
        times.append(time.perf_counter() - start)
    return round(1e3 * statistics.median(times[_WARM_UP:]), 5)
