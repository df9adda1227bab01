"""accelerate: what it fuses equals what was there, what it cannot vouch for stays as it was."""

import copy
import pickle
import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune

from nasfast.compat import darts, pcdarts
from nasfast.dropin import accelerate
from nasfast.errors import ConfigError
from tests.helpers import foreign_networks as foreign
from tests.helpers.foreign_cases import (
    BESIDE,
    ENTRIES,
    NETWORKS,
    SINGLES,
    assert_same_step,
    images,
    run,
)


@pytest.mark.parametrize("kind", NETWORKS)
def test_cells_of_foreign_networks_are_fused_and_equal(kind, graph_calls):
    network = NETWORKS[kind]().double()
    twin = copy.deepcopy(network)
    report = accelerate(network)
    assert report.left == []
    expected = ["block"] if hasattr(network, "block") else ["blocks.0", "blocks.1", *ENTRIES]
    assert [name for name, _ in report.fused] == expected
    graph_calls.clear()
    assert_same_step(network, twin, images())
    edges = 6 if hasattr(network, "block") else 10
    assert sum(graph_calls) == 2 * edges * (2 if kind in BESIDE else 1)


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("kind", SINGLES)
def test_single_mixed_operations_are_fused_and_equal(kind, step, graph_calls):
    network = SINGLES[kind](step).double()
    twin = copy.deepcopy(network)
    report = accelerate(network)
    assert [name for name, _ in report.fused] == ["choice"]
    graph_calls.clear()
    assert_same_step(network, twin, images())
    assert graph_calls == ([2, 2] if "beside" in kind else [1, 1])


@pytest.mark.parametrize(
    "kind",
    ["a third of the channels", "a sixth of the channels", "two candidates", "wrappers that do nothing", *BESIDE],
)
def test_five_steps_of_a_search_are_those_of_the_plain_network(kind):
    network = NETWORKS[kind]().double()
    twin = copy.deepcopy(network)
    accelerate(network)
    optimizers = [torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-3) for net in (network, twin)]
    for seed in range(5):
        torch.manual_seed(seed)
        batch, labels = images(), torch.randint(5, (2,))
        for net, optimizer in zip((network, twin), optimizers, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(net(batch), labels).backward()
            optimizer.step()
    after, expected = network.state_dict(), twin.state_dict()
    for name in expected:
        torch.testing.assert_close(after[name], expected[name], rtol=1e-8, atol=1e-10, msg=name)


def drop_more(wrapper, convolution):
    wrapper.share = 0.5


def raise_the_rank(wrapper, convolution):
    convolution.rank = 2


@pytest.mark.parametrize("change", [drop_more, raise_the_rank])
def test_what_did_nothing_and_begins_to_do_something_is_seen(change, graph_calls):
    network = SINGLES["wrapped"](1).double()
    twin = copy.deepcopy(network)
    assert [name for name, _ in accelerate(network).fused] == ["choice"]
    for net in (network, twin):
        wrapper = net.choice.options[3][1]
        convolution = next(part for part in net.choice.options[3].modules() if isinstance(part, foreign.LowRank))
        change(wrapper, convolution)
    graph_calls.clear()
    assert_same_step(network, twin, images())
    assert graph_calls == []


class Rarely(nn.Module):
    """Drops one image in a hundred, by a generator that is not torch's."""

    def forward(self, tensor):
        return tensor * 0 if self.training and random.random() < 0.01 else tensor


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Rarely(), "Rarely is random"),
        (nn.Hardtanh(-8, 8), "Hardtanh has no fused form"),  # which no image of a probe reaches
        (nn.ConstantPad2d((0, 1, 0, 0), 0.0), "ConstantPad2d has no fused form"),
    ],
)
def test_layers_that_do_something_now_and_then_are_not_taken_for_nothing(layer, reason):
    random.seed(3)
    ops = foreign.operations(4, 1)
    ops[3] = nn.Sequential(ops[3], layer)
    report = accelerate(foreign.OneChoiceNetwork(foreign.VectorChoice(ops)))
    assert (report.fused, report.left) == ([], [("choice", f"candidate 3: {reason}")])


def test_a_convolution_that_draws_is_not_taken_for_one():
    class Noisy(nn.Conv2d):
        def forward(self, tensor):
            return super().forward(tensor) + 0 * torch.rand(())

    ops = foreign.operations(4, 1)
    ops[3][2] = Noisy(4, 4, 1, bias=False)
    report = accelerate(foreign.OneChoiceNetwork(foreign.VectorChoice(ops)))
    assert (report.fused, report.left) == ([], [("choice", "candidate 3: Noisy is random")])


