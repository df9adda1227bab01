"""``nasfast retrain --inherit`` of a space: from a candidate's own training, from a shared network, and refusals."""

import json
import shutil

import pytest
import torch

from nasfast.retrain.from_run import read_stored_search
from nasfast.retrain.inherited import learned_network
from nasfast.runs.checkpoint import load_checkpoint, save_checkpoint
from nasfast.runs.folder import RunFolder
from nasfast.search.oneshot.runner import run_oneshot
from nasfast.training.model_file import load_model
from nasfast.utils.progress import Progress
from tests.helpers.oneshot_runs import tiny
from tests.search.blackbox.test_inherit import options, run
from tests.search.gradient.test_space_search import rows

CELLS = ("--space", "nasbench201", "--space-set", "channels=4", "--space-set", "cells=1")


def search(path, *arguments):
    result = run(*arguments, "--out", path)
    assert result.exit_code == 0, result.output
    return path


def searched_cells(path, strategy, estimator, *more):
    """A search of NAS-Bench-201 that trains for a moment."""
    return search(
        path, "search", *CELLS, "--strategy", strategy, "--estimator", estimator, "--data", "digits", "--epochs", 1,
        "--batch-size", 32, "--fidelity-images", 0.06, "--evaluations", 6, "--threads", 1, "--quiet", *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def inherited(tmp_path_factory):
    return search(tmp_path_factory.mktemp("inherited") / "run", *options("morphism-evolution"))


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    """Children of NAS-Bench-201, where "none" becomes an operation behind a gate."""
    path = tmp_path_factory.mktemp("gated") / "run"
    begin = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|nor_conv_1x1~2|"
    more = ("--set", f"begin={begin}", "--first-epochs", 1)
    return searched_cells(path, "morphism-hill-climbing", "inherit", *more)


def arch_of(path):
    return json.loads((path / "architectures.json").read_text())["best"]["arch"]


def found(path, arch=None):
    stored = read_stored_search(path)
    return learned_network(stored.folder, stored.config, arch or arch_of(path), stored.load_data(Progress(quiet=True)))


def test_training_goes_on_from_what_the_search_has_trained(inherited):
    network, origin = found(inherited)
    saved = load_checkpoint(inherited / origin, "retrain")["network"]
    for name, tensor in network.state_dict().items():
        assert saved[f"network.{name}"].equal(tensor)
    result = run("retrain", inherited, "--inherit", "--epochs", 1, "--lr", 1e-9, "--label", "on", "--quiet")
    assert result.exit_code == 0, result.output
    model = load_model(RunFolder.open(inherited, lock=False), "on")
    assert model.info.arch == arch_of(inherited)
    for (name, tensor), (_, start) in zip(
        model.network.network.named_parameters(), network.named_parameters(), strict=True
    ):
        torch.testing.assert_close(tensor, start, rtol=0, atol=1e-6, msg=name)
    assert [row["inherited"] for row in rows(inherited, "result") if row["label"] == "on"] == [
        len(network.state_dict())
    ]


def test_a_training_that_inherits_is_not_taken_for_one_from_scratch(inherited):
    arguments = ("retrain", inherited, "--epochs", 1, "--label", "twice", "--quiet")
    assert run(*arguments, "--inherit").exit_code == 0
    again = run(*arguments)
    assert again.exit_code == 1
    assert "was made with inherited weights True, not False" in again.stderr


def test_gates_are_kept_in_the_file_of_the_network(gated):
    trained = [row["arch"] for row in rows(gated, "trial")]
    networks = {arch: found(gated, arch)[0] for arch in trained}
    arch = next(arch for arch, network in networks.items() if network.gated)
    result = run("retrain", gated, "--inherit", "--arch", arch, "--epochs", 1, "--label", "gates", "--quiet")
    assert result.exit_code == 0, result.output
    model = load_model(RunFolder.open(gated, lock=False), "gates")
    assert model.info.gated == tuple(sorted(networks[arch].gated))
    last = next(row for row in rows(gated, "result") if row["label"] == "gates")
    printed = run("evaluate", gated, "--label", "gates", "--quiet").stdout
    assert printed == f"gates: test accuracy {100 * last['test_acc']:.2f} %, test loss {last['test_loss']:.4f}\n"
    exported = run("export", gated, "--label", "gates", "--format", "pt2")
    assert exported.exit_code == 0, exported.output


def test_a_shared_network_that_is_not_trained_to_its_end_is_not_taken_up(tmp_path):
    run_oneshot(tiny(), tmp_path / "run")
    arch = arch_of(tmp_path / "run")
    (tmp_path / "run" / "search.pt").unlink()
    result = run("retrain", tmp_path / "run", "--inherit", "--arch", arch, "--quiet")
    assert "is not trained to its end" in result.stderr


def test_children_of_a_shared_network_start_from_its_weights(tmp_path):
    config = tiny()
    run_oneshot(config, tmp_path / "run")
    network, origin = found(tmp_path / "run")
    shared = load_checkpoint(tmp_path / "run" / origin, "oneshot")["network"]
    assert all(any(tensor.equal(other) for other in shared.values()) for tensor in network.state_dict().values())
    result = run("retrain", tmp_path / "run", "--inherit", "--epochs", 1, "--label", "on", "--quiet")
    assert result.exit_code == 0, result.output
    assert load_model(RunFolder.open(tmp_path / "run", lock=False), "on").info.arch == arch_of(tmp_path / "run")


def test_settings_that_were_searched_with_go_with_the_architecture(tmp_path):
    path = searched_cells(tmp_path / "run", "random", "train", "--tune", "lr=0.01,0.05")
    arch = arch_of(path)
    assert "@ lr=" in arch
    result = run("retrain", path, "--inherit", "--epochs", 1, "--label", "on", "--quiet")
    assert result.exit_code == 0, result.output
    assert load_model(RunFolder.open(path, lock=False), "on").info.arch == arch.split(" @ ")[0]


@pytest.mark.parametrize("options", [(), ("--continue-rungs",)])
def test_of_several_rungs_the_longest_is_taken_up(tmp_path, options):
    path = searched_cells(
        tmp_path / "run", "asha", "train", "--epochs", 3, "--set", "reduction=2", "--evaluations", 7, *options
    )
    arch = arch_of(path)
    most = max(row["metrics"]["fidelity"] for row in rows(path, "trial") if row["arch"] == arch)
    network, origin = found(path)
    saved = load_checkpoint(path / origin, "retrain")
    assert max(result["epochs"] for result in saved.get("rungs") or [saved["result"]]) == most
    assert network.state_dict().keys() <= {name.removeprefix("network.") for name in saved["network"]}
    assert run("retrain", path, "--inherit", "--epochs", 1, "--quiet").exit_code == 0


def test_a_training_that_is_not_over_is_not_taken_up(inherited, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(inherited, path)
    _, origin = found(path)
    content = load_checkpoint(path / origin, "retrain")
    save_checkpoint(path / origin, "retrain", content | {"result": None})
    assert "that was not finished" in run("retrain", path, "--inherit", "--label", "on", "--quiet").stderr


def test_what_cannot_be_trained_further_says_why(inherited, tmp_path):
    trained = {row["arch"] for row in rows(inherited, "trial")}
    space = read_stored_search(inherited).config.make_space()
    other = next(text for text in (space.decode(row) for row in space.neighbours(space.encode(min(trained))))
                 if text not in trained)  # fmt: skip
    missing = run("retrain", inherited, "--inherit", "--arch", other, "--label", "other", "--quiet")
    assert "it has not trained this architecture" in missing.stderr
    sized = run("retrain", inherited, "--inherit", "--space-set", "features=32", "--label", "wide", "--quiet")
    assert "leave out --space-set" in sized.stderr
    smaller = searched_cells(tmp_path / "smaller", "random", "train", "--fidelity-set", "channels=2")
    assert "smaller networks (channels=2)" in run("retrain", smaller, "--inherit", "--quiet").stderr
    scored = tmp_path / "scored"
    search(scored, "search", *CELLS, "--strategy", "random", "--estimator", "zero-cost", "--data", "digits",
           "--evaluations", 2, "--threads", 1, "--quiet")  # fmt: skip
    assert "has trained no network" in run("retrain", scored, "--inherit", "--quiet").stderr
