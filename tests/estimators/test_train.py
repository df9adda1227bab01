"""Training from scratch and from inherited weights as estimates: scores, costs, fidelity, stop and resume."""

import json

import numpy as np
import pytest
import torch

from nasfast.config.objectives import Constraint, Objective
from nasfast.data import load_data
from nasfast.errors import ConfigError, RunError, SpaceError
from nasfast.estimators import Fidelity, InheritEstimator, TrainEstimator, TrainSettings, WarmStartEstimator
from nasfast.estimators.candidates import load_candidate
from nasfast.runs.checkpoint import CheckpointError
from nasfast.search.blackbox.problem import Problem
from nasfast.search.blackbox.search import BlackBoxSearch
from nasfast.spaces.registry import make_space
from nasfast.strategies.blackbox.morphism import LamarckianNSGA2, MorphismEvolution, MorphismHillClimbing
from nasfast.supernets import make_supernet
from nasfast.training.evaluate import evaluate_network
from nasfast.training.trainer import Trainer
from tests.helpers.runs import assert_same_bits
from tests.helpers.sealed import save_sealed

SETTINGS = TrainSettings(batch_size=128, lr=0.1)
SIZES = {"stages": "8:1,16:2", "depths": "1,2", "widths": "1", "kernels": "3,5", "expansions": "2,3", "features": "32"}


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


@pytest.fixture
def space():
    return make_space("mobilenet", {**SIZES, "image_size": "8"})


def rows_of(space, count):
    return space.sample(np.random.default_rng(0), count)


def weights(path):
    state = torch.load(path, weights_only=True)
    return {name: state[name] for name in ("network", "optimizer", "sampler", "augmenter", "step")}


def test_training_learns_and_says_its_cost_and_uncertainty(space, data, tmp_path):
    estimator = TrainEstimator(space, data, tmp_path, TrainSettings(batch_size=64, lr=0.1), Fidelity(epochs=4))
    row = rows_of(space, 1)
    found = estimator.estimate(row)[0]
    share = found.score
    assert 0.4 < share <= 1
    assert found.uncertainty == pytest.approx((share * (1 - share) / 288) ** 0.5)
    steps = 1149 // 64  # of the 1,437 train images four fifths
    assert found.cost == space.cost(row[0], size=8).flops * (3 * 4 * steps * 64 + 288) == estimator.cost(row[0])
    network = load_candidate(space, row[0], estimator.path_of(row[0]), 10, 3)
    again, loss = evaluate_network(_pair(network), estimator.data)
    assert (again, loss) == (found.score, found.metrics["valid_loss"])


def _pair(network):
    class Pair(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x), None

    return Pair()


def test_same_bits_in_any_order_and_no_training_twice(space, data, tmp_path, monkeypatch):
    rows = rows_of(space, 2)
    one, other = (TrainEstimator(space, data, tmp_path / name, SETTINGS, Fidelity(epochs=1)) for name in ("a", "b"))
    found = one.estimate(rows)
    assert other.estimate(rows[::-1])[::-1] == found
    for row in rows:
        assert_same_bits(weights(one.path_of(row)), weights(other.path_of(row)))
    monkeypatch.setattr(Trainer, "train", None)
    assert TrainEstimator(space, data, tmp_path / "a", SETTINGS, Fidelity(epochs=1)).estimate(rows) == found
    with pytest.raises(RunError, match="was made with lr"):
        TrainEstimator(space, data, tmp_path / "a", TrainSettings(128, lr=0.2), Fidelity(epochs=1)).estimate(rows)


def test_stopped_training_goes_on_to_the_same_bits(space, data, tmp_path, monkeypatch):
    row = rows_of(space, 1)
    whole = TrainEstimator(space, data, tmp_path / "whole", SETTINGS, Fidelity(epochs=3))
    stopped = TrainEstimator(space, data, tmp_path / "stopped", SETTINGS, Fidelity(epochs=3))
    found = whole.estimate(row)
    step, steps = Trainer.take_step, []

    def stop(self):
        if len(steps) == 14:
            self.save()
            raise KeyboardInterrupt
        steps.append(step(self))

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "take_step", stop)
        with pytest.raises(KeyboardInterrupt):
            stopped.estimate(row)
    assert stopped.path_of(row[0]).exists()
    assert stopped.estimate(row) == found
    assert_same_bits(weights(whole.path_of(row[0])), weights(stopped.path_of(row[0])))


