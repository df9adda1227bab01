"""Networks of `foreign_networks` in every shape that accelerate fuses, and a step of them to compare."""

import torch
from torch import nn

from tests.helpers import foreign_networks as foreign


def run(network, images, seed=3):
    """Everything one step gives: output, gradients, buffers."""
    torch.manual_seed(seed)
    images = images.clone().requires_grad_()
    out = network(images)
    gradients = torch.autograd.grad(out.square().sum(), [images, *network.parameters()], allow_unused=True)
    return [out, *gradients, *(buffer.clone() for buffer in network.buffers())]


def assert_same_step(network, twin, images):
    for training in (True, False):
        network.train(training)
        twin.train(training)
        assert_same_results(run(network, images), run(twin, images))


def assert_same_results(results, expected):
    """Tensors equal but for rounding in float64, or None in both."""
    for a, b in zip(results, expected, strict=True):
        if a is None or b is None:
            assert a is b
        else:
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


ENTRIES = [f"blocks.{block}.{name}" for block in (0, 1) for name in ("adapt_a", "adapt_b")]


def images(size=8):
    return torch.randn(2, 3, size, size, dtype=torch.float64)


def affine_norm(width):
    norm = nn.BatchNorm2d(width, eps=1e-3, momentum=0.3)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    return norm


def untracked_norm(width):
    return nn.BatchNorm2d(width, track_running_stats=False)


def cumulative_norm(width):
    return nn.BatchNorm2d(width, momentum=None)


NETWORKS = {
    "weights as vectors": lambda: foreign.ForeignNetwork(lambda c: foreign.VectorChoice(foreign.operations(c, 1))),
    "weights as lists": lambda: foreign.ForeignNetwork(
        lambda c: foreign.ListChoice(foreign.operations(c, 1)), as_list=True
    ),
    "affine, pools without normalisation": lambda: foreign.ForeignNetwork(
        lambda c: foreign.VectorChoice(foreign.operations(c, 1, affine_norm, pool_norm=False))
    ),
    "a quarter of the channels": lambda: foreign.ForeignNetwork(
        lambda c: foreign.PartChoice(foreign.operations(c // 4, 1), 1), width=8
    ),
    "a third of the channels": lambda: foreign.ForeignNetwork(
        lambda c: foreign.PartChoice(foreign.operations(c // 3, 1), 1, 3), width=12
    ),
    "a sixth of the channels": lambda: foreign.ForeignNetwork(
        lambda c: foreign.PartChoice(foreign.operations(c // 6, 1), 1, 6), width=12
    ),
    "wrappers that do nothing": lambda: foreign.ForeignNetwork(lambda c: foreign.VectorChoice(foreign.wrapped(c, 1))),
    "two candidates": lambda: foreign.ForeignNetwork(lambda c: foreign.TwoWays(foreign.operations(c, 1)), options=2),
    "weights squared inside": lambda: foreign.ForeignNetwork(lambda c: foreign.SquaredChoice(foreign.operations(c, 1))),
    "weights computed inside": lambda: foreign.OneInputNetwork(lambda c: foreign.OwnChoice(foreign.operations(c, 1))),
    "weights with noise": lambda: foreign.OneInputNetwork(lambda c: foreign.NoisyChoice(foreign.operations(c, 1))),
    "a skip beside the mixture": lambda: foreign.ForeignNetwork(
        lambda c: foreign.BesideChoice(foreign.operations(c, 1), c)
    ),
    "the image beside the mixture": lambda: foreign.ForeignNetwork(
        lambda c: foreign.ResidualChoice(foreign.operations(c, 1))
    ),
    "the image beside weights of its own": lambda: foreign.OneInputNetwork(
        lambda c: foreign.OwnBesideChoice(foreign.operations(c, 1))
    ),
}
SINGLES = {
    "vector": lambda step: foreign.OneChoiceNetwork(foreign.VectorChoice(foreign.operations(4, step))),
    "vector, affine": lambda step: foreign.OneChoiceNetwork(
        foreign.VectorChoice(foreign.operations(4, step, affine_norm, pool_norm=False))
    ),
    "untracked statistics": lambda step: foreign.OneChoiceNetwork(
        foreign.VectorChoice(foreign.operations(4, step, untracked_norm))
    ),
    "cumulative statistics": lambda step: foreign.OneChoiceNetwork(
        foreign.VectorChoice(foreign.operations(4, step, cumulative_norm))
    ),
    "inside": lambda step: foreign.OneChoiceNetwork(foreign.OwnChoice(foreign.operations(4, step)), given=False),
    "quarter": lambda step: foreign.OneChoiceNetwork(foreign.PartChoice(foreign.operations(2, step), step), 8),
    "wrapped": lambda step: foreign.OneChoiceNetwork(foreign.VectorChoice(foreign.wrapped(4, step))),
    "dropout of nothing": lambda step: foreign.OneChoiceNetwork(
        foreign.VectorChoice(foreign.wrapped(4, step, last=lambda: nn.Dropout2d(0.0)))
    ),
    "sixth": lambda step: foreign.OneChoiceNetwork(foreign.PartChoice(foreign.operations(2, step), step, 6), 12),
    "two candidates": lambda step: foreign.OneChoiceNetwork(foreign.TwoWays(foreign.operations(4, step)), options=2),
    "a skip beside the mixture": lambda step: foreign.OneChoiceNetwork(
        foreign.BesideChoice(foreign.operations(4, step), 4, step)
    ),
    "a skip beside the mixture, affine": lambda step: foreign.OneChoiceNetwork(
        foreign.BesideChoice(foreign.operations(4, step, affine_norm), 4, step, affine_norm)
    ),
}
BESIDE = [kind for kind in NETWORKS if "beside" in kind]
