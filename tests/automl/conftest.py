"""Small fits that several tests look at."""

from time import monotonic

import pytest

from nasfast.automl.fit import FitSettings, fit_table
from nasfast.config.budget import Budget
from nasfast.tables import read_table
from nasfast.utils.progress import Progress
from tests.helpers.real_tables import diabetes, mixed_rows, tumours, wines


def fit(data, target, folder=None, budget="4 trials", replay=(), **settings):
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