def test_every_axis_of_fidelity_lowers_the_cost(space, data, tmp_path):
    row = rows_of(space, 1)[0]
    smaller = make_space("mobilenet", {**SIZES, "image_size": "8", "stages": "8:1,8:2", "stem": "8", "features": "16"})

    def make(name, fidelity):
        return TrainEstimator(space, data, tmp_path / name, SETTINGS, fidelity)

    with pytest.raises(ConfigError, match="cannot be averaged down to 9 pixels"):
        make("larger", Fidelity(epochs=2, size=9))
    whole = make("whole", Fidelity(epochs=2))
    costs = {"whole": whole.cost(row), "epochs": whole.cost(row, 1)}
    for name, fidelity in {
        "images": Fidelity(epochs=2, images=0.5),
        "size": Fidelity(epochs=2, size=4),
        "model": Fidelity(epochs=2, model=smaller),
    }.items():
        estimator = make(name, fidelity)
        found = estimator.estimate(row[None])[0]
        costs[name] = estimator.cost(row)
        assert found.cost == costs[name]
    assert all(cost < 0.8 * costs["whole"] for name, cost in costs.items() if name != "whole")
    assert make("size", Fidelity(2, size=4)).data.size == (4, 4)
    part, every = make("images", Fidelity(2, images=0.5)).data, whole.data
    assert torch.equal(part.train_images, every.train_images[: len(part.train_images)])
    assert torch.equal(part.test_images, every.test_images)
    assert not set(map(bytes, every.train_images.numpy())) >= set(map(bytes, every.test_images.numpy()))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Fidelity(epochs=0), ConfigError, "epochs and size must be at least 1"),
        (lambda: Fidelity(images=1.5), ConfigError, "images above 0 and at most 1"),
        (lambda: TrainSettings(held_out=1.0), ConfigError, "held_out must be between 0 and 1"),
        (lambda: TrainSettings(lr=0.0), ConfigError, "lr must be above 0"),
    ],
)
def test_bad_settings_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_what_does_not_fit_is_named(space, data, tmp_path):
    with pytest.raises(SpaceError, match="must have the decisions of mobilenet"):
        TrainEstimator(space, data, tmp_path, SETTINGS, Fidelity(model=make_space("nasbench-macro")))
    with pytest.raises(ConfigError, match="leave 11 to train on"):
        TrainEstimator(space, data, tmp_path, SETTINGS, Fidelity(images=0.01))
    shared = make_supernet(make_space("nasbench-macro", {"width": "0.25"}))
    with pytest.raises(ConfigError, match="the shared network must be of"):
        InheritEstimator(space, data, tmp_path, SETTINGS, supernet=shared)


# inherited weights


def heir(space, data, folder, first_epochs=8, lineage=()):
    """An estimator that knows the ancestors of rows, given as pairs."""
    estimator = InheritEstimator(space, data, folder, SETTINGS, Fidelity(epochs=1), first_epochs)
    assert isinstance(estimator, WarmStartEstimator)
    for row, ancestors in lineage:
        estimator.note_ancestors(tuple(row.tolist()), tuple(tuple(elder.tolist()) for elder in ancestors))
    return estimator


def test_child_starts_from_its_parent(space, data, tmp_path):
    small, large = np.zeros_like(space.sizes), space.sizes - 1
    lineage = [(large, [small])]
    scratch = TrainEstimator(space, data, tmp_path / "scratch", SETTINGS, Fidelity(epochs=1))
    estimator = heir(space, data, tmp_path / "i", lineage=lineage)
    parent, child = estimator.estimate(np.stack([small, large]))
    assert (parent.metrics["epochs"], child.metrics["epochs"]) == (8, 1)
    assert child.cost < parent.cost * space.cost(large, size=8).flops / space.cost(small, size=8).flops
    assert child.score > scratch.estimate(large[None])[0].score + 0.2
    again = heir(space, data, tmp_path / "again", lineage=lineage)
    assert again.estimate(np.stack([small, large])) == [parent, child]
    changed = heir(space, data, tmp_path / "i", 1)
    with pytest.raises(RunError, match="was made with inherited weights True, not False"):
        changed.estimate(large[None])


def test_architectures_without_a_parent_start_from_a_shared_network(space, data, tmp_path):
    torch.manual_seed(0)
    shared = make_supernet(space)
    row = rows_of(space, 1)
    estimator = InheritEstimator(space, data, tmp_path, SETTINGS, Fidelity(epochs=1), 8, shared)
    started = estimator._start(row[0], None)[0].state_dict()
    assert torch.equal(started["ops.features/features.0.weight"], shared.ops["features/features"][0].weight[:, :16])
    found = estimator.estimate(row)[0]
    assert found.metrics["epochs"] == 1


