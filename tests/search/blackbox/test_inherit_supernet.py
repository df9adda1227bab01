"""Architectures that start from the shared network of a one-shot run, by the command: weights, resume, what differs."""

import json
import shutil

import pytest
import torch

from nasfast.config.blackbox import BlackBoxConfig
from nasfast.data import load_data
from nasfast.data.fingerprint import data_fingerprint
from nasfast.errors import ConfigError, RunError
from nasfast.runs.checkpoint import load_checkpoint
from nasfast.search.blackbox.estimator import worker_estimator
from nasfast.search.pretrained import SupernetSpec, load_network, network_fingerprint
from nasfast.utils.progress import Progress
from tests.helpers.runs import assert_same_bits, logged, search_state
from tests.helpers.sealed import save_sealed
from tests.search.blackbox.test_inherit import COUNT, SIZES, SPACE, options, origins, run, weights

SPACE_SET = [part for name, value in SIZES.items() for part in ("--space-set", f"{name}={value}")]


def train_network(path, *more, space="mobilenet", settings=SPACE_SET):
    """A one-shot run of a second or two."""
    given = ["search", "--space", space, "--strategy", "spos", "--estimator", "oneshot", *settings, "--epochs", "1"]
    given += ["--batch-size", "256", "--calibration", "64", "--evaluations", "4", "--ask", "2", "--threads", "1"]
    result = run(*given, "--quiet", *more, "--out", path)
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return train_network(tmp_path_factory.mktemp("shared") / "network")


@pytest.fixture(scope="module")
def whole(shared, tmp_path_factory):
    """A search from the shared network that was never stopped."""
    path = tmp_path_factory.mktemp("whole") / "run"
    result = run(*options("morphism-evolution", "--supernet", shared, "--ask", "4"), "--out", path)
    assert result.exit_code == 0, result.output
    return path


def test_what_has_no_parent_starts_from_the_shared_network(shared, whole):
    trials, parents = logged(whole), origins(whole)
    assert len(trials) == COUNT
    assert all(trial["metrics"]["epochs"] == 1 for trial in trials)
    heirs = [trial for trial in trials if tuple(trial["row"]) in parents]
    found = sorted(content["identity"]["origin"] for content in weights(whole).values())
    decoded = [SPACE.decode(parents[tuple(trial["row"])]) for trial in heirs]
    assert found == sorted(decoded + ["supernet"] * (COUNT - len(heirs)))
    stored = json.loads((whole / "config.json").read_text())["blackbox"]
    assert stored["supernet"] == str(shared.resolve())
    data = load_data("digits")
    network = load_network(str(shared), SupernetSpec(SPACE, SIZES, data_fingerprint(data), 0.2, 0), data)
    assert load_checkpoint(whole / "checkpoint.pt", "blackbox")["supernet"] == network_fingerprint(network)
    trained = load_checkpoint(shared / "checkpoint.pt", "oneshot")["network"]
    assert_same_bits(dict(network.state_dict()), dict(trained))


