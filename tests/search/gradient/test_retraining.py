"""The trainings after a search: within its budget of time, and with other settings until they begin."""

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import nasfast
from nasfast.cli.app import app
from nasfast.config.budget import Spent
from nasfast.config.gradient import SearchConfig
from nasfast.errors import RunError
from nasfast.runs.folder import RunFolder
from nasfast.search.gradient import retraining
from nasfast.search.gradient.retraining import plan_of_training, retraining_config, share_of_search
from nasfast.search.gradient.runner import resume_gradient, run_gradient
from nasfast.utils.progress import Progress
from tests.helpers.runs import TINY, assert_same_runs, logged, tiny_config
from tests.search.gradient.test_search import Stopping
from tests.search.gradient.test_space_search import tiny


class Heard(Progress):
    def __init__(self):
        super().__init__(quiet=True)
        self.texts = []

    def say(self, text):
        self.texts.append(text)


@pytest.fixture
def fits(tmp_path, monkeypatch):
    """Epochs of the trainings after a search with these settings, which has taken so many seconds."""
    monkeypatch.setattr(retraining, "time_in", lambda seconds: f"<{seconds:g}>")

    def epochs(searched, whole, images=2400, **settings):
        asked = []

        def measured(task, dataset, config, images):
            assert images == config.batch_size
            asked.append(images)
            return whole

        monkeypatch.setattr(retraining, "seconds_of_training", measured)
        config = SearchConfig.of({**TINY, "retrain": True, "retrain_epochs": 60, "retrain_batch_size": 48, **settings})
        meter = SimpleNamespace(spent=lambda trials: Spent(0, searched, searched * 2 / 3600))
        loop = SimpleNamespace(config=config, meter=meter, dataset=SimpleNamespace(train_labels=[0] * images))
        heard = Heard()
        content = {"search": {}, **plan_of_training(config)}
        with RunFolder.create(tmp_path / f"run-{len(list(tmp_path.iterdir()))}", content) as run:
            found = retraining_config(run, loop, None, config.retrain_config(), heard)
            whole, before = whole * 100, len(asked)
            assert retraining_config(run, loop, None, config.retrain_config(), heard) == found  # it was kept
            assert len(asked) == before
            assert bool(asked) == ("retraining" in run.read_config()) == (share_of_search(run) < 1)
        return (found.epochs, found.batch_size), heard.texts

    return epochs


def test_a_training_has_the_epochs_that_the_rest_of_the_budget_has_time_for(fits):
    # 300 s are left, of which nine tenths are planned with; two networks of 300 s for 60 epochs.
    found, said = fits(300.0, 300.0, budget="10m")
    assert found == (27, 48)
    assert said == ["the trainings take 27 of 60 epochs, for which the budget has time: they end about <270>"]


def test_what_a_search_leaves_that_ends_early_is_there_for_training(fits):
    assert fits(60.0, 300.0, budget="10m")[0] == (48, 48)
    assert fits(60.0, 200.0, budget="10m") == ((60, 48), [])  # as many as without a budget, and no more


def test_where_steps_get_few_batches_are_smaller(fits):
    found, said = fits(300.0, 300.0, images=160, budget="10m")
    assert found == (27, 12)  # 81 steps of 48, 180 of 24, 351 of 12
    assert " has time and batches of 12 for more steps: they end about <270>" in said[0]
    assert fits(300.0, 3000.0, images=160, budget="10m")[0] == (2, 8)  # as small as they get
    assert fits(60.0, 1.0, images=160, budget="10m")[0] == (60, 48)  # no epoch is cut


def test_one_epoch_is_trained_in_any_case(fits):
    assert fits(700.0, 300.0, budget="10m")[0] == (1, 8)
    assert fits(599.0, 3e6, budget="10m")[0] == (1, 8)


def test_hours_of_processors_are_time_too(fits):
    assert fits(300.0, 300.0, budget=f"{600 * 2 / 3600} cpu-hours")[0] == (27, 48)


def test_without_a_share_or_a_budget_of_time_the_trainings_are_whole(fits):
    assert fits(300.0, 300.0) == ((60, 48), [])
    assert fits(300.0, 300.0, budget="10m", training_share=0.0) == ((60, 48), [])


