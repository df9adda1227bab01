"""The steps of the search against recorded runs of the public code, and the guard against collapse."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from nasfast.spaces.darts import count_skips
from nasfast.strategies.gradient.collapse_guard import (
    CollapseGuard,
    GuardSettings,
    Observation,
    derive_capped,
    entropy,
    observe,
)
from nasfast.strategies.gradient.steps import (
    Batch,
    UnrollBuffers,
    cosine_rate,
    first_order_step,
    second_order_step,
    weight_step,
)
from nasfast.supernets.cell_network import SearchNetwork
from tests.helpers.paths import GOLDEN

CRITERION = nn.CrossEntropyLoss()


def network_of(seed=0, partial=False, width=8, fused=False):
    torch.manual_seed(seed)
    return SearchNetwork(width, 10, 3, CRITERION, partial=partial, fused=fused)


def optimizers(network):
    weights = torch.optim.SGD(network.parameters(), 0.025, momentum=0.9, weight_decay=3e-4, foreach=True)
    alphas = torch.optim.Adam(network.arch_parameters(), 3e-3, betas=(0.5, 0.999), weight_decay=1e-3, foreach=True)
    return weights, alphas


def random_batch(seed, size=4):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, 8, 8, generator=generator)
    return Batch(images, torch.randint(10, (size,), generator=generator))


@pytest.mark.parametrize("name", ["darts_first_order", "darts_second_order", "pcdarts_first_order"])
def test_steps_take_the_public_trajectory(name):
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        run = dict(file)
    partial = name.startswith("pc")
    # The second order's finite differences jump where a step crosses the kink of a relu. In float32 the last bit
    # decides on which side it lands; float64 makes the comparison one of formulas.
    dtype = torch.float64 if "second" in name else torch.float32
    network = network_of(int(run["seed"]), partial, 16 if partial else 8).to(dtype)
    for index, alpha in enumerate(network.arch_parameters()):
        alpha.data.copy_(torch.from_numpy(run[f"alpha0/{index}"]))
    weight_optimizer, arch_optimizer = optimizers(network)
    buffers = UnrollBuffers(network)
    batches = [
        Batch(torch.from_numpy(x).to(dtype), torch.from_numpy(y)) for x, y in zip(run["x"], run["y"], strict=True)
    ]
    for step, expected_loss in enumerate(run["traj_loss"]):
        train, valid = batches[2 * step], batches[2 * step + 1]
        if "second" in name:
            second_order_step(network, CRITERION, weight_optimizer, arch_optimizer, buffers, train, valid)
        else:
            first_order_step(network, CRITERION, arch_optimizer, valid)
        for index, alpha in enumerate(network.arch_parameters()):
            difference = np.abs(alpha.detach().numpy() - run[f"traj_alpha/{index}"][step]).max()
            assert difference <= 1e-3, f"architecture parameter {index} differs by {difference} after step {step}"
        loss = weight_step(network, CRITERION, weight_optimizer, train, 5.0).loss
        assert float(loss) == pytest.approx(float(expected_loss), rel=1e-3)
    assert str(network.genotype()) == str(run["genotype"])


def test_second_order_step_restores_every_bit():
    network = network_of()
    weight_optimizer, arch_optimizer = optimizers(network)
    weight_step(network, CRITERION, weight_optimizer, random_batch(0), 5.0)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    alphas = [alpha.detach().clone() for alpha in network.arch_parameters()]
    moments = [state["momentum_buffer"].clone() for state in weight_optimizer.state.values()]
    buffers = UnrollBuffers(network)
    second_order_step(network, CRITERION, weight_optimizer, arch_optimizer, buffers, random_batch(1), random_batch(2))
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
    for moment, state in zip(moments, weight_optimizer.state.values(), strict=True):
        assert torch.equal(moment, state["momentum_buffer"])
    assert all(not torch.equal(old, new) for old, new in zip(alphas, network.arch_parameters(), strict=True))


def test_failed_second_order_step_restores_every_bit():
    network = network_of()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    calls = []

    def failing(logits, targets):
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError
        return CRITERION(logits, targets)

    with pytest.raises(MemoryError):
        second_order_step(
            network, failing, *optimizers(network), UnrollBuffers(network), random_batch(1), random_batch(2)
        )
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_second_order_gradient_equals_differentiation_through_the_sgd_step(monkeypatch):
    """In float64 and with a short finite difference, against autograd through the unrolled step."""
    monkeypatch.setattr("nasfast.strategies.gradient.steps._RADIUS", 1e-6)
    network = network_of().double()
    weight_optimizer, _ = optimizers(network)
    train, valid = (Batch(batch.inputs.double(), batch.targets) for batch in (random_batch(1), random_batch(2)))
    weight_step(network, CRITERION, weight_optimizer, train, 5.0)
    names = [name for name, _ in network.named_parameters()]
    weights, alphas = list(network.parameters()), network.arch_parameters()
    loss = CRITERION(network(train.inputs), train.targets)
    gradients = torch.autograd.grad(loss, weights, create_graph=True)
    moments = [weight_optimizer.state[weight]["momentum_buffer"] for weight in weights]
    moved = {
        name: weight - 0.025 * (0.9 * moment + gradient + 3e-4 * weight)
        for name, weight, moment, gradient in zip(names, weights, moments, gradients, strict=True)
    }
    outer = CRITERION(torch.func.functional_call(network, moved, valid.inputs), valid.targets)
    expected = torch.autograd.grad(outer, alphas)

    rate = torch.optim.SGD(alphas, 1.0)
    before = [alpha.detach().clone() for alpha in alphas]
    second_order_step(network, CRITERION, weight_optimizer, rate, UnrollBuffers(network), train, valid)
    for old, new, gradient in zip(before, alphas, expected, strict=True):
        torch.testing.assert_close(old - new.detach(), gradient, rtol=1e-5, atol=1e-6)


def test_first_order_step_leaves_the_weights_alone():
    network = network_of()
    before = [weight.detach().clone() for weight in network.parameters()]
    first_order_step(network, CRITERION, optimizers(network)[1], random_batch(0))
    assert all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
    assert all(weight.grad is None for weight in network.parameters())


def test_weight_step_leaves_the_architecture_alone_and_clips():
    network, twin = network_of(), network_of()
    before = [alpha.detach().clone() for alpha in network.arch_parameters()]
    weight_step(network, CRITERION, torch.optim.SGD(network.parameters(), 1.0), random_batch(0), 0.5)
    assert all(torch.equal(old, new) for old, new in zip(before, network.arch_parameters(), strict=True))
    steps = [old - new for old, new in zip(twin.parameters(), network.parameters(), strict=True)]
    assert float(torch.cat([step.detach().flatten() for step in steps]).norm()) == pytest.approx(0.5, rel=1e-3)


def test_cosine_rate():
    assert cosine_rate(0, 50, 0.025, 0.001) == 0.025
    assert cosine_rate(25, 50, 0.025, 0.001) == pytest.approx(0.013)
    assert cosine_rate(50, 50, 0.025, 0.001) == pytest.approx(0.001)


def test_entropy_runs_from_decided_to_undecided():
    assert entropy(torch.full((14, 8), 1 / 8)) == pytest.approx(1)
    assert entropy(torch.eye(8)) == 0
    half = torch.tensor([[0.5, 0.5, 0, 0]])
    assert entropy(half) == pytest.approx(math.log(2) / math.log(4))


def with_skips(count, partial=False):
    """A network whose normal cell derives to ``count`` skip connections, each stronger than the one before."""
    network = network_of(partial=partial)
    skip = network.primitives.index("skip_connect")
    with torch.no_grad():
        network.alphas_normal.zero_()
        network.alphas_normal[:, network.primitives.index("sep_conv_3x3")] = 1
        for number, edge in enumerate([0, 1, 2, 3, 5, 6, 9, 10][:count]):
            network.alphas_normal[edge, skip] = 2 + number
    return network


@pytest.mark.parametrize("partial", [False, True])
def test_cap_takes_the_weakest_skip_connections_out(partial):
    network = with_skips(5, partial)
    assert count_skips(derive_capped(network, None))[0] == 5
    assert observe(network).skip_normal == 5
    capped = derive_capped(network, 2)
    assert count_skips(capped)[0] == 2
    assert [index for index, (name, _) in enumerate(capped.normal) if name == "skip_connect"] == [2, 4]
    assert count_skips(derive_capped(network, 0))[0] == 0
    assert derive_capped(network, 5) == network.genotype()


def seen(skips=0, level=1.0, ranking=(1, 2)):
    return Observation(level, skips, 0, list(ranking))


@pytest.mark.parametrize(("mode", "action"), [("log", "log"), ("cap", "cap"), ("stop", "stop")])
def test_guard_reports_skip_connections_once_per_spell(mode, action):
    guard = CollapseGuard(GuardSettings(mode, max_skips=2, stable_epochs=0))
    verdicts = [guard.judge(epoch, seen(skips)) for epoch, skips in enumerate([2, 3, 4, 1, 3])]
    assert [[verdict.action for verdict in found] for found in verdicts] == [[], [action], [], [], [action]]
    assert verdicts[1][0].reason == "3 skip connections in the normal cell, more than 2"
    assert guard.cap == (None if mode == "log" else 2)


def test_guard_can_be_off_or_wait():
    off = CollapseGuard(GuardSettings("off"))
    assert off.judge(9, seen(8)) == []
    assert off.cap is None
    late = CollapseGuard(GuardSettings("stop", first_epoch=3))
    assert [bool(late.judge(epoch, seen(8))) for epoch in range(5)] == [False, False, False, True, False]


def test_guard_watches_entropy_and_ranking_and_continues_from_its_state():
    settings = GuardSettings("stop", min_entropy=0.5, stable_epochs=2)
    guard = CollapseGuard(settings)
    assert guard.judge(0, seen(level=0.6)) == []
    assert guard.judge(1, seen(level=0.4))[0].reason.startswith("entropy 0.400")
    other = CollapseGuard(settings)
    other.load_state(guard.state())
    for one in (guard, other):
        assert [verdict.reason for verdict in one.judge(2, seen(level=0.4))] == [
            "best operation of every edge unchanged for 2 epochs"
        ]
        assert one.judge(3, seen(ranking=(2, 1))) == []


def test_entropy_in_cap_mode_is_logged_only():
    guard = CollapseGuard(GuardSettings("cap", min_entropy=0.5))
    assert guard.judge(0, seen(level=0.1))[0].action == "log"
