"""accelerate: what was found out about a forward is used for as long as the forward reads and draws the same."""

import argparse
import copy
import pickle
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import nasfast
from nasfast.dropin import accelerate, restore
from nasfast.dropin.forward import installed
from nasfast.dropin.reads import Reads
from tests.helpers import foreign_networks as foreign
from tests.helpers.foreign_cases import assert_same_results

SETTINGS = argparse.Namespace(sharpness=1.0)
SHARPNESS = 1.0


def choice_of(kind):
    return lambda width: kind(foreign.operations(width, 1))


def network_of(kind, width=4):
    torch.manual_seed(0)
    return foreign.ForeignNetwork(choice_of(kind), width).double().to(memory_format=torch.channels_last)


def pair(network):
    """An accelerated network, and its plain twin."""
    twin = copy.deepcopy(network)
    report = accelerate(network)
    assert not report.left
    assert report.fused
    return network, twin


def step(network, images):
    """Output, gradients and buffers of one call from a seed."""
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    images = images.clone().requires_grad_()
    out = network(images)
    wanted = [images, *network.parameters()]
    gradients = torch.autograd.grad(out.square().sum(), wanted, allow_unused=True)
    return [out, *gradients, *(buffer.clone() for buffer in network.buffers())]


def assert_same_steps(network, twin, steps=3, batch=3):
    generator = torch.Generator().manual_seed(5)
    for training in (True, True, False)[:steps]:
        images = torch.randn(batch, 3, 8, 8, dtype=torch.float64, generator=generator)
        network.train(training)
        twin.train(training)
        assert_same_results(step(network, images), step(twin, images))


# what a forward reads


class Sharpened(foreign.VectorChoice):
    """Weights over a temperature that is an attribute."""

    def __init__(self, ops):
        super().__init__(ops)
        self.tau = 1.0

    def forward(self, tensor, strengths):
        return super().forward(tensor, strengths / self.tau)


class SharpenedByClass(foreign.VectorChoice):
    tau = 1.0

    def forward(self, tensor, strengths):
        return super().forward(tensor, strengths / self.tau)


class SharpenedByTensor(Sharpened):
    def __init__(self, ops):
        super().__init__(ops)
        self.tau = torch.ones((), dtype=torch.float64)


class SharpenedByGlobal(foreign.VectorChoice):
    def forward(self, tensor, strengths):
        return super().forward(tensor, strengths / SHARPNESS)


class SharpenedByOptions(foreign.VectorChoice):
    def forward(self, tensor, strengths):
        return super().forward(tensor, strengths / SETTINGS.sharpness)


class SharpenedByMethod(foreign.VectorChoice):
    def sharp(self, strengths):
        return strengths

    def forward(self, tensor, strengths):
        return super().forward(tensor, self.sharp(strengths))


class Masked(foreign.VectorChoice):
    """Only the active candidates, where anybody has said which those are."""

    def forward(self, tensor, strengths):
        active = getattr(self, "active", range(len(self.options)))
        return sum(strengths[k] * self.options[k](tensor) for k in active)


class WeightDropout(foreign.VectorChoice):
    def __init__(self, ops):
        super().__init__(ops)
        self.rate = 0.0

    def forward(self, tensor, strengths):
        if self.rate and self.training:
            strengths = F.dropout(strengths, self.rate)
        return super().forward(tensor, strengths)


def each_choice(network, change):
    for module in network.modules():
        if isinstance(module, foreign.VectorChoice):
            change(module)


def set_tau(network):
    each_choice(network, lambda module: setattr(module, "tau", 0.5))


def fill_tau(network):
    each_choice(network, lambda module: module.tau.fill_(0.5))


def set_active(network):
    each_choice(network, lambda module: setattr(module, "active", [0, 2, 3]))


def set_rate(network):
    each_choice(network, lambda module: setattr(module, "rate", 0.5))