def test_nothing_but_the_forward_changes():
    network = NETWORKS["weights as vectors"]()
    network.blocks[1].eval()
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    parameters = {name: (id(p), p.detach().clone(), p.grad) for name, p in network.named_parameters()}
    buffers = {name: (id(b), b.clone()) for name, b in network.named_buffers()}
    keys = list(network.state_dict())
    modes = [module.training for module in network.modules()]
    types = [type(module) for module in network.modules()]
    random = torch.get_rng_state()

    assert len(accelerate(network).fused) == 2 + len(ENTRIES)

    assert torch.equal(random, torch.get_rng_state())
    assert keys == list(network.state_dict())
    assert modes == [module.training for module in network.modules()]
    assert types == [type(module) for module in network.modules()]
    for name, parameter in network.named_parameters():
        identity, value, gradient = parameters[name]
        assert id(parameter) == identity
        assert parameter.grad is gradient
        assert torch.equal(parameter, value)
    for name, buffer in network.named_buffers():
        assert id(buffer) == buffers[name][0]
        assert torch.equal(buffer, buffers[name][1])


def replace_pool(ops):
    ops[2] = nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=True), foreign.plain_norm(4))
    return ops


class Leaky(nn.Module):
    """The leaves of a dilated convolution, with another activation in the forward."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*foreign.half_separable(4, 5, 1, 2, foreign.plain_norm)[1:])

    def forward(self, tensor):
        return self.body(F.leaky_relu(tensor, 0.01))


def replace(ops, index, op):
    ops[index] = op
    return ops


def dense():
    return nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, bias=False), foreign.plain_norm(4))


def with_hook(ops):
    ops[0].one[1].register_forward_hook(lambda *_: None)
    return ops


def mixed_norms():
    norms = iter([nn.BatchNorm2d(4, affine=False, momentum=m) for m in (0.1, 0.2, 0.1, 0.1, 0.1)])
    return lambda width: next(norms) if width == 4 else foreign.plain_norm(width)


def vector(ops):
    return foreign.VectorChoice(ops)


LEFT = {
    "a dense convolution": (lambda o: vector(replace(o, 0, dense())), "candidate 0: .*dense 3x3 convolution"),
    "an average that counts padding": (lambda o: vector(replace_pool(o)), "candidate 2: AvgPool2d.*no fused form"),
    "another activation": (lambda o: vector(replace(o, 3, Leaky())), "differs in train mode"),
    "dropout": (
        lambda o: vector(replace(o, 1, nn.Sequential(nn.Identity(), nn.Dropout(0.3)))),
        "candidate 1: Dropout is random",
    ),
    "a bias of zero": (foreign.BiasedChoice, "differs in train mode"),
    "a hook": (lambda o: vector(with_hook(o)), "candidate 0: Conv2d has hooks"),
    "two momenta": (
        lambda o: vector(foreign.operations(4, 1, mixed_norms())),
        "differ in eps, momentum or the tracking",
    ),
    "two strides": (lambda o: vector(replace(o, 5, nn.MaxPool2d(3, 2, 1))), "different strides: 1, 2"),
    "a shared candidate": (lambda o: vector([*o, o[0]]), "share a module"),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_differs_is_left_and_named(case, graph_calls):
    build, reason = LEFT[case]
    choice = build(foreign.operations(4, 1))
    network = foreign.OneChoiceNetwork(choice)
    twin = copy.deepcopy(network)
    report = accelerate(network)
    assert report.fused == []
    assert [name for name, _ in report.left] == ["choice"]
    assert_matches(reason, report.left[0][1])
    assert "forward" not in choice.__dict__
    before, after = twin.state_dict(), network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_candidates_that_stand_in_containers_of_a_cell_are_named_each():
    network = foreign.OneChoiceNetwork(foreign.BankCell(4, foreign.operations))
    report = accelerate(network)
    assert [name for name, _ in report.left] == [f"choice.edges.{edge}" for edge in range(3)]
    reasons = {reason for _, reason in report.left}
    assert reasons == {
        "its candidates stand in a ModuleList of BankCell, whose forward adds up more: a module of their own, which "
        "holds and adds them up, would be fused"
    }
    assert str(report).startswith(
        "accelerate: 0 of 3 mixed operations run fused; modules: 0 fused, 3 left as they were\n"
    )


def test_candidates_in_containers_that_could_not_be_fused_have_their_own_reason():
    def ops(width, step):
        return replace(foreign.operations(width, step), 0, dense())

    report = accelerate(foreign.OneChoiceNetwork(foreign.BankCell(4, ops)))
    assert len(report.left) == 3
    assert all("candidate 0: " in reason and "dense 3x3 convolution" in reason for _, reason in report.left)


def test_a_list_that_the_forward_does_not_use_is_not_named():
    choice = foreign.VectorChoice(foreign.operations(4, 1))
    choice.spare = nn.ModuleList(foreign.operations(4, 1))
    report = accelerate(foreign.OneChoiceNetwork(choice))
    assert ([name for name, _ in report.fused], report.left) == (["choice"], [])
    assert (report.fused_mixed, report.mixed) == (1, 1)


def test_mixed_operations_are_counted_within_cells_and_by_themselves():
    network = NETWORKS["weights as vectors"]()
    report = accelerate(network)
    assert (report.fused_mixed, report.mixed) == (10, 10)
    assert str(report).startswith(
        "accelerate: 10 of 10 mixed operations run fused; modules: 6 fused, 0 left as they were"
    )


def assert_matches(pattern, text):
    import re

    assert re.search(pattern, text), text
    assert "\n" not in text


def test_a_sampled_operation_is_left():
    network = foreign.OneChoiceNetwork(foreign.HardChoice(foreign.operations(4, 1)), given=False)
    report = accelerate(network)
    assert report.fused == []
    assert_matches("runs 1 of its 6 candidates", report.left[0][1])


def test_a_cell_that_differs_falls_back_to_its_mixed_operations(graph_calls):
    class Scaled(foreign.OneInputBlock):
        def forward(self, tensor):
            return super().forward(tensor).clamp(min=-1.0)

    network = foreign.OneInputNetwork(lambda c: foreign.OwnChoice(foreign.operations(c, 1))).double()
    network.block.__class__ = Scaled
    twin = copy.deepcopy(network)
    report = accelerate(network)
    assert [name for name, _ in report.fused] == [f"block.edges.{i}" for i in range(6)]
    assert [name for name, _ in report.left] == ["block"]
    graph_calls.clear()
    assert_same_step(network, twin, images())
    assert graph_calls == [1] * 12


def test_networks_without_mixed_operations_are_not_mentioned():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)), nn.Flatten())
    report = accelerate(network)
    assert (report.fused, report.left) == ([], [])
    assert "found no mixed operation" in str(report)


def later_hook(network):
    network.blocks[0].edges["0->2"].options[0].one[1].register_forward_hook(lambda *_: None)


def later_candidate(network):
    network.blocks[0].edges["0->2"].options[0] = nn.Identity()


def later_frozen_norm(network):
    network.blocks[0].edges["0->2"].options[0].one[3].eval()


def later_momentum(network):
    network.blocks[0].edges["0->2"].options[0].one[3].momentum = 0.5


def later_padding(network):
    network.blocks[0].edges["0->2"].options[0].two[1].padding_mode = "reflect"
    network.blocks[0].edges["0->2"].options[0].two[1]._reversed_padding_repeated_twice = (1, 1, 1, 1)


def later_parametrization(network):
    torch.manual_seed(1)
    parametrizations.spectral_norm(network.blocks[0].edges["0->2"].options[0].one[1])


def later_pruning(network):
    prune.l1_unstructured(network.blocks[0].edges["0->2"].options[0].one[1], "weight", 0.5)


def later_forward(network):
    network.blocks[0].edges["0->2"].options[0].forward = lambda tensor: 2 * tensor


def later_choice(network):
    network.blocks[0].edges["0->2"].forward = lambda tensor, strengths: 2 * tensor


def later_untracked(network):
    for norm in network.blocks[0].edges.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats = False


LATER = [
    *(later_hook, later_candidate, later_frozen_norm, later_momentum, later_padding, later_parametrization),
    *(later_pruning, later_forward, later_choice, later_untracked),
]


@pytest.mark.parametrize("change", LATER)
def test_a_module_changed_later_runs_its_own_forward(change, graph_calls):
    network = NETWORKS["weights as vectors"]().double()
    twin = copy.deepcopy(network)
    accelerate(network)
    change(network)
    change(twin)
    graph_calls.clear()
    torch.testing.assert_close(run(network, images_ := images()), run(twin, images_), rtol=1e-8, atol=1e-10)
    assert graph_calls == [5], "the block that did not change goes on fused, the other one does not"


def test_dropout_switched_on_later_runs_as_it_was_and_counts_once(graph_calls):
    # In channels_last, as fused results are: dropout fills its mask in the order of the memory.
    network = NETWORKS["weights as vectors"]().double().to(memory_format=torch.channels_last)
    twin = copy.deepcopy(network)
    accelerate(network)
    for each in (network, twin):
        each.blocks[0].drop = 0.5
    graph_calls.clear()
    assert_same_step(network, twin, images())
    assert graph_calls == [5, 5, 5], "both blocks in eval mode, one in train mode"


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_copies_are_fused_on_their_own_parameters(duplicate, graph_calls):
    network = foreign.OneInputNetwork(foreign_choice).double()
    accelerate(network)
    twin = duplicate(network)
    with torch.no_grad():
        twin.block.edges[0].ops[0].one[1].weight.mul_(3)
    graph_calls.clear()
    x = images()
    assert not torch.equal(network(x), twin(x))
    assert graph_calls == [6, 6]
    plain = foreign.OneInputNetwork(foreign_choice).double()
    plain.load_state_dict(twin.state_dict())
    torch.testing.assert_close(plain.eval()(x), twin.eval()(x))


def foreign_choice(width):
    return foreign.OwnChoice(foreign.operations(width, 1))


def test_frozen_parameters_stay_without_gradient():
    network = NETWORKS["weights as vectors"]()
    for parameter in network.blocks.parameters():
        parameter.requires_grad_(False)
    assert len(accelerate(network).fused) == 2 + len(ENTRIES)
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    assert all(parameter.grad is None for parameter in network.blocks.parameters())
    assert network.preference.grad.abs().sum() > 0


def test_accelerating_again_changes_nothing():
    network = NETWORKS["weights as vectors"]()
    accelerate(network)
    forwards = [module.__dict__.get("forward") for module in network.modules()]
    report = accelerate(network)
    assert report.fused == []
    assert all(a is b.__dict__.get("forward") for a, b in zip(forwards, network.modules(), strict=True))


def test_report_is_a_table(capsys):
    network = foreign.OneChoiceNetwork(foreign.BiasedChoice(foreign.operations(4, 1)))
    report = accelerate(network, verbose=True)
    assert capsys.readouterr().out == f"{report}\n"
    assert "0 fused, 1 left" in str(report)
    assert "choice  the " in str(report)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("model",), "must be a torch.nn.Module, got str"), ((nn.ReLU(), -1.0), "tolerance must be positive, got -1.0")],
)
def test_unusable_arguments_are_refused(arguments, message):
    model, *tolerance = arguments
    with pytest.raises(ConfigError, match=message):
        accelerate(model, **({"tolerance": tolerance[0]} if tolerance else {}))


@pytest.mark.parametrize("family", [darts, pcdarts])
def test_new_of_an_accelerated_network_is_accelerated(family, graph_calls):
    network = family.Network(8, 5, 1, None, steps=2, multiplier=1, fused=False).double()
    accelerate(network)
    twin = network.new().new()
    twin.load_state_dict(network.state_dict())
    graph_calls.clear()
    x = images()
    out = twin.eval()(x)
    calls = len(graph_calls)
    assert calls > 0
    torch.testing.assert_close(out, network.eval()(x))
    assert len(graph_calls) == 2 * calls
    assert not torch.equal(network.new()(x), out)


def test_networks_built_on_fused_cells_have_nothing_left_to_do():
    report = accelerate(darts.Network(4, 5, 1, None, steps=2, multiplier=2))
    assert (report.fused, report.left) == ([], [])


def test_a_dtype_without_kernels_is_left():
    network = foreign.OneChoiceNetwork(foreign.VectorChoice(foreign.operations(4, 1))).half()
    assert accelerate(network).left == [("choice", "there is no fused kernel for float16 on cpu")]


def test_bfloat16_is_fused():
    network = foreign.OneChoiceNetwork(foreign.VectorChoice(foreign.operations(4, 1))).bfloat16()
    assert [name for name, _ in accelerate(network).fused] == ["choice"]
