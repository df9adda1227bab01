"""Accuracy of children with shared weights: batched, one after the other, with and without recalibration."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from nasfast.errors import ShapeError, SpaceError
from nasfast.estimators.oneshot import OneShotEstimator
from nasfast.spaces.registry import make_space
from nasfast.supernets.shared import SharedNetwork
from nasfast.supernets.uses import uses_of
from tests.helpers.child_eval_cases import SmallChain, sequential, shared_network, small_nasbench201

LABELS = torch.randint(7, (300,), generator=torch.Generator().manual_seed(3))


def images(count, seed=1):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def population(space, count=6):
    return space.sample(np.random.default_rng(0), count)


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("make", [SmallChain, small_nasbench201])
def test_scores_are_those_of_the_loop(make, batched, calibrated):
    network = shared_network(make())
    rows, x, calibration = population(network.space), images(300), images(40, 2) if calibrated else None
    estimator = OneShotEstimator(network, x, LABELS, recalibrate=calibration, batched=batched)
    before = copy.deepcopy(network.state_dict())
    scores = [estimate.score for estimate in estimator.estimate(rows)]
    logits = sequential(network, rows, x, calibration)
    expected = (logits.argmax(-1) == LABELS).double().mean(1)
    assert scores == pytest.approx(expected.tolist(), abs=1e-11)
    assert len(set(scores)) > 1
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert ("batched" in estimator.way) == batched


def test_recalibration_matters():
    network = shared_network(SmallChain())
    rows, x = population(network.space), images(300)
    shared, own = (OneShotEstimator(network, x, LABELS, part).estimate(rows) for part in (None, images(40, 2)))
    assert shared != own


@pytest.mark.parametrize("batched", [False, True])
def test_score_does_not_depend_on_the_others_and_follows_the_weights(batched):
    network = shared_network(small_nasbench201())
    rows, x = population(network.space), images(300)
    estimator = OneShotEstimator(network, x, LABELS, images(40, 2), batched=batched)
    together = estimator.estimate(rows)
    assert [estimator.estimate(row[None])[0] for row in rows] == together
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(torch.rand(parameter.shape, generator=torch.Generator().manual_seed(5)))
    assert estimator.estimate(rows) != together


def test_mode_and_momentum_of_the_network_are_kept():
    network = shared_network(small_nasbench201()).train()
    OneShotEstimator(network, images(300), LABELS, images(40, 2), batched=False).estimate(population(network.space))
    assert network.training
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.training and norm.momentum == 0.1 for norm in norms)


def test_says_why_children_are_not_batched():
    x, labels = images(8), LABELS[:8]
    torch.manual_seed(0)
    cells = SharedNetwork(make_space("nasnet", {"layers": 1, "channels": 2, "steps": 2}), 7)
    assert "conv_7x1_1x7: batched child evaluation has no kernel for Conv2d" in OneShotEstimator(cells, x, labels).way
    network = shared_network(SmallChain())
    assert OneShotEstimator(network, x, labels, batched=False).way == "one child after the other: asked for"
    double = OneShotEstimator(network.double(), x.double(), labels)
    assert double.way == "one child after the other: the network is float64 on cpu"
    assert len(double.estimate(population(network.space))) == 6


def test_bad_input_is_named():
    network = shared_network(SmallChain())
    with pytest.raises(ShapeError, match=r"labels \[N\] with N at least 1, got \[3, 3, 8, 8\] and \[4\]"):
        OneShotEstimator(network, images(3), LABELS[:4])
    with pytest.raises(ShapeError, match="M at least 2, got"):
        OneShotEstimator(network, images(4), LABELS[:4], images(1))
    estimator = OneShotEstimator(network, images(4), LABELS[:4])
    with pytest.raises(SpaceError, match="layer0 must be 0 to 3, got 9"):
        estimator.estimate(np.array([[9, 0, 0, 0]]))


@pytest.mark.parametrize("make", [SmallChain, small_nasbench201])
def test_uses_are_the_weights_that_get_a_gradient(make):
    network = shared_network(make()).train()
    x, labels = images(8), LABELS[:8]
    for row in population(network.space, 12):
        network.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(network(x, row), labels).backward()
        touched = {
            key for key, op in network.ops.items() if any(parameter.grad is not None for parameter in op.parameters())
        }
        uses = uses_of(network, row[None])
        assert {key for key in uses.learning if any(True for _ in network.ops[key].parameters())} == touched
        assert uses.learning <= set(uses.computed)


def test_uncertainty_and_cost_of_a_child():
    network = shared_network(SmallChain())
    rows = population(network.space, 3)
    found = OneShotEstimator(network, images(300), LABELS, images(40, 2)).estimate(rows)
    for row, estimate in zip(rows, found, strict=True):
        share = estimate.score
        assert estimate.uncertainty == pytest.approx(np.sqrt(share * (1 - share) / 300))
        assert estimate.cost == 340 * network.space.cost(row, 7, 3, 8).flops
