"""A skip that a mixed operation adds beside its mixture."""

import copy

import pytest
import torch
import torch.nn.functional as F

from nasfast.dropin import accelerate
from tests.helpers import foreign_networks as foreign
from tests.helpers.foreign_cases import NETWORKS, affine_norm, assert_same_step, images


def test_a_cell_that_halves_with_skips_beside_its_mixtures_is_fused_and_equal(graph_calls):
    network = foreign.HalvingNetwork(
        lambda c, step: foreign.BesideChoice(foreign.operations(c, step, affine_norm), c, step, affine_norm)
    ).double()
    twin = copy.deepcopy(network)
    assert accelerate(network).fused[0] == ("block", "cell of 5 mixed operations")
    for share in (0.7, 0.0, -0.2):
        for net in (network, twin):
            for choice in net.block.edges.values():
                choice.share = share
        graph_calls.clear()
        assert_same_step(network, twin, images())
        assert graph_calls == [10, 10]


CHANGES = {
    "twice": lambda x: 2 * x,
    "relu": F.relu,
    "squares": torch.square,
    "other channels": lambda x: x.roll(1, 1),
    "other pixels": lambda x: x.roll(1, 2),
    "other images": lambda x: x.flip(0),
    "means": lambda x: F.avg_pool2d(x, 3, 1, 1),
    "bias": lambda x: x + 1,
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_becomes_of_the_image_beside_a_mixture_is_seen(change, graph_calls):
    network = NETWORKS["the image beside weights of its own"]().double()
    twin = copy.deepcopy(network)
    accelerate(network)
    for net in (network, twin):
        net.block.edges[2].change = CHANGES[change]
    graph_calls.clear()
    assert_same_step(network, twin, images())
    assert (graph_calls == [12, 12]) == (change == "twice")


def test_a_skip_whose_statistics_go_another_way_stays_as_it_was():
    choice = foreign.BesideChoice(foreign.operations(4, 2, affine_norm), 4, 2, foreign.plain_norm)
    report = accelerate(foreign.OneChoiceNetwork(choice))
    reason = "its batch normalisations differ in eps, momentum or the tracking of statistics"
    assert (report.fused, report.left) == ([], [("choice", reason)])


def test_a_skip_that_shares_its_statistics_with_a_candidate_stays_as_it_was():
    ops = foreign.operations(4, 2)
    choice = foreign.BesideChoice(ops, 4, 2)
    choice.around.norm = ops[1].norm
    report = accelerate(foreign.OneChoiceNetwork(choice))
    assert (report.fused, report.left) == ([], [("choice", "two of its candidates share a module")])
