"""Small fits that several tests look at."""

from time import monotonic

import pytest

from nasfast.automl.fit import FitSettings, fit_table
from nasfast.automl.portfolio import FIRST
from nasfast.automl.trials import Trial
from nasfast.config.budget import Budget
from nasfast.tables import read_table
from nasfast.utils.progress import Progress
from tests.helpers.real_tables import diabetes, mixed_rows, tumours, wines

SMALL = {"members": 2, "width": 16, "bins": 8, "depth": 1}
QUICK = (
    *FIRST,
    Trial("boosting 1", "boosting", {}, size=(22,)),
    Trial("network 1", "network", SMALL, seed=1, size=(120, 120)),
)
"""A candidate of every family, small enough for a test."""


def fit(data, target, folder=None, budget="1h", replay=QUICK, **settings):
    made = FitSettings(target, Budget.parse(budget), threads=1, **settings)
    return fit_table(read_table(data), made, folder, monotonic(), Progress(quiet=True), replay)


@pytest.fixture(scope="session")
def binary_fit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("binary")
    return fit([tumours(folder, rows=300)], "target", folder / "model")


@pytest.fixture(scope="session")
def multiclass_fit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("multiclass")
    return fit([wines(folder)], "target", folder / "model")


@pytest.fixture(scope="session")
def regression_fit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regression")
    return fit([diabetes(folder)], "target", folder / "model")


@pytest.fixture(scope="session")
def mixed_fit(tmp_path_factory):
    return fit(mixed_rows(400), "bought", tmp_path_factory.mktemp("mixed") / "model")
