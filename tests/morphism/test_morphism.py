"""Network morphism: every change keeps the outputs, in train and in eval mode; what cannot is said to."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from nasfast.errors import ConfigError, SpaceError
from nasfast.morphism import (
    ChainNetwork,
    MorphNetwork,
    add_branch,
    add_skip,
    deepen,
    from_shared,
    grow_kernel,
    growths,
    morph,
    preserves,
    widen,
)
from nasfast.morphism.channels import WIDENINGS
from nasfast.spaces.registry import DIGITS, make_space
from nasfast.supernets import make_supernet

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def shake(network, seed=0):
    """Weights and statistics as after some training: none of them 0, 1, or alike."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(0.2 * torch.randn(module.num_features, generator=draw))
                module.running_var.copy_(0.5 + 1.5 * torch.rand(module.num_features, generator=draw))
                if module.affine:
                    module.weight.copy_(0.5 + torch.rand(module.num_features, generator=draw))
                    module.bias.copy_(0.3 * torch.randn(module.num_features, generator=draw))
        for name, parameter in network.named_parameters():
            if "gate" in name or "skips" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw))
    return network


def images(dtype, size=8, count=6, seed=1):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_equal_outputs(one, other, x, train):
    """Outputs of copies, relative to the largest; train mode twice, so that running statistics are compared too."""
    tolerance = TOLERANCE[x.dtype]
    one, other = (copy.deepcopy(network).train(train) for network in (one, other))
    with torch.no_grad():
        for _ in range(2 if train else 1):
            first, second = one(x), other(x)
            assert (first - second).abs().max() <= tolerance * max(1.0, float(first.abs().max()))
        first, second = one.eval()(x), other.eval()(x)
        assert (first - second).abs().max() <= 3 * tolerance * max(1.0, float(first.abs().max()))


def chain(affine=True, dtype=torch.float32):
    torch.manual_seed(0)
    network = ChainNetwork((8, 12, 12, 12), 5, kernels=(3, 1, 3, 3), strides=(1, 2, 1, 1), affine=affine)
    return shake(network).to(dtype)


def braided(affine=True, dtype=torch.float32):
    """A chain with a skip, a further branch and a residual block, none of them silent."""
    network = add_branch(add_skip(chain(affine, dtype), 1, 4), 2)
    return shake(deepen(network, 2), 3)


def _generator():
    return torch.Generator().manual_seed(5)