CHANGES = {
    "an attribute": (Sharpened, set_tau),
    "an attribute that hides one of the class": (SharpenedByClass, set_tau),
    "a tensor, filled": (SharpenedByTensor, fill_tau),
    "a tensor, another": (SharpenedByTensor, set_tau),
    "fewer candidates": (Masked, set_active),
    "dropout of weights": (WeightDropout, set_rate),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_the_forward_of_a_mixed_operation_reads_may_change(kind):
    build, change = CHANGES[kind]
    network, twin = pair(network_of(build))
    assert_same_steps(network, twin)
    change(network)
    change(twin)
    assert_same_steps(network, twin)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
@pytest.mark.parametrize("before", [True, False])
def test_so_it_may_in_a_copy(duplicate, before):
    network, twin = pair(network_of(Sharpened))
    if before:
        set_tau(network)
    network = duplicate(network)
    set_tau(network)
    set_tau(twin)
    assert_same_steps(network, twin)


def test_globals_options_and_methods_may_change(monkeypatch):
    for build in (SharpenedByGlobal, SharpenedByOptions, SharpenedByMethod):
        network, twin = pair(network_of(build))
        assert_same_steps(network, twin)
        with monkeypatch.context() as patch:
            patch.setitem(globals(), "SHARPNESS", 0.5)
            patch.setattr(SETTINGS, "sharpness", 0.5)
            patch.setattr(SharpenedByMethod, "sharp", lambda self, strengths: strengths * 2)
            assert_same_steps(network, twin)
        assert_same_steps(network, twin)


class ScaledEntry(foreign.Entry):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.scale = 1

    def forward(self, tensor):
        return self.body(tensor) * self.scale


def test_what_pre_processing_reads_may_change(monkeypatch):
    monkeypatch.setattr(foreign, "Entry", ScaledEntry)
    network, twin = pair(network_of(foreign.VectorChoice))
    assert installed(network.blocks[0].adapt_a) is not None
    for each in (network, twin):
        each.blocks[0].adapt_a.scale = 3
    assert_same_steps(network, twin)


class ScaledOperation(nn.Sequential):
    factor = 1.0

    def forward(self, tensor):
        return super().forward(tensor) * self.factor


def test_what_a_candidate_reads_may_change(monkeypatch):
    def choice(width):
        first, *rest = foreign.operations(width, 1)
        return foreign.VectorChoice([ScaledOperation(first), *rest])

    torch.manual_seed(0)
    network, twin = pair(foreign.ForeignNetwork(choice).double())
    assert_same_steps(network, twin)
    monkeypatch.setattr(ScaledOperation, "factor", 2.0)
    assert_same_steps(network, twin)


def test_reading_follows_code_and_ignores_what_is_torch_s():
    module = network_of(Sharpened).blocks[0].edges["0->2"]
    reads = Reads(module)
    assert reads.readable
    assert not reads.branches
    assert reads.same()
    module.unread = 3
    module.eval()
    assert reads.same()
    module.tau = 2.0
    assert not reads.same()
    module.tau = 1.0
    assert reads.same()
    assert Reads(network_of(WeightDropout).blocks[0].edges["0->2"]).branches


# what it passes over


class Skipping(foreign.VectorChoice):
    """A candidate of weight 0 is not run."""

    def forward(self, tensor, strengths):
        pairs = zip(strengths, self.options, strict=True)
        return sum(strength * option(tensor) for strength, option in pairs if strength != 0)


@pytest.mark.parametrize("kind", [Skipping, foreign.VectorChoice])
def test_a_weight_of_zero_is_as_in_the_module(kind):
    torch.manual_seed(0)
    network = foreign.OneChoiceNetwork(kind(foreign.operations(4, 1))).double()
    network, twin = pair(network)
    for each in (network, twin):
        with torch.no_grad():
            each.preference[1:] = 0
    assert_same_steps(network, twin)
    gradients = step(network, torch.randn(3, 3, 8, 8, dtype=torch.float64))
    assert any(gradient is None for gradient in gradients) == (kind is Skipping)


# what it draws


def drop_path(tensor, rate, draw):
    keep = 1 - rate
    return tensor / keep * draw((tensor.shape[0], 1, 1, 1), keep).to(tensor)


DRAWS = {
    "torch": lambda shape, keep: torch.empty(shape).bernoulli_(keep),
    "torch, uniform": lambda shape, keep: torch.rand(shape) < keep,
    "numpy": lambda shape, keep: torch.from_numpy(np.random.rand(*shape) < keep),
    "python": lambda shape, keep: torch.tensor([random.random() < keep for _ in range(shape[0])]).view(shape),
}


class DroppingBlock(foreign.TwoInputBlock):
    rate = 0.0
    draw = staticmethod(DRAWS["torch"])

    def forward(self, a, b, strengths):
        states, used = [self.adapt_a(a), self.adapt_b(b)], 0
        for node in range(self.nodes):
            total = 0
            for source, state in enumerate(states):
                part = self.edges[f"{source}->{2 + node}"](state, strengths[used])
                if self.training and self.rate > 0:
                    part = drop_path(part, self.rate, self.draw)
                total, used = total + part, used + 1
            states.append(total)
        return torch.cat(states[-self.keep :], 1)


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.5])
@pytest.mark.parametrize("draw", DRAWS)
def test_drop_path_drops_every_image_on_its_own(monkeypatch, draw, rate):
    monkeypatch.setattr(foreign, "TwoInputBlock", DroppingBlock)
    monkeypatch.setattr(DroppingBlock, "draw", staticmethod(DRAWS[draw]))
    network, twin = pair(network_of(foreign.VectorChoice))
    for each in (network, twin):
        for block in each.blocks:
            block.rate = rate
    assert_same_steps(network, twin, batch=12)