def test_stopped_run_resumes_with_the_same_bits_and_another_network_is_refused(shared, whole, tmp_path):
    network = tmp_path / "network"
    shutil.copytree(shared, network)
    given = options("morphism-evolution", "--supernet", network, "--ask", "4", "--budget", "4 trials")
    at = given.index("--evaluations")
    del given[at : at + 2]
    assert run(*given, "--out", tmp_path / "run").exit_code == 0
    checkpoint, kept = network / "checkpoint.pt", (network / "checkpoint.pt").read_bytes()
    content = torch.load(checkpoint, weights_only=True)
    next(iter(content["network"].values())).add_(1)
    save_sealed(checkpoint, content)
    result = run("search", "--resume", tmp_path / "run", "--budget", f"{COUNT} trials", "--quiet")
    assert result.exit_code == 1
    assert f"the shared network of {network.resolve()} is not that which it began with" in result.stderr
    checkpoint.write_bytes(kept)
    result = run("search", "--resume", tmp_path / "run", "--budget", f"{COUNT} trials", "--quiet")
    assert result.exit_code == 0, result.output
    assert (whole / "metrics.jsonl").read_bytes() == (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert search_state(whole) == search_state(tmp_path / "run")
    assert_same_bits(weights(whole), weights(tmp_path / "run"))


def test_workers_start_from_it_too_and_from_no_other(shared, tmp_path):
    for workers in ("1", "2"):
        given = options("morphism-evolution", "--supernet", shared, "--ask", "4", "--workers", workers)
        result = run(*given, "--out", tmp_path / workers)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "1" / "metrics.jsonl").read_bytes() == (tmp_path / "2" / "metrics.jsonl").read_bytes()
    assert_same_bits(weights(tmp_path / "1"), weights(tmp_path / "2"))
    assert sum(content["identity"]["origin"] == "supernet" for content in weights(tmp_path / "2").values()) >= 2
    settings = BlackBoxConfig.of(json.loads((tmp_path / "2" / "config.json").read_text())["blackbox"]).to_dict()
    with pytest.raises(RunError, match="is not that which the search began with"):
        worker_estimator(settings, None, None, str(tmp_path / "2" / "candidates"), 1, Progress(quiet=True), 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--seed", "1"], "was trained on other images, of digits, --test-fraction 0.2 and --seed 0"),
        (["--held-out", "0.3"], "was trained on 144 of the 432 images that the search holds out"),
        (["--test-fraction", "0.3"], "was trained on other images, of digits, --test-fraction 0.2 and --seed 0"),
        (["--space-set", "features=32"], "is of mobilenet with features 16 in place of 32, as it is searched"),
        (["--fidelity-set", "features=8"], "is of mobilenet with features 16 in place of 8"),
        (["--space", "nasbench-macro"], "is of the space mobilenet; expected nasbench-macro, which is searched"),
    ],
)
def test_a_network_that_does_not_fit_is_named(given, message, shared, tmp_path):
    base = options("morphism-evolution", "--supernet", shared)
    if "--space" in given:
        base = [part for part in base if part not in ("--space", "mobilenet", *SPACE_SET)]
    result = run(*base, *given, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert not (tmp_path / "run").exists()


def test_images_that_another_seed_holds_out_are_known_to_the_network(shared):
    """As of data with a split of its own: the images are the same whatever the seed."""
    data = load_data("digits")
    wanted = SupernetSpec(SPACE, SIZES, data_fingerprint(data), 0.2, 1)
    with pytest.raises(ConfigError, match=r"of the 288 images that the search holds out; give --seed 0 and --held-out"):
        load_network(str(shared), wanted, data)


def test_smaller_held_out_part_is_no_image_that_the_network_has_learned(shared, tmp_path):
    given = options("morphism-evolution", "--supernet", shared, "--held-out", "0.1", "--evaluations", "1")
    result = run(*given, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output


def test_what_is_no_trained_network_is_named(shared, whole, tmp_path):
    unfinished = tmp_path / "unfinished"
    shutil.copytree(shared, unfinished)
    (unfinished / "search.pt").unlink()
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "nothing", "--supernet: no run folder at"),
        (
            tmp_path / "empty",
            "it has no config.json; expected a run of nasfast search --estimator oneshot",
        ),
        (whole, "has no shared network; expected a run of nasfast search --estimator oneshot"),
        (unfinished, f"is not trained to its end; go on with it: nasfast search --resume {unfinished}"),
    ):
        result = run(*options("morphism-evolution", "--supernet", path), "--out", tmp_path / "run")
        assert result.exit_code == 1
        assert message in result.stderr
        assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="--supernet belongs to --estimator inherit, got --estimator train"):
        BlackBoxConfig.of({"estimator": "train", "supernet": str(shared)})
