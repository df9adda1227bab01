"""Files of runs that are cut, emptied, deleted, or have a bit turned: the same result, or one line of an error."""

import itertools
import json
import random
import re
import shutil
from dataclasses import replace

import pytest

import nasfast
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.errors import NasfastError
from nasfast.estimators.base import Estimate
from nasfast.estimators.table import TableEstimator
from nasfast.report.build import build_report
from nasfast.runs.metrics import MetricsLog
from nasfast.search.blackbox.runner import run_blackbox
from nasfast.search.gradient.runner import run_gradient
from nasfast.search.oneshot.runner import run_oneshot
from nasfast.spaces.nasbench_macro import NASBenchMacro
from nasfast.utils.progress import Progress
from tests.helpers.oneshot_runs import tiny
from tests.helpers.runs import tiny_config, without_times

SPACE = NASBenchMacro()
UNREAD = {"report.html", ".lock"}
"""Files that nasfast writes and never reads, besides those of TensorBoard and what workers print."""


def cut(share):
    def damage(path, generator):
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return damage


def shorter(path, generator):
    path.write_bytes(path.read_bytes()[: -generator.randint(1, 40)])


def flip(path, generator):
    content = bytearray(path.read_bytes())
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content)


def delete(path, generator):
    path.unlink()


DAMAGES = {"empty": cut(0), "half": cut(0.5), "shorter": shorter, "delete": delete}
FLIPS = {f"flip {number}": flip for number in range(4)}


class Interrupted(Progress):
    """Breaks off like Ctrl-C where a search says that it is so far."""

    def __init__(self, steps):
        super().__init__(quiet=True)
        self.left = steps

    def stage(self, name, total, done=0, unit="step"):
        context = super().stage(name, total, done, unit)
        enter = type(context).__enter__
        outer = self

        class Counting:
            def __enter__(self):
                stage = enter(context)
                advance = stage.advance

                def count(*arguments, **named):
                    # Whoever waits for a worker says so now and then; how often depends on the machine.
                    done = arguments[0] if arguments else named.get("count", 1)
                    outer.left -= bool(done)
                    if done and not outer.left:
                        raise KeyboardInterrupt
                    advance(*arguments, **named)

                stage.advance = count
                return stage

            def __exit__(self, *error):
                return context.__exit__(*error)

        return Counting()


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "table.json"
    rows = itertools.product(range(3), repeat=8)
    path.write_text(json.dumps({"".join(map(str, row)): sum(d * (9 - p) for p, d in enumerate(row)) for row in rows}))
    return path


class Digits:
    """An estimator of one's own, for searches on workers that take no time."""

    name = "digits"

    def estimate(self, rows, fidelity=None):
        return [Estimate(float(sum(row)), {}) for row in rows.tolist()]


def by_table(table, **settings):
    base = {"space": "nasbench-macro", "table": str(table), "evaluations": 12, "checkpoint_seconds": 0, "threads": 1}
    return BlackBoxConfig.of(base | {"set": ["population=3", "sample=2"]} | settings)


def make_gradient(path, table, monkeypatch):
    run_gradient(tiny_config(epochs=1, retrain_epochs=1), path)


def make_oneshot(path, table, monkeypatch):
    run_oneshot(tiny(epochs=1, evaluations=6), path)


def make_retrained_oneshot(path, table, monkeypatch):
    run_oneshot(tiny(epochs=1, evaluations=6, retrain=True), path)


def make_table(path, table, monkeypatch):
    run_blackbox(by_table(table), path)


def by_worker():
    settings = {"space": "nasbench-macro", "evaluations": 6, "workers": "1", "threads": 1, "estimator": "train"}
    return replace(BlackBoxConfig.of(settings | {"checkpoint_seconds": 0}), space_set=())


def make_workers(path, table, monkeypatch):
    run_blackbox(by_worker(), path, space=SPACE, estimator=Digits())