MORPHISMS = {
    "widen the first block": lambda n: widen(n, 0, 13),
    "widen what strides": lambda n: widen(n, 1, 17),
    "widen the last block": lambda n: widen(n, len(n.blocks) - 1, 30),
    "repeat channels of the first block": lambda n: widen(n, 0, 13, _generator(), "repeat"),
    "repeat in equal shares": lambda n: widen(n, 0, 21, how="repeat"),
    "repeat channels of what strides": lambda n: widen(n, 1, 17, _generator(), "repeat"),
    "repeat channels of the last block": lambda n: widen(n, len(n.blocks) - 1, 30, _generator(), "repeat"),
    "deepen behind the first": lambda n: deepen(n, 0),
    "deepen in the middle": lambda n: deepen(n, 1, kernel=5),
    "deepen at the end": lambda n: deepen(n, len(n.blocks) - 1),
    "kernel 1 to 3": lambda n: grow_kernel(n, 1, 3),
    "kernel 3 to 7": lambda n: grow_kernel(n, 2, 7),
    "skip": lambda n: add_skip(n, 1, 3),
    "skip to the classifier": lambda n: add_skip(n, 2, len(n.blocks)),
    "branch": lambda n: add_branch(n, 0, 5),
    "branch that strides": lambda n: add_branch(n, 1),
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("make", [chain, braided])
@pytest.mark.parametrize("name", MORPHISMS)
def test_chain_morphism_keeps_the_outputs(name, make, affine, dtype):
    parent = make(affine, dtype)
    before = copy.deepcopy(parent.state_dict())
    child = MORPHISMS[name](parent)
    assert all(torch.equal(value, before[key]) for key, value in parent.state_dict().items())
    assert sum(p.numel() for p in child.parameters()) > sum(p.numel() for p in parent.parameters())
    for train in (True, False):
        assert_equal_outputs(parent, child, images(dtype), train)


def test_all_chain_morphisms_in_a_row_keep_the_outputs_and_learn():
    parent = child = chain(dtype=torch.float64)
    names = (
        "kernel 1 to 3",
        "branch",
        "skip",
        "repeat in equal shares",
        "deepen in the middle",
        "skip to the classifier",
    )
    for name in (*names, "kernel 3 to 7", "repeat channels of what strides", "repeat channels of the last block"):
        child = MORPHISMS[name](child)
    for train in (True, False):
        assert_equal_outputs(parent, child, images(torch.float64), train)
    child(images(torch.float64)).square().sum().backward()
    silent = {name: p for name, p in child.named_parameters() if not p.any() and "bias" not in name}
    assert len(silent) == 4  # a branch, two skips, a residual block
    assert all(p.grad.abs().sum() > 0 for p in silent.values())


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_identity_layer_is_exact_in_eval_mode_and_in_train_mode_on_its_own_batch(dtype):
    for parent in (chain(dtype=dtype), add_skip(chain(dtype=dtype), 1, 3)):
        x, other = images(dtype), images(dtype, seed=9)
        child = deepen(parent, 2, "identity", images=x)
        assert_equal_outputs(parent.eval(), child.eval(), other, False)
        with torch.no_grad():
            first, second = copy.deepcopy(parent).train()(x), copy.deepcopy(child).train()(x)
            assert (first - second).abs().max() <= TOLERANCE[dtype] * max(1.0, float(first.abs().max()))
            first, second = copy.deepcopy(parent).train()(other), copy.deepcopy(child).train()(other)
            assert (first - second).abs().max() > 1e-4  # another batch has other statistics


def test_repeats_part_ways_with_drawn_shares_and_stay_alike_with_equal_ones():
    x, labels = images(torch.float64), torch.arange(6) % 5
    spread = {}
    for generator in (None, _generator()):
        child = widen(chain(dtype=torch.float64), 0, 16, generator, "repeat")
        optimizer = torch.optim.SGD(child.parameters(), 0.1)
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(child(x), labels).backward()
            optimizer.step()
        weight = child.block(0).first.conv.weight.detach()
        apart = (weight[8:, None] - weight[None, :8]).abs().amax((2, 3, 4)).amin(1)
        spread[generator is None] = float(apart.max())
    assert spread[True] < 1e-12
    assert spread[False] > 1e-4


def test_every_fresh_channel_learns_behind_closed_gates_too():
    """Of a block whose output is added to others through gates of 0: what reads a channel, or its gate, is open."""
    x, labels = images(torch.float64), torch.arange(6) % 5
    parent = add_skip(deepen(chain(dtype=torch.float64), 2), 1, 4)
    child = widen(parent, 2, 18)
    started = copy.deepcopy(child.state_dict())
    optimizer = torch.optim.SGD(child.parameters(), 0.1)
    for _ in range(2):  # in the first step what reads them, in the second they themselves
        optimizer.zero_grad()
        nn.functional.cross_entropy(child(x), labels).backward()
        optimizer.step()
    fresh = 0
    for name, value in child.state_dict().items():
        if name.endswith("conv.weight") and len(value) == 18:
            moved = (value - started[name]).abs().amax((1, 2, 3))[12:]
            assert (moved > 0).all(), name
            assert value[12:].flatten(1).unique(dim=0).shape[0] == 6, name  # no two alike
            fresh += 1
    assert fresh >= 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: widen(n, 0, 8), "block 0 has 8 channels, expected more, got 8"),
        (lambda n: widen(n, 7, 80), "block must be 0 to 3, got 7"),
        (lambda n: widen(n, 0, 16, how="other"), "widening must be fresh or repeat, got 'other'"),
        (lambda n: grow_kernel(n, 0, 4), "kernel must be odd"),
        (lambda n: grow_kernel(n, 0, 3), "has a kernel of 3, expected a larger one"),
        (lambda n: add_skip(n, 0, 2), "channels and size must be equal"),
        (lambda n: add_skip(n, 1, 2), "block must be 3 to 4, got 2"),
        (lambda n: add_skip(add_skip(n, 1, 3), 1, 3), "it is there"),
        (lambda n: deepen(n, 0, "identity"), "needs images"),
        (lambda n: deepen(n, 0, "other"), "how must be residual or identity"),
        (lambda n: add_branch(n, 0, 2), "kernel must be odd"),
        (lambda n: ChainNetwork((4, 0)), "needs a width"),
        (lambda n: ChainNetwork((4,), kernels=2), "kernels must be odd"),
    ],
)
def test_bad_changes_of_a_chain_are_named(change, message):
    with pytest.raises(ConfigError, match=message):
        change(chain())


