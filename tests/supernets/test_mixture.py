"""The mixture network: one-hot weights are a child, others the sum over candidates, gradients those of autograd."""

from functools import partial, reduce
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from nasfast.errors import ConfigError, NasfastError, ShapeError, SpaceError
from nasfast.nn.cells import PARTIAL_FRACTION, channel_shuffle
from nasfast.spaces.base import Space
from nasfast.spaces.nasbench201 import EDGES, OPERATIONS, NASBench201
from nasfast.spaces.operations import Classifier, conv_bn, factorized_reduce, primitive
from nasfast.spaces.registry import make_space
from nasfast.strategies.gradient.readout_space import derive_row, observe_row, skip_values
from nasfast.strategies.gradient.relaxations import make_relaxation
from nasfast.supernets.mixture import MixtureNetwork
from nasfast.supernets.shared import SharedNetwork

FUSABLE = ("none", "skip_connect", "sep_conv_3x3", "dil_conv_5x5", "avg_pool_3x3", "max_pool_3x3")


class FusableSpace(Space):
    """Two places of primitives that the fused mixed operation has, one of them halving the image."""

    operations: ClassVar = {
        "stem": conv_bn,
        "skip_connect": factorized_reduce,
        "head": Classifier,
        **{name: partial(primitive, name=name) for name in FUSABLE[2:]},
    }
    fixed_wiring = True

    def __init__(self):
        super().__init__("fusable", {"first": FUSABLE, "second": FUSABLE[1:4]})

    def wire(self, choices, net):
        x = net.op("stem", net.input, 8, at="stem")
        y = net.op(choices["first"], x, at="first")
        x = net.op(choices["second"], net.sum([x, y]), 8, 2, at="second")
        return net.op("head", x, net.num_classes, at="head")


class WidthSpace(Space):
    """A decision that changes the channels: there is nothing to mix."""

    operations: ClassVar = {"conv": conv_bn, "head": Classifier}
    fixed_wiring = True

    def __init__(self):
        super().__init__("width", {"narrow": ("yes", "no")})

    def wire(self, choices, net):
        x = net.op("conv", net.input, 8 if choices["narrow"] == "yes" else 16, at="conv")
        return net.op("head", net.op("conv", x, 8, at="back"), net.num_classes, at="head")


SPACES = {
    "nasbench201": lambda: NASBench201(8, 2),
    "nasbench-macro": lambda: make_space("nasbench-macro", {"width": 0.25}),
    "enas-macro": lambda: make_space("enas-macro", {"layers": 4, "channels": 4, "branches": 2}),
    "fusable": FusableSpace,
}


def network_of(name, dtype=torch.float64, **options):
    torch.manual_seed(0)
    return MixtureNetwork(SPACES[name](), 10, 3, **options).to(dtype)


def images(side=8, count=4, dtype=torch.float64, seed=1):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def one_hot(space, row, dtype=torch.float64):
    return [torch.eye(size, dtype=dtype)[value] for size, value in zip(space.sizes.tolist(), row, strict=True)]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", SPACES)
def test_one_hot_weights_are_the_child_of_the_shared_network(name, fused):
    network = network_of(name, fused=fused)
    shared = SharedNetwork(network.space).double()
    shared.load_state_dict(network.state_dict())
    side = 16 if name == "nasbench-macro" else 8
    for row in network.space.sample(np.random.default_rng(0), 6):
        out = network(images(side), one_hot(network.space, row))
        torch.testing.assert_close(out, shared(images(side), row), rtol=1e-9, atol=1e-9)


def plain_cell(network, weights, x, at):
    """A mixed cell of NAS-Bench-201, spelled out."""
    states = [x]
    for target in range(1, 4):
        terms = []
        for (source, end), w in zip(EDGES, weights, strict=True):
            if end != target:
                continue
            for k, name in enumerate(OPERATIONS):
                value = states[source]
                if name == "none":
                    value = value * 0
                elif name != "skip_connect":
                    value = network.ops[f"{at}/{source}->{target}/{name}"](value)
                terms.append(w[k] * value)
        states.append(reduce(torch.add, terms))
    return states[-1]


