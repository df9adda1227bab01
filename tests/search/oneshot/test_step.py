"""The training step along sampled paths: its gradients, what it moves and what it leaves alone."""

import json

import pytest
import torch

from nasfast.errors import ConfigError
from nasfast.search.oneshot.step import accumulate_paths
from nasfast.search.oneshot.training import SupernetError
from tests.helpers.oneshot_runs import training_of


def bits(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def test_gradients_of_a_step_are_the_sum_over_its_paths():
    training = training_of("fairnas")
    network = training.network.double().eval()  # statistics of the batch would move between the paths
    images, labels = training.images(training.train_indices[:16])
    images, rows = images.double(), training.sampler.sample(5)
    sums = accumulate_paths(network, images, labels, rows)
    got = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad(set_to_none=True)
    losses = [torch.nn.functional.cross_entropy(network(images, row), labels) for row in rows]
    torch.stack(losses).sum().backward()
    expected = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert got.keys() == expected.keys()
    for name, grad in got.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-10, atol=1e-12)
    assert float(sums.loss) == pytest.approx(16 * float(torch.stack(losses).detach().sum()), rel=1e-9)
    assert sums.seen == 80


@pytest.mark.parametrize("distill", [False, True])
def test_gradients_and_sums_do_not_depend_on_the_parts(distill):
    training = training_of("fairnas")
    network = training.network.double().eval()  # BatchNorm would see other batches
    images, labels = training.images(training.train_indices[:24])
    images, rows = images.double(), training.sampler.sample(5)
    found = []
    for parts in (1, 2, 6):
        network.zero_grad(set_to_none=True)
        sums = accumulate_paths(network, images, labels, rows, distill=distill, parts=parts)
        found.append((sums, {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}))
    (whole, expected), *others = found
    for sums, got in others:
        assert got.keys() == expected.keys()
        for name, grad in got.items():
            torch.testing.assert_close(grad, expected[name], rtol=1e-9, atol=1e-12)
        assert sums.seen == whole.seen
        assert float(sums.right) == float(whole.right)
        assert float(sums.loss) == pytest.approx(float(whole.loss), rel=1e-12)


def test_statistics_move_once_for_every_part():
    training = training_of("spos", accumulate=4)
    training.take_step()
    counts = {int(b) for name, b in training.network.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {0, 4}  # no path takes all operations


@pytest.mark.parametrize("accumulate", [3, 256])
def test_parts_that_do_not_fit_the_batch_are_refused(accumulate):
    with pytest.raises(ConfigError, match="--accumulate must cut the 256 images of a step into equal parts of two"):
        training_of("spos", accumulate=accumulate)


def test_every_path_but_the_first_learns_the_first_ones_outputs():
    training = training_of("spos")
    network = training.network.eval()
    images, labels = training.images(training.train_indices[:8])
    rows = training.sampler.sample(2)
    accumulate_paths(network, images, labels, rows, distill=True)
    got = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad(set_to_none=True)
    first, second = (network(images, row) for row in rows)
    loss = torch.nn.functional.cross_entropy(first, labels)
    (loss + torch.nn.functional.cross_entropy(second, first.detach().softmax(1))).backward()
    for name, p in network.named_parameters():
        assert (p.grad is None) == (name not in got)
        if p.grad is not None:
            torch.testing.assert_close(got[name], p.grad, rtol=1e-4, atol=1e-6)


def test_weights_that_no_path_uses_do_not_move():
    """Though momentum and weight decay are on, and moved them before."""
    training = training_of("spos", epochs=5)
    for _ in range(6):
        training.take_step()
    before = bits(training.network)
    training.take_step()
    moved = {
        key.split(".")[1] for key, value in training.network.state_dict().items() if not torch.equal(value, before[key])
    }
    training.sampler.load_state(json.loads(training.state()["paths"]))
    touched = {key for key, op in training.network.ops.items() if any(p.grad is not None for p in op.parameters())}
    assert touched < set(training.network.ops)
    for key in set(training.network.ops) - touched:
        parameters = [f"ops.{key}.{name}" for name, _ in training.network.ops[key].named_parameters()]
        assert all(torch.equal(training.network.state_dict()[name], before[name]) for name in parameters)
    assert touched & moved


@pytest.mark.parametrize("strategy", ["spos", "fairnas", "enas"])
def test_training_learns(strategy):
    training = training_of(strategy, epochs=4, batch_size=64, lr=0.05)
    rows = []
    while not training.done():
        training.take_step()
        if training.step % training.steps_per_epoch == 0:
            rows.append(training.end_epoch())
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert rows[-1]["train_acc"] > max(0.13, rows[0]["train_acc"])
    if strategy == "enas":
        assert all(0 <= row["reward"] <= 1 for row in rows)
        assert rows[-1]["reward"] > 0.13
        assert training.sampler.controller.weight > 0
    else:
        assert all(row["reward"] is None for row in rows)


def test_bfloat16_is_near_float32_and_weights_stay_float32():
    losses = []
    for bf16 in (False, True):
        training = training_of("spos", bf16=bf16)
        training.take_step()
        losses.append(float(training.counts.sums[0]))
        assert all(p.dtype == torch.float32 for p in training.network.parameters())
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.03)


def test_a_loss_that_is_not_finite_ends_the_training():
    training = training_of("spos", lr=1e30, grad_clip=1e30)
    for _ in range(training.steps_per_epoch):
        training.take_step()
    with pytest.raises(SupernetError, match="the loss is not finite in epoch 1; lower --lr"):
        training.end_epoch()
