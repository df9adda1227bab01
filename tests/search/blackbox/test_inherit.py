"""A black-box search whose architectures inherit weights, by the command: lineage, stop and resume, refusals."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from nasfast.cli.app import app
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.errors import ConfigError, SpaceError
from nasfast.report import build_report
from nasfast.runs.checkpoint import load_checkpoint
from nasfast.search.blackbox.runner import resume_blackbox, run_blackbox
from nasfast.spaces.registry import make_space
from nasfast.strategies.registry import MORPHISM
from nasfast.training.trainer import Trainer
from tests.helpers.runs import assert_same_bits, logged, search_state, without_times

RUNNER = CliRunner()
SIZES = {
    "stages": "8:1,16:2", "depths": "1,2", "widths": "1,1.5", "kernels": "3,5", "expansions": "1,2", "features": "16",
    "image_size": "8",
}  # fmt: skip
SPACE = make_space("mobilenet", SIZES)
SETTINGS = {
    "morphism-hill-climbing": ["children=2"],
    "morphism-evolution": ["population=2"],
    "lamarckian": ["population=3"],
}
COUNT = 8


def options(strategy, *more):
    """Of a search that takes seconds."""
    given = ["search", "--space", "mobilenet", "--strategy", strategy, "--estimator", "inherit", "--data", "digits"]
    given += ["--epochs", "1", "--first-epochs", "2", "--inherited-lr", "0.01", "--batch-size", "32", "--ask", "2"]
    given += ["--fidelity-images", "0.06", "--evaluations", str(COUNT), "--threads", "1", "--checkpoint-seconds", "0"]
    given += [part for name, value in SIZES.items() for part in ("--space-set", f"{name}={value}")]
    given += [part for text in SETTINGS.get(strategy, ()) for part in ("--set", text)]
    return [*given, "--quiet", *more]


def run(*arguments):
    return RUNNER.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module", params=MORPHISM)
def strategy(request):
    return request.param


@pytest.fixture(scope="module")
def whole(strategy, tmp_path_factory):
    """A run that was never stopped."""
    path = tmp_path_factory.mktemp("whole") / "run"
    result = run(*options(strategy), "--out", path)
    assert result.exit_code == 0, result.output
    return path


def origins(path):
    """What the rows of a run were made from."""
    proposed = search_state(path)["strategy"]["own"]["origins"]
    return {tuple(row): tuple(parent) for row, parent in proposed if parent}


def weights(path):
    """The checkpoint of every architecture that a run has trained."""
    files = sorted((path / "candidates").glob("*.pt"))
    return {file.name: without_times(load_checkpoint(file, "retrain")) for file in files}


def test_children_start_from_their_parents_and_train_for_fewer_epochs(strategy, whole):
    trials, parents = logged(whole), origins(whole)
    assert len(trials) == COUNT
    numbers = {tuple(trial["row"]): trial["number"] for trial in trials}
    assert len(numbers) == COUNT
    heirs = [trial for trial in trials if tuple(trial["row"]) in parents]
    assert 3 <= len(heirs) < COUNT
    for trial in trials:
        assert trial["metrics"]["epochs"] == (1 if trial in heirs else 2)
    for trial in heirs:
        assert numbers[parents[tuple(trial["row"])]] < trial["number"]
    origin = sorted(content["identity"].get("origin", "") for content in weights(whole).values())
    decoded = [SPACE.decode(parents[tuple(trial["row"])]) for trial in heirs]
    assert origin == sorted(decoded + [""] * (COUNT - len(heirs)))
    rates = sorted(content["identity"]["lr"] for content in weights(whole).values())
    assert rates == [0.01] * len(heirs) + [0.025] * (COUNT - len(heirs))


def test_report_and_front(strategy, whole):
    page = build_report(whole).read_text()
    assert f"strategy {strategy}" in page
    assert "estimator inherit, data digits" in page
    found = json.loads((whole / "architectures.json").read_text())
    assert found["objectives"] == (["score", "-params"] if strategy == "lamarckian" else ["score"])
    assert found["front"][0]["metrics"]["score"] == found["best"]["metrics"]["score"]
    stored = json.loads((whole / "config.json").read_text())["blackbox"]
    assert (stored["first_epochs"], stored["inherited_lr"]) == (2, 0.01)
    assert not {"min_epochs", "tune", "table", "proxy"} & set(stored)


@pytest.mark.parametrize("after", [1, 5])
def test_stopped_run_resumes_with_the_same_bits_and_trains_nothing_twice(after, strategy, whole, tmp_path, monkeypatch):
    """Stopped while an architecture is trained, of which there is no checkpoint yet."""
    train, trained = Trainer.train, []

    def stop(self, *given):
        if len(trained) == after:
            raise KeyboardInterrupt
        return note(self, *given)

    def note(self, *given):
        trained.append(self.label)
        return train(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", stop)
        assert run(*options(strategy), "--out", tmp_path / "run").exit_code == 130
    assert len(trained) == after
    monkeypatch.setattr(Trainer, "train", note)
    result = run("search", "--resume", tmp_path / "run", "--quiet")
    assert result.exit_code == 0, result.output
    assert len(trained) == len(set(trained)) == COUNT
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert search_state(tmp_path / "run") == search_state(whole)
    assert_same_bits(weights(tmp_path / "run"), weights(whole))


def test_run_that_lost_what_came_after_a_checkpoint_takes_it_from_the_candidates(
    strategy, whole, tmp_path, monkeypatch
):
    """As after a kill: the checkpoint of the search is older than those of the networks."""
    train, trained, anew = Trainer.train, [], []
    given = options(strategy, "--checkpoint-seconds", "1e9")

    def stop(self, *given):
        if len(trained) == 5:
            raise RuntimeError("killed")
        trained.append(self.label)
        return train(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", stop)
        assert run(*given, "--out", tmp_path / "run").exit_code == 1
    assert search_state(tmp_path / "run")["trials"] == 0
    monkeypatch.setattr(Trainer, "train", lambda self, *given: anew.append(self.label) or train(self, *given))
    resume_blackbox(tmp_path / "run")
    assert len(anew) == COUNT - 5
    assert not set(anew) & set(trained)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert_same_bits(weights(tmp_path / "run"), weights(whole))


def test_search_begins_where_it_is_told_and_inherits_at_lower_fidelities(tmp_path):
    small = SPACE.decode([0] * len(SPACE.sizes))
    low = ["--fidelity-size", "4", "--fidelity-set", "features=8", "--evaluations", "3"]
    begin = ["--set", f"begin={small}", "--set", "morphisms=3"]
    result = run(*options("morphism-evolution", *low, *begin), "--ask", "1", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    trials = logged(tmp_path / "run")
    assert trials[0]["arch"] == small
    assert [trial["metrics"]["epochs"] for trial in trials] == [2, 1, 1]
    assert origins(tmp_path / "run")[tuple(trials[1]["row"])] == tuple(trials[0]["row"])


def test_evolution_by_morphism_is_usual_and_the_best_is_retrained(tmp_path):
    given = ["search", "--space", "nasbench-macro", "--estimator", "inherit", "--epochs", "1", "--first-epochs", "1"]
    given += ["--batch-size", "16", "--fidelity-images", "0.02", "--evaluations", "2", "--set", "begin=11111111"]
    result = run(*given, "--quiet", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["blackbox"]
    assert stored["strategy"] == "morphism-evolution"
    assert logged(tmp_path / "run")[0]["arch"] == "11111111"
    result = run("retrain", tmp_path / "run", "--epochs", "1", "--quiet")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--strategy", "random"], "--strategy random does not say what to inherit weights from; use morphism-hill"),
        (["--strategy", "asha"], "--strategy asha does not say what to inherit weights from"),
        (["--strategy", "spos"], "--strategy spos trains a weight-shared network, which is its own estimator"),
        (["--strategy", "darts"], "--strategy darts learns by gradients"),
        (["--estimator", "train"], "--strategy lamarckian makes children that start with their parents' weights"),
        (["--estimator", "oneshot"], "which this estimator does not; use --estimator inherit"),
        (["--estimator", "zero-cost"], "use --estimator inherit"),
        (["--estimator", "table"], "use --estimator inherit"),
        (["--min-epochs", "2"], "--min-epochs belongs to --estimator train, got --estimator inherit"),
        (["--workers", "two"], "--workers must be a number, ray, or ray and a number like ray:8, got 'two'"),
        (["--first-epochs", "0"], "--first-epochs must be at least 1, got 0"),
        (["--inherited-lr", "0"], "lr must be above 0"),
        (["--set", "crossover=0.9"], "lamarckian: crossover must be 0, a child has one parent"),
        (
            ["--strategy", "morphism-evolution", "--set", "population=2", "--objective", "score", "--objective=-flops"],
            "--strategy morphism-evolution follows one objective, got score, -flops; use lamarckian, or limit",
        ),
    ],
)
def test_what_does_not_go_together_is_said_in_one_line(given, message, tmp_path):
    result = run(*options("lamarckian"), *given, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert message in result.stderr
    assert not Path(tmp_path / "run").exists()


def test_settings_in_python_are_checked_too(tmp_path):
    with pytest.raises(ConfigError, match=r"--estimator inherit goes with --strategy morphism-hill-.*, got"):
        BlackBoxConfig.of({"estimator": "inherit", "strategy": "random"})
    with pytest.raises(ConfigError, match="--strategy lamarckian goes with --estimator inherit, got --estimator train"):
        BlackBoxConfig.of({"estimator": "train", "strategy": "lamarckian"})
    with pytest.raises(ConfigError, match="--first-epochs belongs to --estimator inherit, got --estimator train"):
        BlackBoxConfig.of({"estimator": "train", "first_epochs": 3})
    config = {"estimator": "inherit", "strategy": "morphism-hill-climbing", "set": ["begin=nothing"]}
    with pytest.raises(SpaceError, match="nothing"):
        run_blackbox(BlackBoxConfig.of(config), tmp_path / "run")
    assert not (tmp_path / "run").exists()