def test_identity_layer_refuses_what_may_be_negative():
    """A residual block that reads a sum with a skip, whose gate may turn it negative."""
    network = add_skip(deepen(chain(), 2), 1, 3)
    deepen(network, 2, "identity", images=images(torch.float32))
    with pytest.raises(ConfigError, match="not negative"):
        deepen(network, 3, "identity", images=images(torch.float32))


# spaces

GROWING = ("mobilenet", "nasbench-macro", "nasbench201", "enas-macro")


def space_of(name):
    return make_space(name, DIGITS[name])


def network_of(space, row, dtype):
    torch.manual_seed(0)
    return shake(MorphNetwork(space, row, 7)).to(dtype)


@pytest.mark.parametrize("name", GROWING)
def test_what_is_said_to_keep_the_outputs_does_and_nothing_else(name):
    space = space_of(name)
    row = space.sample(np.random.default_rng(2), 1)[0]
    parent, x = network_of(space, row, torch.float64), images(torch.float64, 16)
    others = [n for n in space.neighbours(row) if space.canonical(n) != space.canonical(row)]
    kept = 0
    for other in others[::2]:
        child = morph(space, parent, row, other, seed=3)
        assert child.network.graph.form() == space.graph(other, 7).form()
        if child.preserves:
            kept += 1
            for train in (True, False):
                assert_equal_outputs(parent, child.network, x, train)
        else:
            with torch.no_grad():
                first, second = (copy.deepcopy(net).eval()(x) for net in (parent, child.network))
            assert (first - second).abs().max() > 1e-9, child.changes
            assert 0 < child.inherited <= child.operations
    assert kept


def test_growths_are_the_neighbours_that_keep_the_outputs():
    space = space_of("mobilenet")
    row = space.encode(space.decode(np.zeros_like(space.sizes)))
    found = {tuple(other) for other in growths(space, row).tolist()}
    near = [n for n in space.neighbours(row) if space.canonical(n) != space.canonical(row)]
    assert found == {tuple(n.tolist()) for n in near if preserves(space, row, n)}
    names = [space.decisions[int(np.argmax(other))].name for other in map(np.array, sorted(found))]
    assert {"stage0.depth", "stage1.width", "stage1.block0.kernel", "stage2.block0.expansion"} <= set(names)
    assert "stage0.width" not in names  # as wide as the stem, its first block becomes residual


