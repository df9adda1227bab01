"""Accuracies are fractions from 0 to 1, whatever estimator says them, and their errors are in the same unit."""

import math

import numpy as np
import pytest
import torch

from nasfast.config.blackbox import ESTIMATORS, BlackBoxConfig
from nasfast.data import normalize
from nasfast.estimators.candidates import load_candidate
from nasfast.estimators.curves import CurveEnsemble
from nasfast.estimators.curves.watched import read_curve
from nasfast.search.blackbox.estimator import make_task
from nasfast.utils.progress import Progress
from tests.helpers.oneshot_runs import training_of
from tests.helpers.paths import GOLDEN

TRAINED = {"space_set": ["channels=4", "cells=1"], "batch_size": 32, "lr": 0.1, "fidelity_images": 0.3, "threads": 1}
SETTINGS = {
    "table": {"table": str(GOLDEN / "nasbench201_slice.npz")},
    "zero-cost": {"space_set": ["channels=4", "cells=1"]},
    "train": TRAINED | {"epochs": 2},
    "extrapolate": TRAINED | {"epochs": 6, "observe": 3},
    "inherit": TRAINED | {"epochs": 1, "first_epochs": 2, "strategy": "morphism-evolution"},
}


def estimates(name, folder):
    """Two estimates of an estimator made as a search makes it, with what is needed to count by hand."""
    config = BlackBoxConfig.of({"space": "nasbench201", "estimator": name} | SETTINGS[name])
    space = config.make_space()
    estimator = make_task(config, space, folder, Progress(quiet=True)).estimator
    if name == "table":
        with np.load(GOLDEN / "nasbench201_slice.npz", allow_pickle=False) as file:
            rows = file["ops"][:2].astype(np.int64)
    else:
        rows = np.stack([space.sizes - 1, space.sizes - 2])
    return estimator, rows, estimator.estimate(rows)


def standard_error(share, count):
    return math.sqrt(share * (1 - share) / count)


def test_every_estimator_is_looked_at():
    assert set(SETTINGS) == set(ESTIMATORS)


@pytest.mark.parametrize("name", ["train", "inherit"])
def test_a_trained_one_has_the_share_of_right_answers(tmp_path, name):
    estimator, rows, found = estimates(name, tmp_path)
    data = estimator.data
    images = normalize(data.test_images, data.mean, data.std)
    for row, estimate in zip(rows, found, strict=True):
        network = load_candidate(estimator.space, row, estimator.path_of(row), data.num_classes, data.channels).eval()
        with torch.no_grad():
            right = int((network(images).argmax(1) == data.test_labels).sum())
        assert 0 < right < len(images)
        assert estimate.score == right / len(images)
        assert estimate.uncertainty == pytest.approx(standard_error(right / len(images), len(images)))


def test_an_extrapolated_one_has_the_median_and_the_deviation_of_its_curve(tmp_path):
    estimator, rows, found = estimates("extrapolate", tmp_path)
    for row, estimate in zip(rows, found, strict=True):
        curve = read_curve(estimator.path_of(row))
        assert 0 < max(curve) <= 1
        ahead = CurveEnsemble().extrapolate(np.array([curve]), 6.0)
        assert (estimate.score, estimate.uncertainty) == (float(ahead.median[0, 0]), float(ahead.std[0, 0]))
        assert estimate.metrics["seen"] == curve[-1]
        assert 0 <= estimate.score <= 1


def test_one_of_a_published_table_has_its_percentage_as_a_share(tmp_path):
    _, _, found = estimates("table", tmp_path)
    with np.load(GOLDEN / "nasbench201_slice.npz", allow_pickle=False) as file:
        valid, test = (file[f"{part}_acc_cifar10_e200"][:2].tolist() for part in ("val", "test"))
    for estimate, percent, tested in zip(found, valid, test, strict=True):
        assert 1 < percent <= 100
        assert estimate.score == estimate.metrics["valid_accuracy"] == percent / 100
        assert estimate.metrics["test_accuracy"] == tested / 100


def test_one_with_shared_weights_and_a_reward_have_the_share_of_right_answers():
    training = training_of("enas", epochs=1)
    rows = training.space.sample(np.random.default_rng(0), 2)
    images, labels = training.rewarder.images, training.rewarder.labels
    training.network.eval()
    for row, estimate in zip(rows, training.rewarder.estimate(rows), strict=True):
        with torch.no_grad():
            share = float((training.network(images, row).argmax(1) == labels).double().mean())
        assert estimate.score == pytest.approx(share, abs=1e-12)
        assert estimate.uncertainty == pytest.approx(standard_error(share, len(labels)))
    told = []
    controller = training.sampler.controller
    tell = controller.tell
    controller.tell = lambda rows, rewards: (told.extend(rewards[:, 0].tolist()), tell(rows, rewards))
    while not training.done():
        training.take_step()
    counts = np.array(told) * training.config.reward_images
    assert counts == pytest.approx(counts.round())
    assert 0 < max(told) <= 1
    assert training.end_epoch()["reward"] == pytest.approx(np.mean(told))
