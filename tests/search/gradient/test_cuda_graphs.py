"""CUDA graphs of a search step: what can be told without a GPU, and the whole where there is one."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nasfast.errors import ConfigError, NasfastError
from nasfast.search.gradient import cuda_graphs as graphs

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
    graphs.set_rate(optimizer, 0.25)
    assert group["lr"] is rate
    assert rate.item() == 0.25


def test_a_plain_learning_rate_is_set_too() -> None:
    optimizer = OPTIMIZERS["sgd"](small().parameters())
    graphs.set_rate(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] == 0.5


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
