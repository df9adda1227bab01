"""Settings of the search spaces: from text, checked, kept in run folders."""

import json
from typing import ClassVar

import numpy as np
import pytest
import torch

from nasfast.config.base import named_texts
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.errors import ConfigError, SpaceError
from nasfast.estimators.base import Estimate
from nasfast.search.blackbox.runner import resume_blackbox, run_blackbox
from nasfast.spaces.base import Space
from nasfast.spaces.graph import Builder
from nasfast.spaces.operations import Classifier, conv_bn
from nasfast.spaces.registry import DIGITS, SPACES, make_space, space_settings


@pytest.mark.parametrize("name", SPACES)
def test_digits_settings_make_a_small_space_that_takes_digits(name):
    space, published = make_space(name, DIGITS[name]), make_space(name)
    assert space.name == name
    rows = space.sample(np.random.default_rng(0), 4)
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    for row in rows:
        assert space.build(row, 10).eval()(images).shape == (2, 10)
    largest = published.sample(np.random.default_rng(0), 1)[0]
    assert 10 * space.cost(rows[0], size=8).params < published.cost(largest).params


@pytest.mark.parametrize("name", SPACES)
def test_every_setting_is_a_number_or_a_list_of_numbers(name):
    known = space_settings(name)
    assert set(DIGITS[name]) <= set(known)
    for key in known:
        with pytest.raises(SpaceError, match=f"{name}: {key} must be .*, got 'x'"):
            make_space(name, {key: "x"})


def test_settings_are_text_or_values():
    one = make_space("mobilenet", {"stages": "24:1,40:2", "widths": "0.5,1", "kernels": "3", "stem": "8"})
    other = make_space("mobilenet", {"stages": ((24, 1), (40, 2)), "widths": [0.5, 1.0], "kernels": [3], "stem": 8})
    assert one.decisions == other.decisions
    row = one.sample(np.random.default_rng(0), 1)[0]
    assert one.graph(row) == other.graph(row)
    assert make_space("nasbench201", {"cells": 2}).cells == 2
    assert make_space("nasbench201").cells == 5


def test_width_of_the_macro_space_scales_its_channels():
    row = [2] * 8
    whole, half = (make_space("nasbench-macro", {"width": width}).cost(row).params for width in (1, 0.5))
    assert 3.5 < whole / half < 4.0
    assert make_space("nasbench-macro").cost(row) == make_space("nasbench-macro", {"width": "1.0"}).cost(row)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("darts", {"foo": "1"}, "darts has no setting 'foo'; expected one of layers, channels, steps"),
        ("darts", {"layers": "1.5"}, "darts: layers must be a whole number, got '1.5'"),
        ("darts", {"layers": True}, "darts: layers must be a whole number, got True"),
        ("darts", {"layers": "0"}, "needs steps and layers of at least 1"),
        ("mobilenet", {"stages": "3,4"}, "mobilenet: stages must be two numbers joined by ':', got '3'"),
        ("mobilenet", {"kernels": ""}, "mobilenet: kernels must be a whole number, got ''"),
        ("mobilenet", {"kernels": 3}, "mobilenet: kernels must be numbers joined by ',', got 3"),
        ("mobilenet", {"kernels": "2"}, "kernels must be odd"),
        ("mobilenet", {"stages": "8:3"}, "the stride of a stage 1 or 2"),
        ("mobilenet", {"features": "0"}, "at least 1"),
        ("nasbench-macro", {"width": "nan"}, "width must be above 0, got nan"),
        ("nasbench201", {"cells": "0"}, "channels and cells must be at least 1, got 16 and 0"),
        ("nasbench-201", {}, "did you mean nasbench201"),
    ],
)
def test_bad_settings_are_named(name, settings, message):
    with pytest.raises(SpaceError, match=message):
        make_space(name, settings)


@pytest.mark.parametrize("text", ["channels", "=3", "channels=", " =8"])
def test_pairs_must_be_pairs(text):
    with pytest.raises(ConfigError, match=f"--space-set must be NAME=VALUE, got {text!r}"):
        named_texts("--space-set", [text])


class Parameters:
    """Scores a network by its size, which depends on the space's settings."""

    name = "parameters"

    def __init__(self, space):
        self.space = space

    def estimate(self, rows, fidelity=None):
        return [Estimate(float(self.space.cost(row).params)) for row in rows]


def test_a_run_keeps_them(tmp_path):
    config = BlackBoxConfig.of({"space_set": ["channels=4", "cells=1"], "table": "unused", "evaluations": 5})
    space = config.make_space()
    result = run_blackbox(config, tmp_path / "run", estimator=Parameters(space))
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["blackbox"]
    assert stored["space_set"] == ["channels=4", "cells=1"]
    assert result.best.metrics["params"] == result.space.cost(result.best.row).params < 20_000
    assert (result.space.channels, result.space.cells) == (4, 1)
    again = resume_blackbox(tmp_path / "run", estimator=Parameters(space))
    assert (again.space.channels, again.space.cells) == (4, 1)


def test_a_bad_setting_writes_nothing(tmp_path):
    config = BlackBoxConfig.of({"space_set": ["foo=4"], "table": "unused", "evaluations": 5})
    with pytest.raises(SpaceError, match="nasbench201 has no setting 'foo'"):
        run_blackbox(config, tmp_path / "run", estimator=Parameters(make_space("nasbench201")))
    assert not (tmp_path / "run").exists()


class Own(Space):
    operations: ClassVar = {"conv": conv_bn, "head": Classifier}

    def __init__(self):
        super().__init__("own", {"width": (8, 16)})

    def wire(self, choices, net: Builder):
        x = net.op("conv", net.input, choices["width"], at="stem")
        return net.op("head", x, net.num_classes, at="head")


def test_a_space_of_your_own_takes_none(tmp_path):
    config = BlackBoxConfig.of({"space_set": ["channels=4"], "table": "unused", "evaluations": 5})
    with pytest.raises(ConfigError, match="--space-set belongs to a space by name, got one of your own, own"):
        run_blackbox(config, tmp_path / "run", space=Own(), estimator=Parameters(Own()))