def stop_workers(path, table, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run_blackbox(by_worker(), path, Interrupted(5), space=SPACE, estimator=Digits())


def make_study(path, table, monkeypatch):
    curves = table.with_name("curves.json")
    scores = json.loads(table.read_text())
    curves.write_text(json.dumps({arch: {"3": score / 2, "9": score} for arch, score in scores.items()}))
    config = by_table(curves, strategy="asha", evaluations=12, set=[])
    stop_a_lookup(config, path, monkeypatch)


def stop_table(path, table, monkeypatch):
    stop_a_lookup(by_table(table), path, monkeypatch)


def stop_a_lookup(config, path, monkeypatch):
    estimate, calls = TableEstimator.estimate, []

    def stop(self, rows, fidelity=None):
        calls.append(fidelity)
        if len(calls) > 7:
            raise KeyboardInterrupt
        return estimate(self, rows, fidelity)

    with monkeypatch.context() as patch:
        patch.setattr(TableEstimator, "estimate", stop)
        with pytest.raises(KeyboardInterrupt):
            run_blackbox(config, path)


def stop_gradient(path, table, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run_gradient(tiny_config(epochs=2, retrain=False), path, Interrupted(8))


def stop_retraining(path, table, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run_gradient(tiny_config(epochs=1, retrain_epochs=2), path, Interrupted(14))
    assert (path / "genotype.json").is_file()
    assert (path / "retrain-derived.pt").is_file()


def stop_oneshot(path, table, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run_oneshot(tiny(epochs=2, evaluations=6, retrain=False), path, Interrupted(8))


def resume(run):
    own = {"space": SPACE, "estimator": Digits()} if (run / "trials.sqlite").exists() else {}
    lines = [
        re.sub(r"^((?:best|derived|random) .*) [\d.]+$", r"\1", line) for line in nasfast.resume_run(run, **own).lines()
    ]
    rows = without_times(list(MetricsLog(run / "metrics.jsonl").rows()))
    # What is trained again, because its weights are gone, is logged again, after the others.
    trained = sorted((row for row in rows if "label" in row), key=json.dumps)
    return lines, [row for row in rows if "label" not in row], trained


def report(run):
    return build_report(run).read_text()


def evaluate(run):
    return nasfast.evaluate_model(run, label="derived" if (run / "genotype.json").is_file() else "best")


def outcome(action, run):
    """What an action gives, or the line of its error."""
    try:
        return action(run)
    except NasfastError as error:
        return error


KINDS = {
    "gradient": (make_gradient, [report, evaluate, resume]),
    "oneshot": (make_oneshot, [report, resume]),
    "oneshot, retrained": (make_retrained_oneshot, [report, evaluate, resume]),
    "table": (make_table, [report, resume]),
    "workers": (make_workers, [report, resume]),
    "study, stopped": (make_study, [resume]),
    "table, stopped": (stop_table, [resume]),
    "gradient, stopped": (stop_gradient, [resume]),
    "oneshot, stopped": (stop_oneshot, [resume]),
    "workers, stopped": (stop_workers, [resume]),
    "training, stopped": (stop_retraining, [resume]),
}
ONLY = {"training, stopped": "retrain-"}
"""The files whose damage is a kind's own matter: that of the others is the same in a kind whose runs are shorter."""


@pytest.mark.parametrize("kind", KINDS)
def test_damage_never_gives_another_result(kind, table, tmp_path, monkeypatch):
    make, actions = KINDS[kind]
    run, kept, generator = tmp_path / "run", tmp_path / "kept", random.Random(len(kind))
    make(run, table, monkeypatch)
    shutil.move(run, kept)

    def after(damage=None, name=""):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(kept, run)
        if damage is not None:
            damage(run / name, generator)
        return [outcome(action, run) for action in actions]

    expected = after()
    assert not any(isinstance(found, NasfastError) for found in expected), expected
    names = sorted(path.name for path in kept.iterdir() if path.is_file() and path.name not in UNREAD)
    assert {"config.json", "metrics.jsonl", "metrics.jsonl.end", "checkpoint.pt"} <= set(names)
    names = [name for name in names if name.startswith(ONLY.get(kind, ""))]
    refused, lines, wrong = set(), [], []
    for name, (what, damage) in itertools.product(names, (DAMAGES | FLIPS).items()):
        for action, found, right in zip(actions, after(damage, name), expected, strict=True):
            if isinstance(found, NasfastError):
                refused.add(name)
                lines.append(str(found))
            elif (what, name, action) == ("delete", "genotype.json", report):
                assert "No genotype was derived yet" in found
            elif what == "delete" and name.startswith("mistakes-") and action is report:
                assert f"{name} is missing" in found
            elif found != right:
                wrong.append(f"{action.__name__} after {what} of {name}: {found!r:.300}")
    assert not wrong, "\n".join(wrong)
    assert not [line for line in lines if "\n" in line]
    assert refused >= {"config.json", "metrics.jsonl"} & set(names)
    assert refused