def plain_forward(network, weights, x):
    x = network.ops["stem/stem"](x)
    for stage in range(3):
        if stage:
            x = network.ops[f"stage{stage}/reduce/reduce"](x)
        for cell in range(network.space.cells):
            x = plain_cell(network, weights, x, f"stage{stage}/cell{cell}")
    return network.ops["head/head"](x)


@pytest.mark.parametrize("affine", [True, False])
def test_gradients_are_those_of_a_plain_loop(affine):
    network = network_of("nasbench201", affine=affine)
    alphas, parameters = network.arch_parameters(), list(network.parameters())
    loss = nn.functional.cross_entropy(network(images()), torch.tensor([0, 1, 2, 3]))
    found = torch.autograd.grad(loss, [*alphas, *parameters])
    weights = torch.softmax(alphas[0], 1)
    plain = nn.functional.cross_entropy(plain_forward(network, weights, images()), torch.tensor([0, 1, 2, 3]))
    torch.testing.assert_close(loss, plain)
    for one, other in zip(found, torch.autograd.grad(plain, [*alphas, *parameters]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("affine", [True, False])
def test_fused_places_equal_plain_ones(affine):
    fused, plain = (network_of("fusable", affine=affine, fused=on) for on in (True, False))
    assert all(p is not None for p, place in zip(fused._primitives, fused.places, strict=True) if place.decision >= 0)
    for one, other in zip(fused.arch_parameters(), plain.arch_parameters(), strict=True):
        assert torch.equal(one, other)
    results = []
    for network in (fused, plain):
        loss = network(images()).square().sum()
        results.append(torch.autograd.grad(loss, [*network.arch_parameters(), *network.parameters()]))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)
    for name, value in fused.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=1e-9, atol=1e-9)


def test_hard_samples_leave_other_candidates_alone():
    network = network_of("nasbench201")
    network.relaxation = make_relaxation("gdas", torch.Generator().manual_seed(0))
    called = set()
    for name, module in network.ops.items():
        module.register_forward_hook(lambda *_, name=name: called.add(name))
    network(images()).sum().backward()
    chosen = {name for name in called if "cell" in name}
    assert 0 < len(chosen) <= 6 * 3 * network.space.cells
    edges = [name.rsplit("/", 1)[0] for name in chosen]
    assert len(edges) == len(set(edges))
    # All cells follow one draw.
    kinds = {(name.split("/", 2)[2]) for name in chosen}
    assert len(kinds) * 3 * network.space.cells == len(chosen)


