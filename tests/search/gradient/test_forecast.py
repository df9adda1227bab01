"""What is said of the end of a search and of the training after it."""

import re
from dataclasses import replace

import pytest
import torch

from nasfast.data import load_data
from nasfast.search.gradient import forecast
from nasfast.search.gradient.forecast import Forecast
from nasfast.spaces.genotype import Genotype
from nasfast.training import forecast as training_forecast
from nasfast.training.config import RetrainConfig
from nasfast.training.forecast import seconds_of_training
from nasfast.training.genotype_trainer import GenotypeTask
from nasfast.training.trainer import Trainer

CELLS = "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2], " + (
    "reduce=[('max_pool_3x3', 0), ('dil_conv_3x3', 1)], reduce_concat=[2])"
)


@pytest.fixture
def at(monkeypatch):
    """A clock that stands, and times of day as seconds."""
    now = [0.0]
    monkeypatch.setattr(forecast, "monotonic", lambda: now[0])
    monkeypatch.setattr(forecast, "time_in", lambda seconds: f"<{seconds:g}>")
    return now


def said(at, made, steps, seconds=2.0, searching=True):
    texts = []
    for _ in range(steps):
        at[0] += seconds
        texts.append(made.after_step(searching))
    return texts


def test_it_is_said_once_after_four_steps_of_which_the_first_does_not_count(at):
    made = Forecast(104, later=500.0)
    at[0] = 60.0  # the first step is slow
    texts = said(at, made, 10)
    assert texts[3] == "a step takes 2 s: the search ends about <200>, the training after it about <700>"
    assert not any(texts[:3] + texts[4:])


def test_what_a_device_has_still_to_do_counts(at):
    def wait():
        at[0] += 9.0

    assert said(at, Forecast(104, wait=wait), 4)[3] == "a step takes 5 s: the search ends about <500>"


def test_a_budget_ends_it_earlier(at):
    made = Forecast(1000, limit=108.0, later=50.0)
    assert said(at, made, 4)[3] == (
        "a step takes 2 s: the search ends about <100>, when its budget is spent, the training after it about <150>"
    )
    assert said(at, Forecast(40, limit=108.0), 4)[3] == "a step takes 2 s: the search ends about <72>"


def test_steps_of_the_weights_alone_are_shorter_and_it_is_said_again(at):
    made = Forecast(108)
    assert said(at, made, 4, searching=False)[3] == "a step takes 2 s: the search ends not before <208>"
    assert said(at, made, 4, seconds=5.0)[3] == "a step takes 5 s: the search ends about <500>"


def test_of_a_minute_nothing_is_said(at):
    assert not any(said(at, Forecast(30), 10))


def test_a_training_is_measured_without_a_trace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, taken, before = load_data("digits"), [], torch.get_rng_state()
    step = Trainer.take_step

    def count(trainer):
        taken.append(trainer.config.batch_size)
        now[0] += 0.5
        step(trainer)

    now = [0.0]
    monkeypatch.setattr(Trainer, "take_step", count)
    monkeypatch.setattr(training_forecast, "monotonic", lambda: now[0])
    config = RetrainConfig(channels=4, layers=3, epochs=7, batch_size=32, auxiliary=False)
    seconds = seconds_of_training(GenotypeTask(Genotype.parse(CELLS)), data, config)
    assert taken == [8, 8]
    assert seconds == pytest.approx(0.5 * 32 / 8 * 7 * (len(data.train_labels) // 32))
    assert seconds_of_training(GenotypeTask(Genotype.parse(CELLS)), data, replace(config, batch_size=4)) > 0
    assert taken[2:] == [4, 4]
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(tmp_path.iterdir())


def test_times_of_day():
    from datetime import datetime

    from nasfast.utils.clock import time_in

    now = datetime(2024, 5, 6, 22, 30)  # a Monday
    assert time_in(65 * 60, now) == "23:35"
    assert time_in(3 * 3600, now) == "Tue 01:30"
    assert re.fullmatch(r"16 May 22:30", time_in(10 * 86400, now))
