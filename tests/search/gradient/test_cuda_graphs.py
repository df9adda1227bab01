"""CUDA graphs of a search step: what can be told without a GPU, and the whole where there is one."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nasfast.config.gradient import SearchConfig
from nasfast.errors import ConfigError, NasfastError
from nasfast.search.gradient import cuda_graphs as graphs
from nasfast.strategies.gradient.bilevel import BilevelSearch
from nasfast.strategies.gradient.steps import Batch
from nasfast.training.optim import set_rate

NO_GPU = not torch.cuda.is_available()


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3))


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.5, 0.999), weight_decay=1e-3),
}


def train(module: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, steps: int) -> None:
    for _ in range(steps):
        F.mse_loss(module(x), x[:, :3]).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("before", [0, 2], ids=["fresh", "after steps"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_trial_runs_leave_no_trace(name: str, before: int) -> None:
    x = torch.randn(6, 5)
    results = []
    for trial in (False, True):
        module = small()
        optimizer = OPTIMIZERS[name](module.parameters())
        train(module, optimizer, x, before)
        if trial:
            snapshot = graphs.Snapshot([*module.parameters(), *module.buffers()], [optimizer])
            kept = copy.deepcopy(module.state_dict())
            train(module, optimizer, x, 3)
            assert not torch.equal(module.state_dict()["0.weight"], kept["0.weight"])
            snapshot.restore()
            assert all(torch.equal(v, kept[k]) for k, v in module.state_dict().items())
        train(module, optimizer, x, 3)
        results.append(module.state_dict())
    assert all(torch.equal(v, results[1][k]) for k, v in results[0].items())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learning_rates_become_tensors_that_change_in_place(name: str) -> None:
    optimizer = OPTIMIZERS[name](small().parameters())
    graphs.make_capturable(optimizer, torch.device("cpu"))
    (group,) = optimizer.param_groups
    rate = group["lr"]
    assert isinstance(rate, torch.Tensor)
    assert group.get("capturable") or group.get("fused")
    recorded = graphs.RecordedRates([optimizer])
    set_rate(optimizer, 0.25)
    assert group["lr"] is rate
    assert rate.item() == 0.25
    recorded.check()


def test_a_plain_learning_rate_is_set_too() -> None:
    optimizer = OPTIMIZERS["sgd"](small().parameters())
    set_rate(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] == 0.5


def search(strategy: str = "darts") -> BilevelSearch:
    return BilevelSearch(SearchConfig(strategy=strategy, channels=4, layers=3, steps=2, epochs=3, fused=False), 3, 3)


def test_an_epoch_of_a_search_changes_a_recorded_rate_in_place() -> None:
    bilevel = search()
    graphs.make_capturable(bilevel.weight_optimizer, torch.device("cpu"))
    recorded = graphs.RecordedRates([bilevel.weight_optimizer])
    rate = bilevel.weight_optimizer.param_groups[0]["lr"]
    for epoch in range(2):
        expected = bilevel.begin_epoch(epoch)
        assert rate.item() == pytest.approx(expected)
        recorded.check()
    assert rate.item() < bilevel.config.lr


def test_a_replaced_rate_is_noticed() -> None:
    optimizer = OPTIMIZERS["sgd"](small().parameters())
    graphs.make_capturable(optimizer, torch.device("cpu"))
    recorded = graphs.RecordedRates([optimizer])
    optimizer.load_state_dict(optimizer.state_dict())
    with pytest.raises(NasfastError, match="a learning rate was replaced since it was recorded"):
        recorded.check()


@pytest.mark.parametrize("strategy", ["gdas", "snas", "drnas"])
def test_drawn_weights_are_refused(strategy: str) -> None:
    bilevel = search(strategy)
    batch = Batch(torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.long))
    optimizers = bilevel.weight_optimizer, bilevel.arch_optimizer
    with pytest.raises(ConfigError, match="draws its weights, as gdas, snas and drnas do, cannot be recorded"):
        graphs.capture_search_step(bilevel.network, bilevel.criterion, *optimizers, batch, batch, 5.0)


def test_an_autocast_that_keeps_casts_is_refused() -> None:
    graphs.refuse_kept_casts("cpu")
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        graphs.refuse_kept_casts("cpu")
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ConfigError, match="cache_enabled=False"):
        graphs.refuse_kept_casts("cpu")


def test_no_cast_of_a_warm_up_reaches_a_recording() -> None:
    """An autocast within another leaves its casts behind, until the outer one ends."""
    module, x = nn.Linear(4, 3), torch.ones(2, 4)

    def step() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return module(x)

    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        before = step()
        with torch.no_grad():
            module.weight.add_(1.0)
        with graphs.fresh_casts():
            recorded = step()
        with torch.no_grad():
            module.weight.add_(1.0)
        after = step()
    assert not torch.equal(before, recorded)
    assert not torch.equal(recorded, after)


def test_optimizers_that_cannot_be_recorded_are_refused() -> None:
    with pytest.raises(ConfigError, match="no dampening"):
        graphs.make_capturable(
            torch.optim.SGD(small().parameters(), lr=0.1, momentum=0.9, dampening=0.1), torch.device("cpu")
        )
    with pytest.raises(ConfigError, match="LBFGS must take 'capturable' or 'fused'"):
        graphs.make_capturable(torch.optim.LBFGS(small().parameters()), torch.device("cpu"))


@pytest.mark.without_gpu
def test_without_a_gpu_the_error_says_so() -> None:
    with pytest.raises(NasfastError, match="needs a CUDA device, and torch sees none"):
        graphs.capture(lambda x: x + 1, [torch.zeros(2)], [], [])


@pytest.mark.skipif(NO_GPU, reason="needs a GPU")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_recorded_step_trains_as_the_step_itself(name: str) -> None:
    batches = [torch.randn(6, 5, device="cuda") for _ in range(4)]
    plain, recorded = small().cuda(), small().cuda()
    optimizers = [OPTIMIZERS[name](m.parameters()) for m in (plain, recorded)]
    graphs.make_capturable(optimizers[0], torch.device("cuda"))

    def step(x: torch.Tensor, module: nn.Module = recorded, optimizer: torch.optim.Optimizer = optimizers[1]):  # type: ignore[no-untyped-def]
        optimizer.zero_grad(set_to_none=True)
        loss = F.mse_loss(module(x), x[:, :3])
        loss.backward()
        optimizer.step()
        return loss.detach()

    captured = graphs.capture(step, [batches[0]], [recorded], [optimizers[1]])
    with pytest.raises(NasfastError, match="input 0 must be"):
        captured(batches[0][:3])
    for x in batches:
        torch.testing.assert_close(captured(x), step(x, plain, optimizers[0]))
    for a, b in zip(plain.state_dict().values(), recorded.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.without_gpu
def test_inputs_on_the_cpu_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(NasfastError, match="inputs must be on a CUDA device, got input 0 on cpu"):
        graphs.capture(lambda x: x + 1, [torch.zeros(2)], [], [])