LADDERS = {
    "mobilenet": [
        {"stage0.width": 1.0, "stage1.width": 1.0, "stage2.width": 1.0},
        {"stage1.width": 1.5, "stage2.block0.kernel": 5},
        {"stage0.depth": 2, "stage2.width": 1.5, "stage1.block0.expansion": 4},
        {"stage2.depth": 2, "stage0.block1.kernel": 5, "stage2.block0.expansion": 4},
    ],
    "nasbench-macro": [{}, {"layer1": "mb_e3_k3", "layer7": "mb_e3_k3"}, {"layer1": "mb_e6_k5", "layer4": "mb_e6_k5"}],
    "nasbench201": [
        {"0->1": "nor_conv_1x1"},
        {"0->3": "skip_connect", "1->3": "nor_conv_3x3"},
        {"0->1": "nor_conv_3x3", "2->3": "avg_pool_3x3"},
        {"0->2": "skip_connect"},
    ],
    "enas-macro": [{}, {"layer1.skip0": 1}, {"layer3.skip0": 1, "layer2.skip1": 1}, {"layer3.skip1": 1}],
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("widening", WIDENINGS)
@pytest.mark.parametrize("name", LADDERS)
def test_architectures_grow_by_several_decisions_and_again(name, widening, dtype):
    """Every step is trained for in between, so that gates and new layers are open when the next one is taken."""
    space, x = space_of(name), images(dtype, 16)
    first = {decision.name: decision.values[0] for decision in space.decisions}
    row = space.row_of(first | LADDERS[name][0])
    parent = network_of(space, row, dtype)
    choices = space.choices(row)
    for step in LADDERS[name][1:]:
        choices = choices | step
        child = morph(space, parent, row, space.row_of(choices), 1, widening)
        assert child.preserves, child.changes
        assert preserves(space, row, space.row_of(choices))
        assert child.changes
        for train in (True, False):
            assert_equal_outputs(parent, child.network, x, train)
        row, parent = space.row_of(choices), shake(child.network)


def test_state_of_an_architecture_without_gates_is_that_of_the_space():
    for name in GROWING:
        space = space_of(name)
        row = space.sample(np.random.default_rng(1), 1)[0]
        network, plain = MorphNetwork(space, row), space.build(row)
        plain.load_state_dict(network.state_dict())
        with torch.no_grad():
            x = images(torch.float32, 16)
            assert torch.equal(plain.eval()(x), network.eval()(x))


def test_shrinking_inherits_and_says_that_it_does_not_preserve():
    space = space_of("mobilenet")
    largest, smallest = space.sizes - 1, np.zeros_like(space.sizes)
    child = morph(space, network_of(space, largest, torch.float32), largest, smallest)
    assert not child.preserves
    assert child.inherited == child.operations
    assert any("removed" in change for change in child.changes)
    again = morph(space, child.network, smallest, smallest)
    assert again.preserves
    assert again.changes == ()
    assert_equal_outputs(child.network, again.network, images(torch.float32, 16), True)


def test_morphism_is_drawn_from_its_seed():
    space = space_of("mobilenet")
    row = np.zeros_like(space.sizes)
    wider = row.copy()
    wider[[d.name for d in space.decisions].index("stage1.width")] = 1
    parent = network_of(space, row, torch.float32)
    states = [morph(space, parent, row, wider, seed).network.state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert any(not torch.equal(value, states[2][name]) for name, value in states[0].items())


def test_foreign_parent_is_refused():
    space = space_of("nasbench-macro")
    with pytest.raises(SpaceError, match="the parent is no network of 00000000"):
        morph(space, space.build(space.encode("11111111")), space.encode("00000000"), space.encode("22222222"))


@pytest.mark.parametrize("name", GROWING)
def test_child_of_a_shared_network_starts_with_its_weights(name):
    space = space_of(name)
    torch.manual_seed(0)
    shared = shake(make_supernet(space, 7)).eval()
    x = images(torch.float32, 16)
    for row in space.sample(np.random.default_rng(0), 3):
        child = from_shared(shared, row).eval()
        with torch.no_grad():
            assert torch.allclose(child(x), shared(x, row), atol=1e-5, rtol=1e-5)
