"""Small shared networks for the tests of batched child evaluation, and the loop that it must agree with."""

from __future__ import annotations

import copy
import functools
from typing import ClassVar

import torch
from torch import Tensor, nn

from nasfast.spaces.base import Choices, Space
from nasfast.spaces.graph import Builder
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.spaces.operations import (
    Classifier,
    InvertedResidual,
    avg_pool_3x3,
    conv_bn,
    conv_bn_relu6,
    factorized_reduce,
    max_pool_3x3,
    primitive,
)
from nasfast.spaces.registry import make_space
from nasfast.supernets.shared import SharedNetwork


class SmallChain(Space):
    """A chain like NAS-Bench-Macro's, with channels that do not fill blocks of eight."""

    operations: ClassVar = {
        "stem": conv_bn_relu6,
        "identity": conv_bn,
        "mb": InvertedResidual,
        "features": conv_bn_relu6,
        "head": Classifier,
    }
    fixed_wiring = True
    layers = ((12, 2), (12, 1), (20, 2), (20, 1))
    settings: ClassVar = {
        "identity": {"kernel": 1},
        "mb1": {"expansion": 1},
        "mb3": {"expansion": 3},
        "mb6": {"expansion": 6, "kernel": 5},
    }

    def __init__(self) -> None:
        super().__init__("small-chain", {f"layer{i}": tuple(self.settings) for i in range(len(self.layers))})

    def wire(self, choices: Choices, net: Builder) -> int:
        x = net.op("stem", net.input, 10, at="stem")
        for (channels, stride), (layer, name) in zip(self.layers, choices.items(), strict=True):
            op = "identity" if name == "identity" else "mb"
            x = net.op(op, x, channels, stride, at=f"{layer}.{name}", **self.settings[name])
        x = net.op("features", x, 33, at="features", kernel=1)
        return net.op("head", x, net.num_classes, at="head")


class Branches(Space):
    """Graphs that differ in wiring: a skip may be there or not, parts are concatenated, depthwise layers and pools."""

    operations: ClassVar = {
        "stem": conv_bn,
        **{name: functools.partial(primitive, name=name) for name in ("sep_conv_3x3", "dil_conv_5x5")},
        "conv": conv_bn_relu6,
        "average": avg_pool_3x3,
        "maximum": max_pool_3x3,
        "head": Classifier,
    }

    def __init__(self) -> None:
        super().__init__(
            "branches", {"op": ("sep_conv_3x3", "dil_conv_5x5"), "pool": ("average", "maximum"), "skip": (0, 1)}
        )

    def wire(self, choices: Choices, net: Builder) -> int:
        x = net.op("stem", net.input, 9, at="stem")
        y = net.op(choices["op"], x, stride=2, at="y")
        z = net.op(choices["pool"], x, stride=2, at="z")
        parts = [y, z]
        if choices["skip"]:
            parts.append(net.op("conv", x, 9, 2, at="skip"))
        s = net.sum(parts)
        joined = net.concat([s, z, y])
        return net.op("head", net.op("conv", joined, 17, at="last"), net.num_classes, at="head")


def _layers(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


class OwnLayers(Space):
    """Candidates that a user might write: biases, kernels of 5 and 7, an activation or a normalisation on its own."""

    operations: ClassVar = {
        "bias": lambda c_in, c_out, stride: nn.Conv2d(c_in, c_out, 5, stride, 2),
        "both": lambda c_in, c_out, stride: _layers(
            nn.ReLU(), nn.Conv2d(c_in, c_out, 7, stride, 3), nn.BatchNorm2d(c_out, eps=1e-2), nn.ReLU()
        ),
        "dilated": lambda c_in, c_out, stride: _layers(
            nn.BatchNorm2d(c_in, affine=False), nn.ReLU6(), nn.Conv2d(c_in, c_out, 3, stride, 2, dilation=2, bias=False)
        ),
        "depthwise": lambda c_in, c_out, stride: _layers(
            nn.Conv2d(c_in, c_in, 7, stride, 3, groups=c_in), nn.BatchNorm2d(c_in), nn.ReLU(), nn.Conv2d(c_in, c_out, 1)
        ),
        "pooled": lambda c_in, c_out, stride: _layers(
            nn.ReLU(), nn.MaxPool2d(3, stride, 1), nn.Conv2d(c_in, c_out, 1, bias=False)
        ),
        "head": lambda c_in, c_out, stride: _layers(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(c_in, c_out, bias=False)
        ),
    }
    fixed_wiring = True

    def __init__(self) -> None:
        names = tuple(name for name in self.operations if name != "head")
        super().__init__("own-layers", {"first": names, "second": names})

    def wire(self, choices: Choices, net: Builder) -> int:
        x = net.op(choices["first"], net.input, 11, 2, at="first")
        x = net.op(choices["second"], x, 18, at="second")
        return net.op("head", x, net.num_classes, at="head")


class Reductions(Space):
    """Factorized reductions of channels whose halves do not fill blocks of eight, read on and summed."""

    operations: ClassVar = {
        "stem": conv_bn,
        "reduce": factorized_reduce,
        "conv": conv_bn_relu6,
        "head": Classifier,
    }
    fixed_wiring = True

    def __init__(self) -> None:
        super().__init__("reductions", {"first": ("reduce", "conv"), "second": ("reduce", "conv")})

    def wire(self, choices: Choices, net: Builder) -> int:
        x = net.op("stem", net.input, 9, at="stem")
        x = net.sum([net.op(choices["first"], x, 22, 2, at="first"), net.op("reduce", x, 22, 2, at="beside")])
        x = net.op(choices["second"], x, 36, 2, at="second")
        return net.op("head", x, net.num_classes, at="head")


CELL_SPACES: dict[str, dict[str, int]] = {
    "darts": {"layers": 3, "channels": 6},
    "enas-micro": {"layers": 3, "channels": 6},
    "enas-macro": {"layers": 4, "channels": 6},
}
"""Spaces whose networks halve images by factorized reductions, with settings that make them small."""


def cell_space(name: str) -> Space:
    return make_space(name, CELL_SPACES[name])


def small_nasbench201() -> NASBench201:
    return NASBench201(channels=6, cells=1)


def shared_network(space: Space, seed: int = 0) -> SharedNetwork:
    """A shared network whose BatchNorms have statistics and parameters of their own."""
    torch.manual_seed(seed)
    network = SharedNetwork(space, num_classes=7).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


@torch.no_grad()
def sequential(network: SharedNetwork, rows: object, images: Tensor, calibration: Tensor | None = None) -> Tensor:
    """Logits [K, N, classes], child by child in plain PyTorch."""
    own = copy.deepcopy(network)
    norms = [module for module in own.modules() if isinstance(module, nn.BatchNorm2d)]
    results = []
    for row in own.space.check(rows):
        if calibration is not None:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None
            own.train()(calibration, row)
        results.append(own.eval()(images, row))
    return torch.stack(results)
