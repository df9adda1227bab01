"""Table networks: how they read a table, train on all folds at once, and stop."""

import numpy as np
import pytest
import torch

from nasfast.automl.members.network import fit_network
from nasfast.automl.metrics import METRICS
from nasfast.automl.network import training as training_module
from nasfast.automl.network.dropout import MaskPool
from nasfast.automl.network.encoding import Encoding
from nasfast.automl.network.settings import NetworkSettings
from nasfast.automl.network.training import NetworkTraining
from nasfast.automl.prepare import FIRST_LEVEL, UNSEEN, CodeSource, NumberSource, Preparation, Prepared
from nasfast.automl.problem import Problem
from nasfast.automl.splits import make_folds
from nasfast.automl.task import Task
from nasfast.kernels.table import table_embedding

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


def test_intervals_are_never_narrower_than_float32_can_tell():
    values = np.concatenate([np.full(50, 1.0), [1.0000001, 1.0000002], np.linspace(2, 1000, 50)]).astype(np.float32)
    prepared = Prepared(values[:, None], np.empty((len(values), 0), np.int16))
    encoding = Encoding.of(prepared, Preparation((NumberSource("n"),), ()), bins=48)
    edges = encoding.edges[0].astype(np.float64)
    assert (np.diff(edges) > 1e-6 * edges[:-1]).all()
    assert 1.0000001 not in edges
    one = Prepared(np.full((5, 1), 7, np.float32), np.empty((5, 0), np.int16))
    same = Encoding.of(one, Preparation((NumberSource("n"),), ()), bins=8)
    assert same.layout.increments == (0,)
    assert same.apply(one)[0].max() == 0


def test_a_far_value_does_not_take_the_intervals_of_the_others():
    values = np.append(np.linspace(100, 1000, 199), 3e37).astype(np.float32)
    prepared = Prepared(values[:, None], np.empty((200, 0), np.int16))
    encoding = Encoding.of(prepared, Preparation((NumberSource("n"),), ()), bins=16)
    bins, fractions = encoding.apply(prepared)
    assert len(np.unique(bins[:199])) >= 15
    assert np.isfinite(fractions).all()


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


def test_codes_that_no_row_of_training_has_say_nothing():
    """A missing number or an unseen level is the average row to the network, whatever its weights were drawn as."""
    rng = np.random.default_rng(0)
    rows = 400
    numbers = rng.normal(size=(rows, 2)).astype(np.float32)
    codes = rng.integers(FIRST_LEVEL, FIRST_LEVEL + 3, (rows, 1)).astype(np.int16)
    prepared = Prepared(numbers, codes)
    preparation = Preparation((NumberSource("a"), NumberSource("b")), (CodeSource("c", ("u", "v", "w")),))
    y = numbers[:, 0] + codes[:, 0]
    task = Task("regression")
    folds = tuple(make_folds(y.astype(float), task, seed=0, folds=2))
    problem = Problem(task, prepared, y.astype(float), np.ones(rows), folds, 0)
    candidate = fit_network(problem, METRICS["rmse"], preparation, SETTINGS, "n", None, 40, seed=0)
    network = candidate.model.network
    encoding = candidate.model.encoding
    bins, fractions = encoding.apply(prepared)
    layout = encoding.layout
    values = table_embedding(
        network.embedding, torch.from_numpy(bins), torch.from_numpy(fractions), torch.ones(2, 1, 3), layout
    )
    unknown = Prepared(np.full((1, 2), np.nan, np.float32), np.array([[UNSEEN]], np.int16))
    b, f = (torch.from_numpy(a) for a in encoding.apply(unknown))
    found = table_embedding(network.embedding, b, f, torch.ones(2, 1, 3), layout)
    for group, fold in enumerate(folds):
        mean = values[group, torch.from_numpy(fold.train)].mean(0)
        torch.testing.assert_close(found[group, 0], mean, rtol=1e-4, atol=1e-4)
    low, high = y.min(), y.max()
    assert low < candidate.model.predict(unknown)[0, 0] < high
    assert (candidate.model.predict_held_out(prepared, [f.valid for f in folds]) == candidate.oof).all()
