"""Table networks: how they read a table, train on all folds at once, and stop."""

import numpy as np
import pytest
import torch

from nasfast.automl.metrics import METRICS
from nasfast.automl.network import training as training_module
from nasfast.automl.network.dropout import MaskPool
from nasfast.automl.network.encoding import Encoding
from nasfast.automl.network.settings import NetworkSettings
from nasfast.automl.network.training import NetworkTraining
from nasfast.automl.prepare import CodeSource, NumberSource, Preparation, Prepared

SETTINGS = NetworkSettings(members=2, width=16, bins=8, depth=1)


def made(result, settings=SETTINGS):
    encoding = Encoding.of(result.problem.prepared, result.model.preparation, settings.bins)
    return NetworkTraining(result.problem, METRICS["log_loss"], settings, encoding, seed=3)


def test_steps_that_follow_from_a_time_are_repeated_bit_for_bit(binary_fit, monkeypatch):
    expected = made(binary_fit).run(None, 0, steps=(40, 33))
    assert expected.done == 33
    late = iter([False] * 27 + [True] * 10)  # asked for after each step from the sixth on
    monkeypatch.setattr(training_module._Clock, "plan", lambda self, done: 40 if done >= 6 else None)
    monkeypatch.setattr(training_module._Clock, "is_late", lambda self: next(late))
    timed = made(binary_fit).run(1.0, 100)
    assert (timed.planned, timed.done, timed.step, timed.curve) == (40, 33, expected.step, expected.curve)
    assert (timed.oof == expected.oof).all()
    for one, other in zip(timed.network.parameters(), expected.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_is_kept_is_the_network_of_its_best_evaluation(binary_fit):
    trained = made(binary_fit).run(None, 6)
    judged = binary_fit.problem.judged()
    loss = METRICS["log_loss"].loss(binary_fit.problem.y[judged], trained.oof[judged])
    assert loss == min(trained.curve)
    assert trained.curve[-1] < trained.curve[0]


def test_the_network_of_all_folds_is_that_of_each(binary_fit):
    """Outputs of a group are those of a network that has this group alone."""
    training = made(binary_fit)
    bins, fractions = training._bins, training._fractions
    whole = training.network(bins, fractions, None)
    for group in range(len(binary_fit.problem.folds)):
        alone = made(binary_fit).network
        for parameter, other in zip(alone.parameters(), training.network.parameters(), strict=True):
            parameter.data = other.data[group : group + 1]
        torch.testing.assert_close(alone(bins, fractions, None)[0], whole[group], rtol=1e-5, atol=1e-6)


def test_numbers_lie_in_intervals_and_outside_at_their_ends():
    numbers = np.array([[0.0], [1.0], [2.0], [4.0], [np.nan], [9.0], [-9.0], [3.0]], np.float32)
    prepared = Prepared(numbers, np.array([[0], [1], [2], [3], [2], [2], [2], [2]], np.int16))
    preparation = Preparation((NumberSource("n"),), (CodeSource("c", ("a", "b")),))
    encoding = Encoding.of(prepared.take(np.arange(4)), preparation, bins=8)
    assert encoding.edges[0].tolist() == [0, 1, 2, 4]
    assert encoding.layout.increments == (3, 0)
    assert encoding.layout.lookups == (1, 4)
    bins, fractions = encoding.apply(prepared)
    assert bins[:, 0].tolist() == [0, 1, 2, 2, 3, 2, 0, 2]
    assert fractions[:, 0].tolist() == [0, 0, 0, 1, 0, 1, 0, 0.5]
    assert bins[:, 1].tolist() == [0, 1, 2, 3, 2, 2, 2, 2]


def test_intervals_are_never_so_narrow_that_they_explode():
    values = np.concatenate([np.full(50, 1.0), [1.0000001, 1.0000002], np.linspace(2, 1000, 50)]).astype(np.float32)
    prepared = Prepared(values[:, None], np.empty((len(values), 0), np.int16))
    encoding = Encoding.of(prepared, Preparation((NumberSource("n"),), ()), bins=48)
    assert np.diff(encoding.edges[0]).min() > 1e-6 * 999
    one = Prepared(np.full((5, 1), 7, np.float32), np.empty((5, 0), np.int16))
    same = Encoding.of(one, Preparation((NumberSource("n"),), ()), bins=8)
    assert same.layout.increments == (0,)
    assert same.apply(one)[0].max() == 0


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_masks_drop_the_share_that_is_asked_for_and_keep_the_mean(probability):
    pool = MaskPool(probability, torch.Generator().manual_seed(0))
    x = torch.ones(3, 200, 100)
    one, two = pool.apply(x), pool.apply(x)
    assert abs(float((one == 0).float().mean()) - probability) < 0.02
    assert abs(float(one.mean()) - 1) < 0.02
    assert torch.equal(one, two) == (probability == 0)
    again = MaskPool(probability, torch.Generator().manual_seed(0))
    assert torch.equal(again.apply(x), one)
