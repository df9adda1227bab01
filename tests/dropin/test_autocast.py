"""accelerate under autocast: fused where that gives the dtypes of the module's own forward, and only there."""

import copy

import pytest
import torch
import torch.nn.functional as F

from nasfast.dropin import accelerate
from tests.helpers import foreign_networks as foreign
from tests.helpers.foreign_cases import BESIDE, ENTRIES, NETWORKS, SINGLES


def under_autocast(network, x, dtype=torch.bfloat16, enabled=True):
    """A step from one seed, on a copy: what its fused part gives, what it draws next, gradients and statistics."""
    network = copy.deepcopy(network)
    torch.manual_seed(5)
    with torch.autocast("cpu", dtype=dtype, enabled=enabled):
        first = network.start(x)
        shares = torch.softmax(network.preference, -1) if hasattr(network, "preference") else None
        if isinstance(network, foreign.ForeignNetwork):
            out = network.blocks[0](first, first, [list(row) for row in shares] if network.as_list else shares)
        elif isinstance(network, foreign.OneInputNetwork):
            out = network.block(first)
        else:
            out = network.choice(first, shares) if network.given else network.choice(first)
    out.float().square().sum().backward()
    return [out, torch.rand(1)], [p.grad for p in network.parameters()], list(network.buffers())


def same_kind(one, other):
    """Whether there are the same tensors, in the same dtypes."""
    kinds = [[None if t is None else t.dtype for group in results for t in group] for results in (one, other)]
    return kinds[0] == kinds[1]


def assert_autocast_is_fused(twin, graph_calls, edges):
    network = copy.deepcopy(twin)
    accelerate(network)
    x = torch.randn(8, 3, 8, 8)
    for training in (True, False):
        for net in (network, twin):
            net.train(training)
        exact, theirs = under_autocast(twin, x, enabled=False), under_autocast(twin, x)
        graph_calls.clear()
        ours = under_autocast(network, x)
        assert sum(graph_calls) == edges
        assert same_kind(ours, theirs)
        assert torch.equal(ours[0][1], theirs[0][1])
        preferences = [[grads[0]] for _, grads, _ in (ours, theirs, exact)]
        for groups in (*zip(ours, theirs, exact, strict=True), preferences):
            none = torch.zeros(0, dtype=torch.float64)
            a, b, c = (torch.cat([none, *(t.double().flatten() for t in group if t is not None)]) for group in groups)
            assert (a - c).norm() <= 2 * (b - c).norm() + 0.02 * c.norm()


@pytest.mark.parametrize("name", NETWORKS)
def test_cells_under_autocast_are_fused_and_as_near_to_float32_as_the_twin_s(name, graph_calls):
    torch.manual_seed(0)
    twin = NETWORKS[name]()
    edges = 5 if hasattr(twin, "blocks") else 6
    assert_autocast_is_fused(twin, graph_calls, edges * (2 if name in BESIDE else 1))


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("name", SINGLES)
def test_mixed_operations_under_autocast_are_fused_and_as_near_to_float32(name, step, graph_calls):
    torch.manual_seed(0)
    assert_autocast_is_fused(SINGLES[name](step), graph_calls, 2 if "beside" in name else 1)


class WideWeights(foreign.VectorChoice):
    """Weights with the dimensions of an image, which make float32 of bfloat16."""

    def forward(self, x, weights):
        return sum(w.view(1, 1, 1, 1) * option(x) for w, option in zip(weights, self.options, strict=True))


class WideNoise(foreign.NoisyChoice):
    def forward(self, tensor):
        shares = F.gumbel_softmax(self.logits, tau=self.temperature)
        return sum(share.view(1, 1, 1, 1) * op(tensor) for share, op in zip(shares, self.ops, strict=True))


class FloatNothing(foreign.Nothing):
    """Zeros of a dtype of their own."""

    def forward(self, tensor):
        return torch.zeros(tensor.shape, dtype=torch.float64 if tensor.dtype == torch.float64 else torch.float32)


class WideScale(foreign.TwoInputBlock):
    """A cell that gives float32 of whatever it adds up."""

    def forward(self, a, b, strengths):
        return super().forward(a, b, strengths) * torch.ones(1, 1, 1, 1, dtype=strengths.dtype)


