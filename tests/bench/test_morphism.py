"""The bench of search by morphism: equal cost, the same strategies from scratch, and its verdicts."""

import numpy as np
import pytest

from bench.morphism import (
    HELD_OUT,
    INHERITS,
    NAMES,
    SCRATCH,
    SINGLE,
    Found,
    epochs_within,
    lead,
    make_search,
    misses,
    noisy_digits,
    search,
    verdicts,
)  # fmt: skip
from nasfast.errors import ConfigError
from nasfast.estimators.inherit import InheritEstimator
from nasfast.estimators.train import TrainEstimator, TrainSettings
from nasfast.spaces.registry import make_space

SIZES = {
    "stages": "8:1,16:2", "depths": "1,2", "widths": "1", "kernels": "3", "expansions": "2,3", "features": "32",
    "image_size": "8",
}  # fmt: skip


def test_no_search_takes_more_than_the_cost():
    space, data = make_space("mobilenet", SIZES), noisy_digits(0)
    once = search(SINGLE[0], space, data, 0, 1e9)
    assert len(once.cost) == 1
    assert 0.8e9 < once.cost[0] <= 1e9  # one more epoch would be too many
    climbs = search(INHERITS[1], space, data, 0, 7e9)
    assert len(climbs.cost) > 1
    assert climbs.cost[-1] <= 7e9
    assert climbs.valid == sorted(climbs.valid)


def test_a_first_candidate_that_takes_more_than_all_cost_is_not_trained(tmp_path):
    space, data = make_space("mobilenet", SIZES), noisy_digits(0)
    cheapest = epochs_cost(space, data, tmp_path, np.zeros(len(space.sizes), np.int64), 16)
    found = search(SCRATCH[1], space, data, 0, 1.01 * cheapest)
    assert found.cost == [pytest.approx(cheapest)]


def epochs_cost(space, data, folder, row, epochs):
    settings = TrainSettings(batch_size=64, held_out=HELD_OUT)
    return TrainEstimator(space, data, folder, settings).training_cost(row, epochs)


def test_epochs_within_a_cost():
    class Linear:
        def training_cost(self, row, epochs):
            return 10.0 * epochs + 3

    assert [epochs_within(Linear(), None, cost) for cost in (12, 13, 22.9, 23, 103)] == [0, 1, 1, 2, 10]


def test_the_same_strategy_is_trained_with_and_without_inheritance(tmp_path):
    space, data = make_space("mobilenet", SIZES), noisy_digits(0)
    strategy, inherits = make_search(INHERITS[0], space, data, tmp_path, 0, 1e9)
    alone, scratch = make_search(f"{INHERITS[0]}, from scratch, 8 epochs", space, data, tmp_path, 0, 1e9)
    assert strategy.settings() == alone.settings()
    assert isinstance(inherits, InheritEstimator)
    assert type(scratch) is TrainEstimator
    assert strategy.ask(1).tolist() == alone.ask(1).tolist()


def test_noise_is_the_seed_s():
    one, same, other = noisy_digits(3), noisy_digits(3), noisy_digits(4)
    assert one.train_images.equal(same.train_images)
    assert not one.train_images.equal(other.train_images)
    assert not one.test_images.equal(other.test_images)


def test_verdict_is_against_the_best_from_scratch():
    def runs(*ends):
        return [Found([1.0], [50.0], [end]) for end in ends]

    results = {name: runs(80, 82) for name in NAMES}
    results[INHERITS[0]], results[SCRATCH[2]], results[SINGLE[1]] = runs(90, 96), runs(90, 88), runs(95, 95)
    judged = verdicts(results, 2.0)
    assert (judged[INHERITS[0]]["search"], judged[INHERITS[0]]["single"]) == (SCRATCH[2], SINGLE[1])
    assert judged[INHERITS[0]]["lead over search"] == pytest.approx(4.0)
    assert judged[INHERITS[0]]["lead over itself"] == pytest.approx(12.0)
    assert judged[INHERITS[1]]["lead over search"] == pytest.approx(-8.0)
    assert judged[INHERITS[1]]["lead over single"] == pytest.approx(-14.0)
    assert lead(results, 2.0, INHERITS[0], SCRATCH[2]) == pytest.approx((4.0, 4.0))
    assert np.isnan(results[INHERITS[0]][0].at(0.5, "test"))
    assert misses(judged) == list(INHERITS)  # a single training leads
    results[SINGLE[1]] = runs(80, 80)
    results[SCRATCH[2]] = runs(91, 95)
    assert misses(verdicts(results, 2.0)) == list(INHERITS)  # a search from scratch is as good
    results[SCRATCH[2]] = runs(80, 81)
    assert misses(verdicts(results, 2.0)) == [INHERITS[1]]
    with pytest.raises(ConfigError, match="less than one epoch of the largest"):
        search(SINGLE[1], make_space("mobilenet", SIZES), noisy_digits(0), 0, 1e6)
    assert search(SCRATCH[1], make_space("mobilenet", SIZES), noisy_digits(0), 0, 1e6).cost == []
