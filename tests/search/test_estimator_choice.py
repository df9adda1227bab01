"""Which estimator a search of a space by images has where nobody names one, and that it is said."""

import json

import pytest
from click.testing import CliRunner

import nasfast
from nasfast.cli.app import app
from nasfast.errors import ConfigError
from nasfast.search.routing import kind_for_own, route_settings
from nasfast.spaces.registry import SPACES, make_space
from nasfast.strategies.registry import STRATEGIES
from tests.data.test_data import write_images
from tests.e2e.test_routes import SHARED, TINY

BY_SIZES = ("mobilenet",)
"""Spaces in which the sizes of layers are searched."""


def usual(space):
    return "oneshot" if space in BY_SIZES else "zero-cost"


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "pets"
    write_images(folder, count=20)
    return str(folder)


@pytest.mark.parametrize("space", SPACES)
def test_a_space_and_images_are_enough(space, pets, tmp_path):
    given = [text for setting in TINY[space] for text in ("--space-set", setting)]
    given += ["--space", space, "--data", pets, "--threads", "1", "--out", str(tmp_path / "run")]
    few = SHARED[:2] + SHARED[4:] if usual(space) == "oneshot" else ["--evaluations", "3", "--proxy-images", "16"]
    result = CliRunner().invoke(app, ["search", *given, *few])
    assert result.exit_code == 0, result.output
    said = [line for line in result.stderr.splitlines() if line.startswith("no estimator is named")]
    assert len(said) == 1
    assert f"for these images and {space} it is {usual(space)}: " in said[0]
    content = json.loads((tmp_path / "run/config.json").read_text())
    settings = content.get("blackbox") or content["oneshot"]
    assert (settings["estimator"], settings["data"]) == (usual(space), pets)


@pytest.mark.parametrize("space", SPACES)
def test_every_strategy_gets_an_estimator_that_it_can_take(space):
    for strategy in ({}, *({"strategy": name} for name in STRATEGIES)):
        kind, settings = route_settings({"space": space, "data": "pets", **strategy})
        kind.make_settings(settings)  # which checks what goes together


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({"space": "nasbench201", "epochs": 5}, "oneshot"),
        ({"space": "nasbench201", "epochs": 5, "tune": ("lr=0.1,0.2",)}, "train"),
        ({"space": "nasbench201", "strategy": "asha"}, "train"),
        ({"space": "nasbench201", "strategy": "lamarckian"}, "inherit"),
        ({"space": "nasbench201", "first_epochs": 5}, "inherit"),
        ({"space": "nasbench201", "observe": 5}, "extrapolate"),
        ({"space": "mobilenet", "proxy": ("naswot",)}, "zero-cost"),
        ({"space": "mobilenet", "strategy": "random"}, "oneshot"),
        ({"space": "mobilenet", "estimator": "train"}, "train"),
        ({"space": "nasbench201", "strategy": "spos"}, None),
        ({"space": "nasbench201", "table": "scores.csv"}, None),
    ],
)
def test_settings_that_are_given_decide_too(given, chosen):
    _, settings = route_settings({"data": "pets", **given})
    assert settings.get("estimator") == chosen


def test_without_images_nothing_is_chosen():
    kind, settings = route_settings({"space": "nasbench201"})
    with pytest.raises(ConfigError, match="--estimator table needs --table FILE"):
        kind.make_settings(settings)


def test_a_space_of_your_own_and_images(pets, tmp_path, caplog):
    space = make_space("nasbench201", {"channels": "4", "cells": "1"})
    assert kind_for_own(make_space("mobilenet"), {"data": pets})[0].name == "oneshot"
    with caplog.at_level("INFO", "nasfast"):
        result = nasfast.run_search(
            space=space, data=pets, evaluations=3, proxy_images=16, out=tmp_path / "run", progress=nasfast.Progress()
        )
    assert result is not None
    assert "for these images and nasbench201 it is zero-cost: " in caplog.text
