"""How each differentiable strategy draws the weights of candidates: values, gradients, schedules, state."""

import numpy as np
import pytest
import torch
from torch.distributions import Dirichlet, kl_divergence

from nasfast.errors import ConfigError
from nasfast.strategies.gradient.drnas import anchor_distance, concentrations, dirichlet_mean, dirichlet_weights
from nasfast.strategies.gradient.gdas import gdas_weights
from nasfast.strategies.gradient.relaxations import Sampled, geometric, linear, make_relaxation
from nasfast.strategies.gradient.snas import concrete_weights, gumbel_noise
from nasfast.strategies.registry import DIFFERENTIABLE
from nasfast.supernets.relaxation import Softmax

DRAWN = ("gdas", "snas", "drnas")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_alphas(rows=6, columns=5, seed=1, dtype=torch.float64):
    return torch.randn(rows, columns, generator=seeded(seed), dtype=dtype).requires_grad_()


def relaxation(strategy, seed=0):
    return make_relaxation(strategy, seeded(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("strategy", DIFFERENTIABLE)
def test_weights_are_rows_that_sum_to_one(strategy, dtype):
    alphas = random_alphas(dtype=dtype)
    for weights in (relaxation(strategy).sample(alphas), relaxation(strategy).expected(alphas)):
        assert weights.shape == alphas.shape
        assert weights.dtype == dtype
        assert float(weights.detach().min()) >= 0
        torch.testing.assert_close(weights.sum(1), torch.ones(6, dtype=dtype))
        (gradient,) = torch.autograd.grad((weights * torch.arange(5)).sum(), alphas)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("strategy", DIFFERENTIABLE)
def test_what_is_derived_from_ranks_as_the_alphas_do(strategy):
    alphas = random_alphas()
    assert torch.equal(relaxation(strategy).expected(alphas).argsort(1), alphas.argsort(1))


def test_softmax_draws_nothing():
    alphas = random_alphas()
    assert torch.equal(Softmax().sample(alphas), torch.softmax(alphas, 1))
    assert not Softmax().drawn


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_concrete_weights_have_the_gradient_of_their_formula(temperature):
    alphas, noise = random_alphas(), gumbel_noise(random_alphas(seed=2), seeded(3))
    assert torch.autograd.gradcheck(lambda a: concrete_weights(a, noise, temperature), (alphas,))


def test_concrete_weights_grow_sharper_as_the_temperature_falls():
    alphas, noise = random_alphas(), gumbel_noise(random_alphas(), seeded(3))
    largest = [float(concrete_weights(alphas, noise, t).detach().max(1).values.mean()) for t in (10.0, 1.0, 0.1)]
    assert largest[0] < largest[1] < largest[2]
    places = [concrete_weights(alphas, noise, t).argmax(1) for t in (10.0, 0.1)]
    assert torch.equal(*places)


def test_gdas_weights_are_exactly_one_hot_and_the_gradient_goes_through_the_drawn_one_alone():
    alphas, noise = random_alphas(dtype=torch.float32), gumbel_noise(torch.zeros(6, 5), seeded(3))
    weights = gdas_weights(alphas, noise, 3.0)
    soft = concrete_weights(alphas, noise, 3.0)
    chosen = soft.argmax(1)
    assert torch.equal(weights, torch.eye(5)[chosen])
    factors = torch.randn(6, 5, generator=seeded(4))
    (gradient,) = torch.autograd.grad((weights * factors).sum(), alphas)
    rows = torch.arange(6)
    (expected,) = torch.autograd.grad((soft[rows, chosen] * factors[rows, chosen]).sum(), alphas)
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("strategy", ["gdas", "snas"])
def test_largest_weights_follow_the_softmax(strategy):
    alphas = torch.tensor([[0.0, 1.0, -1.0, 0.5]], dtype=torch.float64).expand(20000, 4)
    drawn = relaxation(strategy).sample(alphas).argmax(1).bincount(minlength=4) / 20000
    torch.testing.assert_close(drawn.double(), torch.softmax(alphas[0], 0), atol=0.015, rtol=0)


def test_dirichlet_draws_have_the_moments_and_the_gradient_of_the_mean():
    """The mean of weight k is beta_k / sum(beta), and the pathwise gradient is unbiased."""
    alphas = torch.tensor([[0.5, -0.5, 1.5]], dtype=torch.float64, requires_grad=True)
    many = alphas.expand(40000, 3)
    weights = dirichlet_weights(many, seeded())
    beta = concentrations(alphas.detach())[0]
    torch.testing.assert_close(weights.detach().mean(0), beta / beta.sum(), atol=0.01, rtol=0)
    torch.testing.assert_close(weights.detach().var(0), Dirichlet(beta).variance, atol=0.005, rtol=0)
    for k in range(3):
        (drawn,) = torch.autograd.grad(weights.mean(0)[k], alphas, retain_graph=True)
        (mean,) = torch.autograd.grad(dirichlet_mean(alphas)[0, k], alphas)
        torch.testing.assert_close(drawn, mean, atol=0.01, rtol=0)


def test_dirichlet_draws_stay_finite_at_tiny_concentrations():
    alphas = torch.full((50, 5), -12.0, requires_grad=True)
    weights = dirichlet_weights(alphas, seeded())
    assert weights.isfinite().all()
    torch.testing.assert_close(weights.sum(1), torch.ones(50))


def test_anchor_is_the_divergence_from_the_flat_distribution():
    alphas = [random_alphas(4, 5), random_alphas(2, 3, seed=5)]
    expected = sum(
        kl_divergence(Dirichlet(concentrations(a)), Dirichlet(torch.ones_like(a))).sum().detach() for a in alphas
    )
    torch.testing.assert_close(anchor_distance(alphas).detach(), expected)
    assert torch.autograd.gradcheck(lambda a: anchor_distance([a]), (alphas[0],))
    flat = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    assert float(anchor_distance([flat]).detach()) == pytest.approx(0, abs=1e-12)
    (gradient,) = torch.autograd.grad(anchor_distance([flat]), flat)
    assert float(gradient.abs().max()) < 1e-12


def test_temperatures_run_from_the_first_to_the_last_epoch():
    assert [linear(epoch, 4, 10.0, 1.0) for epoch in range(4)] == [10.0, 7.0, 4.0, 1.0]
    np.testing.assert_allclose([geometric(epoch, 3, 1.0, 0.01) for epoch in range(3)], [1.0, 0.1, 0.01])
    assert linear(0, 1, 10.0, 1.0) == geometric(0, 1, 10.0, 1.0) == 10.0
    gdas, snas = Sampled("gdas", seeded()), Sampled("snas", seeded(), (2.0, None))
    for one in (gdas, snas):
        one.begin_epoch(9, 10)
    assert gdas.temperature == pytest.approx(0.1)
    assert snas.temperature == pytest.approx(0.1)
    snas.begin_epoch(0, 10)
    assert snas.temperature == 2.0


@pytest.mark.parametrize("strategy", DRAWN)
def test_draws_go_on_from_a_stored_state(strategy):
    one, other = Sampled(strategy, seeded()), Sampled(strategy, seeded(7))
    alphas = random_alphas()
    one.begin_epoch(3, 10)
    one.sample(alphas)
    other.load_state(one.state())
    assert torch.equal(one.sample(alphas), other.sample(alphas))
    assert one.temperature == other.temperature
    assert not torch.equal(one.sample(alphas), one.sample(alphas)) or strategy == "gdas"


def test_unknown_strategy():
    with pytest.raises(ConfigError, match="weights are drawn by gdas, snas and drnas, got 'proxyless'"):
        Sampled("proxyless", seeded())
