"""A search space of your own, searched by regularized evolution; each network is trained on the digits."""

import argparse

from torch import nn

import nasfast
from nasfast.spaces import Space
from nasfast.spaces.operations import Classifier, conv_bn_relu6


def separable(c_in: int, c_out: int, stride: int) -> nn.Module:
    depthwise = nn.Conv2d(c_in, c_in, 3, stride, 1, groups=c_in, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU())


class Chain(Space):
    operations = {"conv": conv_bn_relu6, "separable": separable, "head": Classifier}  # noqa: RUF012

    def __init__(self) -> None:
        block = ("conv", "separable", "identity")
        super().__init__("chain", {"width": (4, 8, 16), "first": block, "second": block, "third": block})

    def wire(self, choices, net):
        x = net.op("conv", net.input, choices["width"], at="stem")
        for place in ("first", "second", "third"):
            x = net.op(choices[place], x, at=place)
        return net.op("head", x, net.num_classes, at="head")


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", default="runs/own-space", help="run folder to make")
parser.add_argument("--evaluations", type=int, default=6)
options = parser.parse_args()
found = nasfast.run_search(
    space=Chain(), strategy="regularized-evolution", estimator="train", data="digits", epochs=3, lr=0.1, batch_size=64,
    evaluations=options.evaluations, set=("population=4", "sample=2"), out=options.out,
)  # fmt: skip
print("best  ", found.space.decode(found.best.row), found.best.metrics)
print("report", found.report)
