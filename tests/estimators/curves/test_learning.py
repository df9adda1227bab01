"""Learning the prior of curves: what is foreseen, that no round makes it worse, and how often curves are surprises."""

import numpy as np
import pytest

from nasfast.estimators.curves import CurveEnsemble, CurveStopper
from nasfast.estimators.curves import learning as under_test
from nasfast.estimators.curves.learning import PARTS, Foreseen, foresee, learn, learn_weights
from tests.helpers.learning_curves import naap, saturating

FAMILIES = ("pow3", "exp3")


def look(curves, families=FAMILIES):
    """What the ensemble's atoms say of curves that are seen at 1, 2, ...; and the ensemble."""
    ensemble = CurveEnsemble(families, prior="even")
    times = np.arange(1.0, curves.shape[1] + 1)
    return foresee(curves, times, ensemble._atoms(times[-1]), ensemble.weights), ensemble


def log_score(found, weights, surprise):
    ends = (1 - surprise) * (found.whole @ weights) / (found.part @ weights) + surprise * found.surprise
    return float(found.count @ np.log(ends))


def test_density_of_an_end_is_the_one_that_is_predicted():
    """Of one atom, by two ways; well below the upper bound, which the two take account of in different ways."""
    curves = 0.4 * saturating(4, 40, 0.01, seed=3)
    found, ensemble = look(curves)
    for atom in (10, 30, 100, 200):
        ensemble.weights = np.eye(len(ensemble.weights))[atom]
        ensemble.surprise, ensemble.draws = 0.0, 4096
        for i, share in enumerate(PARTS):
            seen = max(3, round(share * 40))
            expected = ensemble.extrapolate(curves[:, :seen], [40.0]).log_density(curves[:, -1:])[:, 0]
            rows = slice(4 * i, 4 * i + 4)
            got = np.log(found.whole[rows, atom] / found.part[rows, atom])
            # Draws are few in the far tails.
            plausible = expected > -2
            np.testing.assert_allclose(got[plausible], expected[plausible], atol=0.15)


def test_no_round_makes_it_worse(monkeypatch):
    found, ensemble = look(naap(test=False)[0][:, ::3])
    scores = []
    for rounds in (0, 1, 2, 5, 20, 60):
        monkeypatch.setattr(under_test, "_ROUNDS", rounds)
        weights = learn_weights(found, ensemble.weights, 0.05, smoothing=1e-6)
        assert weights.sum() == pytest.approx(1)
        assert (weights >= 0).all()
        scores.append(log_score(found, weights, 0.05))
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 1


def test_more_smoothing_stays_nearer_to_the_prior():
    found, ensemble = look(naap(test=False)[0][:, ::3])
    off = [np.abs(learn_weights(found, ensemble.weights, 0.05, s) - ensemble.weights).sum() for s in (1, 30, 1e6)]
    assert off == sorted(off, reverse=True)
    assert off[-1] < 1e-3


def test_surprises_are_as_many_as_there_are():
    curves = saturating(240, 30, 0.002, seed=4)
    jumps = np.random.default_rng(0).permutation(240)[:48]
    jumped = curves.copy()
    jumped[jumps, -1] = np.clip(jumped[jumps, -1] - 0.15, 0, 1)
    shares = [CurveEnsemble(FAMILIES, prior="even").learn(c).surprise for c in (curves, jumped)]
    assert shares[0] < 0.01
    assert shares[1] == pytest.approx(0.2, abs=0.04)


def test_surprises_are_part_of_a_prediction():
    curves = saturating(3, 30, 0.002, seed=5)
    ensemble = CurveEnsemble(FAMILIES)
    tails = []
    for share in (0.0, 0.1, 0.3):
        ensemble.surprise = share
        wide = (ensemble.extrapolate(curves[:, :20], [30.0]).scales >= 0.1).mean(-1)
        assert np.allclose(wide, max(1, round(256 * share)) / 256)
        tails.append(ensemble.extrapolate(curves[:, :20], [30.0]).cdf(curves[:, -1:] - 0.15).mean())
    assert tails == sorted(tails)


def test_curves_end_where_their_last_value_is():
    curves = saturating(5, 20, 0.01, seed=6)
    curves[1, 15:] = np.nan
    curves[2, [4, 9]] = np.nan
    found, ensemble = look(curves)
    assert set(found.curve.tolist()) == set(range(5))
    np.testing.assert_allclose(np.bincount(found.curve, found.count), 1, rtol=1e-6)
    alone = foresee(curves[1:2, :15], np.arange(1.0, 16), ensemble._atoms(20.0), ensemble.weights)
    np.testing.assert_allclose(found.whole[found.curve == 1], alone.whole, rtol=1e-4, atol=1e-30)


def test_a_curve_that_is_known_at_few_times_has_a_part():
    """Four values, evenly spread: the first 70 % hold only two of them."""
    curves = np.full((3, 20), np.nan)
    curves[:, 4::5] = saturating(3, 4, 0.01, seed=8)
    found, _ = look(curves)
    assert found.curve.tolist() == [0, 1, 2]
    assert found.count.tolist() == [1, 1, 1]
    stopper = CurveStopper(last_epoch=20, bound=0.05)
    for trial, curve in enumerate(np.tile(curves, (5, 1))):
        for epoch in (5, 10, 15, 20)[: 3 if trial == 14 else 4]:
            stopper.observe(trial, epoch, curve[epoch - 1])
    assert 0 < stopper.probability(14) < 1


def test_groups_are_the_same_as_one_where_their_times_are():
    curves = naap(test=False)[0][:8, ::5]
    apart = CurveEnsemble(FAMILIES).learn_groups([(curves[:4], None), (curves[4:], None)])
    together = CurveEnsemble(FAMILIES).learn(curves)
    # Parts come in another order, and sums in float32 with them.
    np.testing.assert_allclose(apart.weights, together.weights, atol=1e-4)
    assert apart.surprise == pytest.approx(together.surprise, rel=1e-3)
    joined = Foreseen.join([look(curves[:4])[0], look(curves[4:])[0]])
    assert sorted(set(joined.curve.tolist())) == list(range(8))


def test_one_curve_teaches_and_learning_twice_gives_the_same_bits():
    curve = naap(test=False)[0][:1]
    one, again = (CurveEnsemble(FAMILIES).learn(curve) for _ in range(2))
    assert (one.weights == again.weights).all()
    assert one.surprise == again.surprise
    assert (one.weights != CurveEnsemble(FAMILIES).weights).any()


def test_share_of_surprises_comes_from_curves_not_learned_from():
    """Ends that nothing explains: weights may follow the half they learn from, not the other one."""
    curves = saturating(20, 12, 0.002, seed=7)
    curves[:, -1] = np.random.default_rng(1).uniform(0.3, 0.9, 20)
    found, ensemble = look(curves)
    weights, share = learn(found, ensemble.weights, 1 / 16, smoothing=1.0)
    assert share > 0.25
    assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_ends_that_nothing_foresees_leave_the_prior_whole(end):
    """Straight to the other bound: densities that a float32 rounds to 0."""
    curves = np.concatenate([np.full((6, 19), 1 - end), np.full((6, 1), end)], 1)
    ensemble = CurveEnsemble(bounds=(0, 1)).learn(curves)
    assert np.isfinite(ensemble.weights).all()
    assert ensemble.weights.sum() == pytest.approx(1)
    assert 0 < ensemble.surprise < 1
    assert np.isfinite(ensemble.extrapolate(curves[:, :5], [20.0]).median).all()
