"""Children of a shared network on workers, each of which scores slices of the population."""

from contextlib import closing

import pytest

from nasfast.errors import ConfigError
from nasfast.report import build_report
from nasfast.runs.folder import RunFolder
from nasfast.search.blackbox.session import Session
from nasfast.search.oneshot.runner import resume_oneshot, run_oneshot
from nasfast.search.workers import LocalPool, TrialStore
from tests.helpers.oneshot_runs import assert_same_searches, tiny
from tests.helpers.runs import logged


def scores(run):
    return {row["arch"]: row["metrics"]["score"] for row in logged(run) if row["kind"] == "trial"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A search on two workers that was never stopped, and the jobs that they got."""
    path, jobs = tmp_path_factory.mktemp("shared") / "run", []
    with pytest.MonkeyPatch.context() as patch:
        submit = LocalPool.submit
        patch.setattr(LocalPool, "submit", lambda self, job: (jobs.append(job), submit(self, job))[1])
        run_oneshot(tiny(search="random", workers="2", threads=2), path)
    return path, jobs


def test_workers_get_slices_and_give_the_scores_of_one_process(shared, tmp_path):
    path, jobs = shared
    assert [len(job.rows) for job in jobs] == [3] * 8  # two slices of six that are out
    run_oneshot(tiny(search="random", threads=1), tmp_path / "alone")
    assert len(scores(path)) > 10
    alone = scores(tmp_path / "alone")
    common = set(alone) & set(scores(path))
    assert len(common) > 10  # the same random architectures
    for arch in common:
        assert scores(path)[arch] == pytest.approx(alone[arch], abs=1.1)  # of 288 images three, by rounding
    assert "Trials on workers" in build_report(path).read_text()


def test_killed_search_among_children_goes_on_with_the_same_bits(shared, tmp_path, monkeypatch):
    whole, _ = shared
    with monkeypatch.context() as patch:
        over = Session.over

        def stop(self):
            if self.search.ended >= 9:
                raise KeyboardInterrupt
            return over(self)

        patch.setattr(Session, "over", stop)
        with pytest.raises(KeyboardInterrupt):
            run_oneshot(tiny(search="random", workers="2", threads=2), tmp_path / "run")
    result = resume_oneshot(tmp_path / "run")
    assert (result.evaluations, result.failed) == (24, 0)
    assert_same_searches(whole, tmp_path / "run")
    with closing(TrialStore(RunFolder(tmp_path / "run").trials_path)) as store:
        assert all(len(record.attempts) == 1 for record in store.records())
    assert resume_oneshot(tmp_path / "run").was_finished


def test_options_of_workers_are_checked():
    with pytest.raises(ConfigError, match="--workers must be a number, ray, or ray and a number"):
        tiny(workers="many")