def test_a_generator_of_the_network_s_own_is_seen(monkeypatch):
    monkeypatch.setattr(foreign, "TwoInputBlock", DroppingBlock)
    network, twin = pair(network_of(foreign.VectorChoice))
    for each in (network, twin):
        generator = torch.Generator().manual_seed(1)
        for block in each.blocks:
            block.rate, block.generator = 0.001, generator
            block.draw = lambda shape, keep, g=generator: torch.empty(shape).bernoulli_(keep, generator=g)
    assert_same_steps(network, twin, batch=12)


class DroppedChoice(foreign.VectorChoice):
    """Drops the results of its candidates."""

    rate = 0.0

    def forward(self, tensor, strengths):
        parts = [option(tensor) for option in self.options]
        if self.training and self.rate:
            parts = [drop_path(part, self.rate, DRAWS["torch"]) for part in parts]
        return sum(strength * part for strength, part in zip(strengths, parts, strict=True))


@pytest.mark.parametrize("rate", [0.001, 0.5])
def test_what_a_mixed_operation_drops_is_dropped(monkeypatch, rate):
    network, twin = pair(network_of(DroppedChoice))
    monkeypatch.setattr(DroppedChoice, "rate", rate)
    assert_same_steps(network, twin, batch=12)


class NoisyBlock(foreign.OneInputBlock):
    """Draws the weights of its edges in the cell."""

    def forward(self, tensor):
        states, used = [tensor], 0
        for node in range(self.nodes):
            noise = torch.rand(len(states), dtype=tensor.dtype)
            parts = [self.edges[used + source](state) for source, state in enumerate(states)]
            states.append(sum(n * part for n, part in zip(noise, parts, strict=True)))
            used += node + 1
        return states[-1]


def test_weights_that_are_drawn_stay_fused(monkeypatch):
    monkeypatch.setattr(foreign, "OneInputBlock", NoisyBlock)
    torch.manual_seed(0)
    network, twin = pair(foreign.OneInputNetwork(lambda c: foreign.NoisyChoice(foreign.operations(c, 1))).double())
    fused = installed(network.block)
    calls = []
    monkeypatch.setattr(type(fused), "original", lambda *_: calls.append(1))
    assert_same_steps(network, twin)
    assert not calls