class SameEntry(foreign.Entry):
    """Pre-processing that keeps the dtype of the image."""

    def forward(self, tensor):
        return super().forward(tensor).to(tensor.dtype)


def float_zeros():
    ops = foreign.operations(4, 1)
    ops[4] = FloatNothing()
    return foreign.OneChoiceNetwork(foreign.VectorChoice(ops))


OTHER_DTYPES = {
    "wide weights": lambda: foreign.OneChoiceNetwork(WideWeights(foreign.operations(4, 1))),
    "wide noise": lambda: foreign.OneChoiceNetwork(WideNoise(foreign.operations(4, 1)), given=False),
    "float zeros": float_zeros,
}


@pytest.mark.parametrize("case", OTHER_DTYPES)
def test_what_autocast_makes_float32_of_stays_float32(case, graph_calls):
    twin = OTHER_DTYPES[case]()
    network = copy.deepcopy(twin)
    assert [name for name, _ in accelerate(network).fused] == ["choice"]
    x = torch.randn(2, 3, 8, 8)
    graph_calls.clear()
    ours, theirs = under_autocast(network, x), under_autocast(twin, x)
    assert graph_calls == []
    assert ours[0][0].dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(ours[0] + ours[2], theirs[0] + theirs[2], strict=True))
    under_autocast(network, x, enabled=False)
    assert graph_calls == [1]


def test_a_cell_that_autocast_makes_float32_of_stays_float32(graph_calls, monkeypatch):
    monkeypatch.setattr(foreign, "TwoInputBlock", WideScale)
    twin = NETWORKS["weights as vectors"]()
    network = copy.deepcopy(twin)
    accelerate(network)
    x = torch.randn(2, 3, 8, 8)
    graph_calls.clear()
    assert same_kind(under_autocast(network, x), under_autocast(twin, x))
    assert graph_calls == []
    network(x)
    assert graph_calls == [5, 5]


def test_pre_processing_that_keeps_a_dtype_keeps_it_under_autocast(graph_calls, monkeypatch):
    monkeypatch.setattr(foreign, "Entry", SameEntry)
    twin = NETWORKS["weights as vectors"]()
    network = copy.deepcopy(twin)
    assert set(ENTRIES) <= {name for name, _ in accelerate(network).fused}
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(2, 4, 8, 8, dtype=dtype)
        with torch.autocast("cpu", torch.bfloat16):
            ours, theirs = network.blocks[0].adapt_a(x), twin.blocks[0].adapt_a(x)
        assert ours.dtype == theirs.dtype == dtype
        assert (ours - theirs).float().norm() <= 0.05 * theirs.float().norm()


def test_weights_in_another_form_than_was_tried_run_as_they_did_under_autocast(graph_calls):
    twin = NETWORKS["weights as lists"]()
    network = copy.deepcopy(twin)
    accelerate(network)
    graph_calls.clear()
    first = torch.randn(2, 4, 8, 8, dtype=torch.bfloat16)
    for shape, edges in ((), 5), ((1,), 0), ((), 5):
        rows = [[torch.rand(shape) for _ in range(6)] for _ in range(5)]
        graph_calls.clear()
        with torch.autocast("cpu", torch.bfloat16):
            ours, theirs = (net.blocks[0](first, first, rows) for net in (network, twin))
        assert sum(graph_calls) == edges
        assert ours.dtype == theirs.dtype


def test_a_forward_that_reads_something_else_later_runs_as_it_was_under_autocast(graph_calls):
    network = SINGLES["inside"](1)
    accelerate(network)
    network.choice.temperature = 3.0
    graph_calls.clear()
    under_autocast(network, torch.randn(2, 3, 8, 8))
    assert graph_calls == []


@pytest.mark.parametrize("case", ["float16", "float64"])
def test_what_no_kernel_takes_under_autocast_runs_as_it_was(case, graph_calls):
    network = NETWORKS["weights as vectors"]()
    x = torch.randn(2, 3, 8, 8)
    if case == "float64":
        network, x = network.double(), x.double()
    twin = copy.deepcopy(network)
    accelerate(network)
    dtype = torch.float16 if case == "float16" else torch.bfloat16
    graph_calls.clear()
    ours, theirs = under_autocast(network, x, dtype), under_autocast(twin, x, dtype)
    assert graph_calls == []
    assert same_kind(ours, theirs)
    assert torch.equal(ours[0][0], theirs[0][0])