def test_an_ancestor_whose_weights_are_not_there_is_named_and_nothing_starts_from_scratch(space, data, tmp_path):
    small, large = np.zeros_like(space.sizes), space.sizes - 1
    estimator = heir(space, data, tmp_path, 1, [(large, [small])])
    with pytest.raises(CheckpointError, match=f"weights of {space.decode(small)}, which was trained, are not at"):
        estimator.estimate(large[None])
    assert list(tmp_path.iterdir()) == []
    estimator.estimate(small[None])
    path = estimator.path_of(small)
    content = torch.load(path, weights_only=True)
    save_sealed(path, content | {"result": None})
    with pytest.raises(CheckpointError, match=f"training of {space.decode(small)} that was not finished"):
        estimator.estimate(large[None])


def test_ancestors_are_those_that_were_estimated_and_rows_keep_those_of_their_first_proposal(space):
    strategy = MorphismEvolution(2).init(space, 0)
    rows = np.unique(rows_of(space, 9), axis=0)[:4]
    keys = [tuple(row) for row in rows.tolist()]
    strategy.note(rows[0], None)
    for child, parent in ((1, 0), (2, 1), (3, 2)):
        strategy.note(rows[child], rows[parent])
    strategy.note(rows[0], rows[3])  # drawn, still out, and proposed again
    strategy.note(rows[2], rows[0])
    assert strategy.ancestors_of(keys[3], {keys[0], keys[2]}.__contains__) == (keys[0], keys[2])
    assert strategy.ancestors_of(keys[2], {keys[0]}.__contains__) == (keys[0],)
    assert strategy.ancestors_of(keys[0], keys.__contains__) == ()
    other = MorphismEvolution(2).init(space, 1)
    other.load_state(json.loads(json.dumps(strategy.state())))
    assert other.origins == strategy.origins


# strategies


def value_of(space, rows):
    return np.array([[float(space.cost(row, size=8).params)] for row in rows])


@pytest.mark.parametrize("strategy", [MorphismHillClimbing(3, 2), MorphismEvolution(3, 2), LamarckianNSGA2(4)])
def test_strategies_propose_descendants_resume_and_grow(strategy, space):
    strategy.init(space, 0)
    asked = []
    for turn in range(14):
        rows = strategy.ask(1)
        asked.append(tuple(rows[0].tolist()))
        values = value_of(space, rows)
        strategy.tell(rows, np.concatenate([values, -values], 1) if strategy.many_objectives else values)
        if turn == 8:
            state = strategy.state()
            other = type(strategy)(**strategy.settings()).init(space, 1)
            other.load_state(state)
            assert other.ask(1).tolist() == strategy.ask(1).tolist()
            strategy.load_state(state)
    assert len(set(asked)) == 14
    children = [row for row in asked if strategy.parent_of(row) is not None]
    assert len(children) >= 5
    for child in children:
        parent = strategy.parent_of(child)
        assert asked.index(parent) < asked.index(child)
        assert sum(a != b for a, b in zip(parent, child, strict=True)) == 1


def test_hill_climbing_goes_to_the_best_child_and_begins_where_it_is_told(space):
    small = space.decode(np.zeros_like(space.sizes))
    strategy = MorphismHillClimbing(3, begin=small).init(space, 0)
    first = strategy.ask(1)
    assert space.decode(first[0]) == small
    strategy.tell(first, value_of(space, first))
    children = strategy.ask(3)
    values = value_of(space, children)
    strategy.tell(children, values)
    assert strategy.at == (values.max(), children[values[:, 0].argmax()].tolist())
    assert {strategy.parent_of(tuple(row)) for row in strategy.ask(3).tolist()} == {tuple(strategy.at[1])}


def test_lamarckian_search_end_to_end_on_the_digits(space, data, tmp_path):
    """Several objectives, a constraint that some ancestors break, weights handed down."""
    strategy = LamarckianNSGA2(4).init(space, 3)
    estimator = heir(space, data, tmp_path, 2)
    costs = sorted(space.cost(row, size=8).params for row in rows_of(space, 20))
    objectives = (Objective("score"), Objective("params", False))
    limit = (Constraint.parse(f"params<={costs[12]}"),)
    search = BlackBoxSearch(Problem(space, estimator, objectives, limit, image_size=8), strategy, 14, 2)
    while not search.done():
        search.step()
    inherited = [trial for trial in search.trials if trial.metrics["epochs"] == 1]
    assert len(inherited) >= 4
    assert 0.2 < max(trial.score for trial in inherited) <= 1
    assert search.front()
