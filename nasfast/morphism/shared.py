"""The weights of a weight-shared network as a warm start for one of its architectures."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nasfast.errors import SpaceError
from nasfast.morphism.channels import ChannelMap, carry_conv, carry_linear, carry_norm
from nasfast.morphism.network import MorphNetwork
from nasfast.morphism.operations import layers_of
from nasfast.supernets.bounds import Bounds
from nasfast.supernets.elastic import ElasticNetwork
from nasfast.supernets.shared import SharedNetwork


def from_shared(network: SharedNetwork, row: Any) -> MorphNetwork:
    """The stand-alone network of an architecture with the weights, and the statistics, that it has in a shared network.

    Of an elastic network it gets the first channels and the middle of the kernels. Its outputs are those of
    ``network(images, row)``.
    """
    row = network.space.check(row)[0]
    child = MorphNetwork(network.space, row, network.num_classes, network.in_channels)
    for node in child.graph.nodes:
        if node.op is None or not node.weights:
            continue
        module, key = child.ops[node.weights.replace(".", "_")], network.key_of(node)
        if isinstance(network, ElasticNetwork):
            _cut(module, network.bounds(node.weights, node.op), node.weights)
        else:
            module.load_state_dict(network.ops[key].state_dict())
    return child.to(next(network.parameters()))


def _cut(module: nn.Module, bounds: list[Bounds], where: str) -> None:
    """Set the layers of an operation from parts of larger ones."""
    layers = [layer for layer in layers_of(module) or () if next(layer.parameters(), None) is not None]
    parts = [part for part in bounds if next(part.layer.parameters(), None) is not None]
    if len(layers) != len(parts):
        raise SpaceError(f"{where}: {type(module).__name__} is not cut from the layers of the shared network")
    for layer, part in zip(layers, parts, strict=True):
        if isinstance(layer, nn.Conv2d) and isinstance(part.layer, nn.Conv2d):
            reads = ChannelMap.to(part.layer.in_channels, part.c_in)
            carry_conv(part.layer, layer, reads, ChannelMap.to(part.layer.out_channels, part.c_out), None)
        elif isinstance(layer, nn.BatchNorm2d) and isinstance(part.layer, nn.BatchNorm2d):
            carry_norm(part.layer, layer, ChannelMap.to(part.layer.num_features, part.c_out))
        elif isinstance(layer, nn.Linear) and isinstance(part.layer, nn.Linear):
            with torch.no_grad():
                carry_linear(part.layer, layer, ChannelMap.to(part.layer.in_features, part.c_in), None)
