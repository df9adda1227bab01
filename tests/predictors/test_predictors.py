"""Encodings, the ensemble, the Gaussian process, and the Bayesian strategy on real accuracies."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from nasfast.errors import ConfigError
from nasfast.predictors import Encoder, EnsemblePredictor, GaussianProcessPredictor, make_predictor, paths_of
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.spaces.nasbench_macro import NASBenchMacro
from nasfast.spaces.registry import make_space
from nasfast.strategies.blackbox.bayesian import Bayesian
from nasfast.strategies.registry import make_strategy
from tests.helpers.paths import GOLDEN

SPACE = NASBench201()
NB201 = GOLDEN / "nasbench201_slice.npz"


@pytest.fixture(scope="module")
def cells():
    """Rows and test accuracies of real cells in a random order."""
    with np.load(NB201, allow_pickle=False) as file:
        rows, accuracies = file["ops"].astype(np.int64), file["test_acc_cifar10_e200"].astype(float)
    order = np.random.default_rng(0).permutation(len(rows))
    return rows[order], accuracies[order]


def test_paths_of_a_cell_by_hand():
    row = SPACE.encode("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|")
    start = "The cell:in"
    assert paths_of(SPACE, row) == {f"{start}>avg_pool_3x3", f"{start}>nor_conv_3x3>skip_connect>nor_conv_1x1"}
    assert paths_of(SPACE, np.zeros(6, np.int64)) == frozenset()


def test_cells_that_differ_in_what_reaches_no_output_have_the_same_paths():
    one = SPACE.encode("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|none~2|")
    other = SPACE.encode("|none~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|avg_pool_3x3~1|none~2|")
    assert paths_of(SPACE, one) == paths_of(SPACE, other) == {"The cell:in>skip_connect"}


def test_number_of_paths_is_that_of_the_space():
    """Four operations on one, two and three edges; none is no path."""
    found = frozenset().union(*(paths_of(SPACE, row) for row in SPACE.sample(np.random.default_rng(0), 3000)))
    assert len(found) == 4 + 4**2 + 4**3


@pytest.mark.parametrize("name", ["darts", "enas-micro", "nasnet"])
def test_paths_of_cells_with_two_inputs_name_cell_and_input(name):
    space = make_space(name)
    for row in space.sample(np.random.default_rng(0), 3):
        found = paths_of(space, row)
        assert {path.partition(">")[0] for path in found} <= {
            f"{cell}:c_{{k-{back}}}" for cell in ("Normal cell", "Reduction cell") for back in (1, 2)
        }
        assert len({path.partition(":")[0] for path in found}) == 2


def test_encoder_fixes_its_features_when_it_learns(cells):
    rows, _ = cells
    encoder = Encoder(SPACE)
    known = encoder.learn(rows[:20])
    assert known.dtype == np.float32
    assert set(np.unique(known)) == {0.0, 1.0}
    assert (known.sum(1) == [len(paths_of(SPACE, row)) for row in rows[:20]]).all()
    assert (known.sum(0) > 0).all()
    assert encoder.encode(rows[20:]).shape == (len(rows) - 20, known.shape[1])
    assert (encoder.encode(rows[:20]) == known).all()
    hot = Encoder(SPACE, "one-hot").learn(rows[:3])
    assert hot.shape == (3, 30)
    assert (hot.sum(1) == 6).all()
    assert Encoder(NASBenchMacro()).learn(NASBenchMacro().all_rows()[:4]).shape == (4, 24)
    with pytest.raises(ConfigError, match="path encoding needs a space of cells, got nasbench-macro; use one-hot"):
        Encoder(NASBenchMacro(), "path")


@pytest.mark.parametrize("encoding", ["path", "one-hot"])
@pytest.mark.parametrize("name", ["ensemble", "gp"])
def test_ranks_real_cells_that_it_has_not_seen(name, encoding, cells):
    rows, accuracies = cells
    half = len(rows) // 2
    encoder, predictor = Encoder(SPACE, encoding), make_predictor(name, 0)
    predictor.fit(encoder.learn(rows[:half]), accuracies[:half])
    mean, deviation = predictor.predict(encoder.encode(rows[half:]))
    assert mean.dtype == deviation.dtype == np.float64
    assert (deviation > 0).all()
    assert kendalltau(mean, accuracies[half:])[0] > 0.3


@pytest.mark.parametrize("name", ["ensemble", "gp"])
def test_scale_of_the_scores_passes_through_and_seeds_decide(name):
    draw = np.random.default_rng(0)
    features = draw.integers(0, 2, (30, 8)).astype(np.float32)
    scores = features @ draw.normal(size=8)
    predictions = []
    for scale, shift, seed in ((1.0, 0.0, 3), (1.0, 0.0, 3), (10.0, 500.0, 3)):
        predictor = make_predictor(name, seed)
        predictor.fit(features, scale * scores + shift)
        predictions.append(predictor.predict(features))
    (mean, deviation), (again, same), (larger, wider) = predictions
    assert (mean == again).all()
    assert (deviation == same).all()
    assert np.allclose(larger, 10 * mean + 500, atol=0.5)
    assert np.allclose(wider, 10 * deviation, atol=0.3)


def test_gaussian_process_is_sure_of_what_it_has_seen():
    draw = np.random.default_rng(0)
    features = draw.integers(0, 2, (40, 12)).astype(np.float32)
    scores = (features @ draw.normal(size=12)).astype(float)
    predictor = GaussianProcessPredictor()
    predictor.fit(features[:20], scores[:20])
    mean, deviation = predictor.predict(features)
    assert np.abs(mean[:20] - scores[:20]).max() < 0.3
    assert deviation[:20].mean() < deviation[20:].mean()


def test_equal_scores_and_bad_settings():
    features = np.eye(4, dtype=np.float32)
    for name in ("ensemble", "gp"):
        predictor = make_predictor(name, 0)
        with pytest.raises(ConfigError, match="was asked before it was fitted"):
            predictor.predict(features)
        predictor.fit(features, np.full(4, 7.0))
        assert np.allclose(predictor.predict(features)[0], 7, atol=0.2)
    with pytest.raises(ConfigError, match="needs two members"):
        EnsemblePredictor(members=1)


# the strategy


def run(strategy, rows_to_scores, count, batch=10):
    asked = []
    while len(asked) < count:
        rows = strategy.ask(batch)
        strategy.tell(rows, rows_to_scores(rows))
        asked += rows.tolist()
    return np.array(asked)


@pytest.mark.parametrize("acquisition", ["its", "ei"])
@pytest.mark.parametrize("predictor", ["ensemble", "gp"])
def test_every_setting_resumes_bit_for_bit_and_beats_random(predictor, acquisition):
    settings = {"predictor": predictor, "acquisition": acquisition}
    target = np.array([3, 1, 3, 1, 3, 2])

    def score(rows):
        return (rows == target).sum(1).astype(float)

    whole = make_strategy("bayesian", settings).init(SPACE, 0)
    first = run(whole, score, 40)
    resumed = make_strategy("bayesian", settings).init(SPACE, 7)
    resumed.load_state(whole.state())
    later = run(whole, score, 30)
    assert (later == run(resumed, score, 30)).all()
    assert len({tuple(row) for row in [*first.tolist(), *later.tolist()]}) == 70
    random = run(make_strategy("random").init(SPACE, 0), score, 70)
    assert score(later).mean() > score(random).mean() + 1
    assert score(np.concatenate([first, later])).max() >= 5


def test_predictor_learns_again_after_a_batch_alone():
    strategy = Bayesian(initial=4, batch=5).init(SPACE, 0)
    fitted = []
    for _ in range(16):
        rows = strategy.ask(1)
        strategy.tell(rows, rows.sum(1).astype(float))
        fitted.append(strategy.fitted)
    assert fitted == [0] * 4 + [4] * 5 + [9] * 5 + [14] * 2


def test_what_breaks_the_constraints_is_learned_as_worse():
    strategy = Bayesian(initial=20, predictor="gp").init(SPACE, 0)
    rows = strategy.ask(40)
    broken = (rows[:, 0] > 2).astype(float)
    values = np.where(broken > 0, np.nan, rows.sum(1).astype(float))
    strategy.tell(rows, values, broken)
    model = strategy._learned()
    mean, _ = model.predict(strategy.encoder.encode(rows))
    assert mean[broken > 0].mean() < mean[broken == 0].mean()


def test_small_space_is_searched_to_its_end():
    space = make_space("nasbench201", {"cells": 1})
    space.sizes = np.array([2, 1, 1, 2, 1, 2])
    strategy = Bayesian(predictor="gp", initial=2, batch=4).init(space, 0)
    asked = run(strategy, lambda rows: rows.sum(1).astype(float), 10, batch=1)
    assert len({tuple(row) for row in asked.tolist()}) == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"predictor": "forest"}, "predictor must be one of ensemble, gp, got 'forest'"),
        ({"acquisition": "ucb"}, "acquisition must be one of its, ei, got 'ucb'"),
        ({"initial": 1}, "initial must be at least 2, got 1"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
    ],
)
def test_bad_settings_of_the_strategy_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_strategy("bayesian", settings)
