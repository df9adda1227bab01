"""Drawn weights in the search network of cells: one candidate per edge is computed, the same in all cells of a kind."""

import pytest
import torch

from nasfast.errors import ConfigError
from nasfast.kernels.primitives import PRIMITIVES, num_edges
from nasfast.nn.cells import Cell
from nasfast.nn.fused import FusedCell
from nasfast.strategies.gradient.relaxations import make_relaxation
from nasfast.supernets.cell_network import SearchNetwork


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def cell_of(kind, reduction=False):
    torch.manual_seed(0)
    return kind(3, 3, 8, 8, 8, reduction, False).double()


def inputs(seed=1):
    return [torch.randn(3, 8, 6, 6, generator=seeded(seed + i), dtype=torch.float64) for i in range(2)]


@pytest.mark.parametrize("reduction", [False, True])
@pytest.mark.parametrize("kind", [Cell, FusedCell])
def test_chosen_candidates_alone_are_the_cell_of_one_hot_weights(kind, reduction):
    chosen = [3, 0, 4, 5, 1, 2, 6, 7, 3]
    hot = torch.eye(len(PRIMITIVES), dtype=torch.float64)[chosen]
    results = []
    for given in (None, chosen):
        cell, weights = cell_of(kind, reduction), hot.clone().requires_grad_()
        out = cell(*inputs(), weights, *([] if given is None else [given]))
        gradients = torch.autograd.grad(out.square().sum(), [weights, *cell.parameters()], allow_unused=True)
        results.append((out, gradients))
    (dense, of_dense), (alone, of_alone) = results
    torch.testing.assert_close(alone, dense, rtol=1e-10, atol=1e-10)
    rows = torch.arange(len(chosen))
    torch.testing.assert_close(of_alone[0][rows, chosen], of_dense[0][rows, chosen], rtol=1e-9, atol=1e-9)
    assert float((of_alone[0] * (1 - hot)).abs().max()) == 0
    for one, other in zip(of_alone[1:], of_dense[1:], strict=True):
        torch.testing.assert_close(torch.zeros_like(other) if one is None else one, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("strategy", ["gdas", "snas", "drnas"])
def test_all_cells_of_a_kind_get_one_draw(strategy, monkeypatch):
    network = SearchNetwork(4, 10, 6, steps=2, multiplier=2)
    network.relaxation = make_relaxation(strategy, seeded())
    given = []
    forward = FusedCell.forward

    def noting(cell, s0, s1, weights, chosen=None):
        given.append((bool(cell.reduction), weights, chosen))
        return forward(cell, s0, s1, weights, chosen)

    monkeypatch.setattr(FusedCell, "forward", noting)
    network(torch.randn(2, 3, 8, 8, generator=seeded()))
    for kind in (False, True):
        of_kind = [(weights, chosen) for reduction, weights, chosen in given if reduction == kind]
        assert len(of_kind) == (2 if kind else 4)
        assert all(weights is of_kind[0][0] for weights, _ in of_kind)
        chosen = of_kind[0][1]
        assert (chosen is not None) == (strategy == "gdas")
        if chosen is not None:
            assert torch.equal(of_kind[0][0].detach(), torch.eye(len(PRIMITIVES))[chosen])
    weights = [weights for _, weights, _ in given]
    assert weights[0].shape == (num_edges(2), len(PRIMITIVES))
    network(torch.randn(2, 3, 8, 8, generator=seeded()))
    assert not torch.equal(given[-1][1], weights[-1])  # the next forward draws again


def test_twin_draws_as_its_network():
    network = SearchNetwork(4, 10, 2, steps=2, multiplier=2)
    network.relaxation = make_relaxation("snas", seeded())
    assert network.new().relaxation is network.relaxation


def test_partial_channels_are_not_drawn():
    network = SearchNetwork(4, 10, 2, steps=2, multiplier=2, partial=True)
    network.relaxation = make_relaxation("gdas", seeded())
    with pytest.raises(ConfigError, match="weights are drawn for whole channels"):
        network(torch.randn(2, 3, 8, 8))