def test_gdas_gradient_of_the_network_goes_through_the_drawn_candidates():
    network = network_of("nasbench201")
    network.relaxation = make_relaxation("gdas", torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(network(images()).square().sum(), network.arch_parameters())
    twin = make_relaxation("gdas", torch.Generator().manual_seed(0))
    weights = twin.sample(network.alphas[0])
    plain = plain_forward(network, weights, images())
    (expected,) = torch.autograd.grad(plain.square().sum(), network.arch_parameters())
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_partial_channels_mix_a_quarter_and_weigh_the_edges():
    network = network_of("nasbench201", partial=True, affine=False)
    edges = network.edge_weights()
    assert edges[0] == 1
    torch.testing.assert_close(edges[1:3].sum(), edges[0].detach())
    torch.testing.assert_close(edges[3:].sum(), edges[0].detach())
    place = next(index for index, place in enumerate(network.places) if place.decision == 1)
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    weights = torch.softmax(network.alphas[0][1], 0)
    out = network._mix(place, x, weights, None)
    taken = x[:, : 8 // PARTIAL_FRACTION]
    at = "stage0/cell0/0->2"
    terms = [weights[1] * taken]
    terms += [weights[k] * network.ops[f"{at}/{OPERATIONS[k]}"](taken) for k in (2, 3, 4)]
    expected = channel_shuffle(torch.cat([reduce(torch.add, terms), x[:, 8 // PARTIAL_FRACTION :]], 1), 4)
    torch.testing.assert_close(out, expected)
    loss = network(images()).square().sum()
    gradients = torch.autograd.grad(loss, network.arch_parameters())
    assert float(gradients[1][0]) == 0  # the only edge into its node
    assert float(gradients[1][1:].abs().min()) > 0


def test_architecture_parameters_follow_the_network_and_stay_out_of_its_state():
    network = network_of("nasbench-macro", torch.float32)
    alphas = network.arch_parameters()
    assert [list(alpha.shape) for alpha in alphas] == [[8, 3]]
    assert not any("alpha" in name for name in network.state_dict())
    network.double()
    assert network.arch_parameters()[0] is alphas[0]
    assert alphas[0].dtype == torch.float64


def test_without_affine_the_candidates_have_none_and_the_rest_keeps_it():
    network = network_of("nasbench201", affine=False)
    names = [name for name, _ in network.named_parameters()]
    assert not any("cell" in name and name.endswith("bias") for name in names)
    assert "ops.stage1/reduce/reduce.conv_a.op.2.bias" in names


def with_skips(count):
    """A network whose cell derives to so many skip connections, each stronger than the one before."""
    network = network_of("nasbench201")
    with torch.no_grad():
        network.alphas[0].zero_()
        network.alphas[0][:, OPERATIONS.index("nor_conv_3x3")] = 1
        for number in range(count):
            network.alphas[0][number, OPERATIONS.index("skip_connect")] = 2 + number
    return network


def test_cap_takes_the_weakest_skip_connections_out():
    network = with_skips(6)
    assert network.space.decode(derive_row(network, None)).count("skip_connect") == 6
    assert observe_row(network).skip_normal == 6
    row = derive_row(network, 2)
    assert [OPERATIONS[value] for value in row] == ["nor_conv_3x3"] * 4 + ["skip_connect"] * 2
    assert derive_row(network, 0).tolist() == [3] * 6
    assert observe_row(with_skips(0)).skip_normal == 0


def test_entropy_of_a_space_runs_from_decided_to_undecided():
    network = network_of("nasbench-macro")
    with torch.no_grad():
        network.alphas[0].zero_()
        assert observe_row(network).entropy == pytest.approx(1)
        network.alphas[0][:, 2] = 1000
        assert observe_row(network).entropy == 0


def test_skips_are_identities_at_every_place():
    assert skip_values(network_of("nasbench201")) == [{1}] * 6
    # A skip of ENAS stands against nothing that could be learned in its place.
    assert not any(skip_values(network_of("enas-macro")))
    # An identity that halves the image is a convolution.
    assert [bool(values) for values in skip_values(network_of("nasbench-macro"))] == [
        stride == 1 for stride in (2, 1, 2, 1, 1, 2, 1, 1)
    ]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: MixtureNetwork(make_space("mobilenet")),
            SpaceError,
            "mobilenet: its decisions choose what reads what",
        ),
        (lambda: MixtureNetwork(make_space("enas-micro")), SpaceError, "no place to mix candidates at"),
        (lambda: MixtureNetwork(WidthSpace()), SpaceError, "width: narrow chooses among outputs of several shapes"),
        (
            lambda: network_of("nasbench-macro", partial=True),
            ConfigError,
            "need operations that keep channels and size, so that the rest can pass by, but layer0 goes from",
        ),
        (
            lambda: network_of("enas-macro", partial=True),
            ConfigError,
            "most of them would pass by layer1.skip0, which chooses whether any do",
        ),
        (
            lambda: MixtureNetwork(NASBench201(6, 1), partial=True),
            ConfigError,
            "partial channels need a multiple of 4 channels, 0->1 has 6",
        ),
        (lambda: network_of("nasbench201")(images()[:, :2]), ShapeError, r"images must be \[N, 3, H, W\], got"),
        (
            lambda: network_of("nasbench201")(images(), [torch.ones(4)] * 6),
            ShapeError,
            r"weights must be of shapes .*\[5\]\], got \[\[4\]",
        ),
    ],
)
def test_what_makes_no_sense_is_said(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_diverged_weights_are_said():
    network = network_of("nasbench201")
    with torch.no_grad():
        network.alphas[0][2, 3] = float("nan")
    with pytest.raises(NasfastError, match="not finite: the search has diverged"):
        derive_row(network, None)