def test_a_share_of_the_budget_is_kept_where_something_is_trained():
    settings = {"retrain": True, "budget": "1h"}
    assert plan_of_training(tiny_config(**settings, training_share=0.25)) == {"retraining": {"share": 0.25}}
    assert plan_of_training(tiny_config(**settings, training_share=0.0)) == {}
    assert plan_of_training(tiny_config(retrain=False, budget="1h")) == {}
    assert plan_of_training(tiny_config(retrain=True)) == {}


def test_a_training_that_is_asked_for_later_is_whole(tmp_path):
    with pytest.raises(SystemExit):
        run_gradient(tiny_config(retrain=False, epochs=1000, budget="2s"), tmp_path / "run", Stopping("search", 1))
    result = resume_gradient(tmp_path / "run", changed={"retrain": True, "retrain_epochs": 3})
    assert "the budget is spent" in result.stopped
    assert {trained.epochs for trained in result.results.values()} == {3}


@pytest.mark.parametrize("config", [tiny_config, tiny], ids=["cells", "space"])
def test_a_run_that_is_stopped_in_its_training_goes_on_with_the_epochs_it_was_given(config, tmp_path, monkeypatch):
    settings = {"retrain": True, "retrain_epochs": 40, "epochs": 1000, "budget": "2s"}
    monkeypatch.setattr(retraining, "seconds_of_training", lambda *_, images: 20.0)
    with pytest.raises(SystemExit):
        run_gradient(config(**settings), tmp_path / "run", Stopping("retrain random", 2))
    kept = json.loads((tmp_path / "run" / "config.json").read_text())["retraining"]["epochs"]
    assert 1 <= kept < 40
    monkeypatch.setattr(retraining, "seconds_of_training", lambda *_, images: pytest.fail("measured again"))
    result = resume_gradient(tmp_path / "run")
    assert "% of the budget, the rest is for training, is spent" in result.stopped
    trained = [row for row in logged(tmp_path / "run") if row["kind"] == "retrain_epoch"]
    assert {row["label"]: row["epoch"] for row in trained} == {"derived": kept - 1, "random": kept - 1}
    assert set(result.results) == {"derived", "random"}
    again = nasfast.retrain_run(tmp_path / "run")  # of the same label: what it has been trained for
    assert again.epochs == kept


def stopped(tmp_path, stage, steps, **settings):
    with pytest.raises(SystemExit):
        run_gradient(tiny_config(retrain=True, retrain_epochs=3, **settings), tmp_path / "run", Stopping(stage, steps))
    return tmp_path / "run"


def test_other_settings_are_taken_until_a_training_begins(tmp_path):
    run = stopped(tmp_path, "search", 1)
    result = CliRunner().invoke(app, ["search", "--resume", str(run), "--retrain-epochs", "2", "--quiet"])
    assert result.exit_code == 0, result.output
    assert json.loads((run / "config.json").read_text())["search"]["retrain_epochs"] == 2


def test_a_training_that_has_begun_takes_no_other_settings_and_can_go_on(tmp_path):
    run_gradient(tiny_config(retrain=True, retrain_epochs=3), tmp_path / "whole")
    run = stopped(tmp_path, "retrain random", 1)
    before = (run / "config.json").read_bytes()
    with pytest.raises(
        RunError, match=r"has begun its retraining \(derived\), whose settings can no longer be changed"
    ):
        resume_gradient(run, changed={"retrain_epochs": 2})
    assert (run / "config.json").read_bytes() == before
    resume_gradient(run, changed={"retrain_epochs": 3})  # as it is
    assert_same_runs(tmp_path / "whole", run)


def test_epochs_that_are_named_later_are_taken_whatever_the_budget(tmp_path, monkeypatch):
    run = stopped(tmp_path, "search", 1, budget="1h", epochs=1)
    monkeypatch.setattr(retraining, "seconds_of_training", lambda *_, images: 1e9)
    resume_gradient(run, changed={"retrain_epochs": 2})
    kept = json.loads((run / "config.json").read_text())["retraining"]
    assert kept == {"share": 0.5, "epochs": 2, "batch_size": 256}
    assert sum(row["kind"] == "retrain_epoch" for row in logged(run)) == 4
