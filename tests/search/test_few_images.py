"""Folders with fewer images than the usual batch: searches cut their batches, say so, and keep them in the run."""

import json

import pytest

from nasfast.config.gradient import SearchConfig
from nasfast.data import load_data
from nasfast.errors import DataError
from nasfast.search.gradient.speed import measure_steps
from nasfast.search.inputs import limit_batches
from nasfast.search.oneshot.runner import run_oneshot
from nasfast.utils.progress import Progress
from tests.data.test_data import write_images
from tests.helpers.oneshot_runs import tiny as tiny_oneshot
from tests.helpers.runs import TINY


def test_steps_are_measured_with_batches_that_fit(tmp_path):
    write_images(tmp_path, count=12)
    times = measure_steps(SearchConfig.of(TINY | {"data": str(tmp_path)}))
    assert times.fused > 0
    assert times.plain > 0


def test_a_shared_network_is_retrained_with_batches_that_fit(tmp_path, caplog):
    write_images(tmp_path / "images", count=12)
    config = tiny_oneshot(
        data=str(tmp_path / "images"), batch_size=4, epochs=1, evaluations=4, ask=2, calibration=4, retrain=True
    )
    with caplog.at_level("INFO", "nasfast"):
        result = run_oneshot(config, tmp_path / "run", Progress())
    assert result is not None
    kept = json.loads((tmp_path / "run/config.json").read_text())["oneshot"]["retrain_batch_size"]
    assert f"the retrain batch size is {kept}: there are no more images to draw a batch from" in caplog.text
    assert 16 <= kept <= 22
    assert set(result.results) >= {"best"}


def test_too_few_images_for_any_batch_are_an_error():
    config = SearchConfig.of(TINY)
    with pytest.raises(DataError, match="there are 3 images to learn from; a search needs more"):
        limit_batches(config, {"batch_size": 1}, 3, Progress(quiet=True))
    assert limit_batches(config, {"batch_size": 500}, 1000, Progress(quiet=True)) == config


def test_a_shared_network_learns_from_batches_that_fit(tmp_path, caplog):
    write_images(tmp_path / "images", count=20)
    config = tiny_oneshot(
        data=str(tmp_path / "images"), batch_size=48, accumulate=3, epochs=1, evaluations=2, ask=2, calibration=4
    )
    with caplog.at_level("INFO", "nasfast"):
        run_oneshot(config, tmp_path / "run", Progress())
    images = len(load_data(config.data).train_labels)
    kept = json.loads((tmp_path / "run/config.json").read_text())["oneshot"]["batch_size"]
    assert kept == int(images * (1 - config.held_out)) // 3 * 3
    assert f"the batch size is {kept}: there are no more images to draw a batch from" in caplog.text