class StrictBlock(NoisyBlock):
    """Takes no two images; draws its weights once it is noisy."""

    noisy = False

    def forward(self, tensor):
        out = super().forward(tensor) if self.noisy else foreign_block_forward(self, tensor)
        if out.shape[0] == 2:
            raise ValueError("expected other than two images")
        return out


foreign_block_forward = foreign.OneInputBlock.forward


def test_a_forward_that_a_trace_cannot_run_twice_runs_as_it_was(monkeypatch):
    monkeypatch.setattr(foreign, "OneInputBlock", StrictBlock)
    monkeypatch.setattr("nasfast.dropin.arguments.BATCH", 3)
    torch.manual_seed(0)
    network = foreign.OneInputNetwork(lambda c: foreign.OwnChoice(foreign.operations(c, 1))).double()
    twin = copy.deepcopy(network)
    accelerate(network)
    assert installed(network.block) is not None
    monkeypatch.setattr(StrictBlock, "noisy", True)
    assert_same_steps(network, twin)


@pytest.mark.parametrize("draw", DRAWS)
def test_accelerating_draws_nothing(monkeypatch, draw):
    monkeypatch.setattr(foreign, "TwoInputBlock", DroppingBlock)
    monkeypatch.setattr(DroppingBlock, "draw", staticmethod(DRAWS[draw]))
    monkeypatch.setattr(DroppingBlock, "rate", 0.5)
    network = network_of(foreign.VectorChoice)
    random.seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1:3]
    accelerate(network)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2][0])
    assert np.random.get_state()[2] == before[2][1]


# what is done with it


@pytest.mark.parametrize("reentrant", [True, False])
def test_statistics_under_checkpointing_are_those_of_the_cell(reentrant):
    network, twin = pair(network_of(foreign.VectorChoice))
    images = torch.randn(3, 4, 8, 8, dtype=torch.float64)
    weights = torch.softmax(torch.randn(5, 6, dtype=torch.float64), 1)
    for each in (network, twin):
        x = images.clone().requires_grad_()
        first = checkpoint(each.blocks[0], x, x, weights, use_reentrant=reentrant)
        second = checkpoint(each.blocks[0], x, x, weights, use_reentrant=reentrant)
        (first + second).square().sum().backward()
        each.gradient = x.grad
    torch.testing.assert_close(network.gradient, twin.gradient, rtol=1e-8, atol=1e-10)
    for a, b in zip(network.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_restore_gives_the_second_derivative_back():
    network, twin = pair(network_of(foreign.VectorChoice))
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)

    def hessian_column(each):
        (gradient,) = torch.autograd.grad(each(images).square().sum(), each.preference, create_graph=True)
        return torch.autograd.grad(gradient[0, 0], each.preference)[0]

    with pytest.raises(RuntimeError, match=r"cannot be differentiated twice .*nasfast\.restore\(model\)"):
        hessian_column(network)
    assert restore(network) == 6
    assert restore(network) == 0
    torch.testing.assert_close(hessian_column(network), hessian_column(twin), rtol=1e-8, atol=1e-10)
    with pytest.raises(nasfast.NasfastError, match=r"restore: model must be a torch.nn.Module, got int"):
        restore(3)


def test_a_network_that_was_changed_is_fused_again():
    network, twin = pair(network_of(foreign.VectorChoice))
    for each in (network, twin):
        torch.manual_seed(7)
        for edge in each.blocks[0].edges.values():
            edge.options = nn.ModuleList(foreign.operations(4, 1)[:4]).double()
        each.preference = nn.Parameter(torch.randn(5, 4, dtype=torch.float64))
        for edge in each.blocks[1].edges.values():
            edge.options = edge.options[:4]
    assert_same_steps(network, twin)
    report = accelerate(network)
    assert [name for name, _ in report.fused] == ["blocks.0", "blocks.1"]
    assert report.left == []
    assert_same_steps(network, twin)
