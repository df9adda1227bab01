"""Every space with every strategy and every estimator: it runs on the digits, or one line says why not.

The table of routes is checked whole. Searches run for every pair of two of the three, and `make test` runs few of them.
"""

import itertools
import json

import pytest
from click.testing import CliRunner

from nasfast.cli.app import app
from nasfast.config.base import named_texts
from nasfast.errors import ConfigError, SpaceError
from nasfast.search import routing as routes
from nasfast.spaces.registry import SPACES, make_space
from nasfast.strategies.registry import MULTI_FIDELITY, STRATEGIES, plain_strategies

RUNNER = CliRunner()

TINY = {
    "nasbench201": ["channels=4", "cells=1"],
    "nasbench-macro": ["width=0.1"],
    "mobilenet": ["stages=8:1,8:2", "depths=1,2", "widths=1,1.5", "kernels=3", "expansions=1,2", "features=16"],
    "enas-macro": ["layers=3", "channels=4"],
    "enas-micro": ["layers=1", "channels=4"],
    "nasnet": ["layers=1", "channels=4", "steps=2"],
    "nasnet-macro": ["layers=3", "channels=4", "steps=1"],
    "darts": ["layers=1", "channels=4", "steps=2"],
}
"""Settings with which a run on the digits takes seconds."""

SHARED = ["--epochs", "1", "--batch-size", "575", "--calibration", "32", "--evaluations", "4", "--ask", "2"]
ENAS = ["--rewards", "2", "--reward-images", "16", "--set", "batch=2", "--set", "hidden=8"]
CELLS = [
    *("--epochs", "1", "--channels", "4", "--layers", "1", "--steps", "1", "--batch-size", "256"),
    *("--warmup-epochs", "0", "--retrain-epochs", "1", "--retrain-channels", "4", "--retrain-layers", "1"),
    *("--retrain-batch-size", "512"),
]
GRADIENT = [
    *("--epochs", "1", "--batch-size", "256", "--warmup-epochs", "0"),
    *("--retrain-epochs", "1", "--retrain-batch-size", "512"),
]

RUNS = [(names, found.runner) for names, found in routes.table() if found.runner]
REFUSED = [(names, found.reason) for names, found in routes.table() if not found.runner]


def pairs_of(names, runner):
    """What a run tries together."""
    space, strategy, estimator = names
    return few_of(names, runner) | {
        ("strategy in space", strategy, space),
        ("strategy, estimator", strategy, estimator),
    }


def few_of(names, runner):
    """The same where a strategy sees scores, whatever estimator and space they are of."""
    space, strategy, estimator = names
    return {("estimator in space", estimator, space), ("strategy in runner", strategy, runner)}


def reason_of(names, reason):
    return {reason, ("strategy", names[1]), ("estimator", names[2])}


def cover(cases, covers):
    """A few cases that cover together what all do, drawn greedily and in order."""
    left = set().union(*(covers(*case) for case in cases))
    chosen = []
    while left:
        chosen.append(max(cases, key=lambda case: len(covers(*case) & left)))
        left -= covers(*chosen[-1])
    return chosen


def marked(cases, few):
    """Cases as parameters: `slow`, but for a few."""
    return [pytest.param(*case, marks=() if case in few else pytest.mark.slow) for case in cases]


FEW_RUNS = cover(RUNS, few_of)
ALL_PAIRS = [*FEW_RUNS, *(case for case in cover(RUNS, pairs_of) if case not in FEW_RUNS)]


def label(value):
    return "-".join(part or "cells" for part in value) if isinstance(value, tuple) else ""


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A score for every architecture of the spaces that can be listed."""
    folder = tmp_path_factory.mktemp("tables")

    def path(name):
        file = folder / f"{name}.json"
        if not file.exists():
            space = make_space(name)
            rows = space.all_rows()
            scores = {space.decode(row): {"4": float(row[0]), "12": float(row.sum())} for row in rows}
            file.write_text(json.dumps(scores))
        return str(file)

    return path


def options(names, runner, tables):
    space, strategy, estimator = names
    given = ["search", "--strategy", strategy, "--quiet", "--threads", "1"]
    if space:
        given += ["--space", space, "--estimator", estimator]
    if estimator == "zero-cost":
        sizes = itertools.chain(*(("--space-set", text) for text in TINY[space]))
        return [*given, *sizes, "--proxy", "naswot", "--proxy-images", "8", "--evaluations", "4"]
    if estimator in ("train", "extrapolate", "inherit"):
        sizes = itertools.chain(*(("--space-set", text) for text in TINY[space]))
        few = [
            "--epochs",
            "4" if estimator == "extrapolate" else "3" if strategy in MULTI_FIDELITY else "1",
            "--batch-size",
            "16",
            "--fidelity-images",
            "0.02",
            "--evaluations",
            "3",
        ]
        heirs = {"morphism-hill-climbing": [], "morphism-evolution": ["--set", "population=1"]}
        heirs["lamarckian"] = ["--set", "population=2"]
        own = {"inherit": ["--first-epochs", "1", *heirs.get(strategy, [])], "extrapolate": ["--observe", "3"]}
        return [*given, *sizes, *few, *own.get(estimator, [])]
    if runner == "blackbox":
        return [*given, "--table", tables(space), "--evaluations", "12"]
    if runner == "oneshot":
        given += [*SHARED, *itertools.chain(*(("--space-set", text) for text in TINY[space]))]
        return [*given, *ENAS] if strategy == "enas" else given
    if runner == "gradient":
        return [*given, *GRADIENT, *itertools.chain(*(("--space-set", text) for text in TINY[space]))]
    return [*given, *CELLS]


@pytest.mark.parametrize(("names", "runner"), marked(ALL_PAIRS, FEW_RUNS), ids=label)
def test_runs_end_to_end(names, runner, tables, tmp_path):
    run = tmp_path / "run"
    result = RUNNER.invoke(app, [*options(names, runner, tables), "--out", str(run)])
    assert result.exit_code == 0, result.output
    assert str(run / "report.html") in result.stdout
    page = (run / "report.html").read_text()
    assert "</html>" in page
    if runner == "cells":
        assert (run / "genotype.json").is_file()
        return
    assert "Leaderboard" in page
    if runner == "gradient":
        found = json.loads((run / "architectures.json").read_text())
        assert found["space"] == names[0]
        assert found["architectures"]["derived"]["arch"] in result.stdout
        return
    assert 'class="chart scatter"' in page  # the front
    found = json.loads((run / "architectures.json").read_text())
    assert found["space"] == names[0]
    assert found["best"]["arch"] in result.stdout
    key = {"blackbox": "blackbox", "oneshot": "oneshot"}[runner]
    assert key in json.loads((run / "config.json").read_text())


@pytest.mark.parametrize(("names", "reason"), marked(REFUSED, cover(REFUSED, reason_of)), ids=label)
def test_refusals_say_why_in_one_line(names, reason, tmp_path):
    space, strategy, estimator = names
    given = ["search", "--strategy", strategy, "--estimator", estimator, "--out", str(tmp_path / "run")]
    result = RUNNER.invoke(app, given + (["--space", space] if space else []))
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0] == f"nasfast: error: --strategy {strategy} {reason}"
    assert len(reason) > 20
    assert not (tmp_path / "run").exists()


def test_runs_cover_every_pair_and_few_of_them_every_part():
    def covered(cases, covers):
        return set().union(*(covers(*case) for case in cases))

    assert covered(ALL_PAIRS, pairs_of) == covered(RUNS, pairs_of)
    assert covered(FEW_RUNS, few_of) == covered(RUNS, few_of)
    assert len(FEW_RUNS) < len(RUNS) / 5
    assert {runner for _, runner in FEW_RUNS} == {"cells", "gradient", "blackbox", "oneshot"}
    assert {strategy for (_, strategy, _), _ in ALL_PAIRS} == {strategy for (_, strategy, _), _ in RUNS}


def test_the_table_is_whole():
    walked = [names for names, _ in routes.table()]
    assert len(walked) == len(set(walked))
    assert {space for space, _, _ in walked} == {"", *SPACES}
    assert {strategy for _, strategy, _ in walked} >= {*STRATEGIES, "spos", "fairnas", "enas", "darts", "pcdarts"}
    assert set(TINY) == set(SPACES)
    for name, texts in TINY.items():
        make_space(name, named_texts("--space-set", texts))


@pytest.mark.parametrize("strategy", ["spos", "fairnas", "enas", *plain_strategies()])
@pytest.mark.parametrize("space", SPACES)
def test_every_space_is_searched_with_a_shared_network(space, strategy):
    assert routes.route(space, strategy, "oneshot").runner == "oneshot"


def test_every_refusal_has_a_reason_of_one_line():
    """The whole table; the command says it of a few, and of all of them among the slow tests."""
    assert len(REFUSED) + len(RUNS) == len(list(routes.table()))
    for names, reason in REFUSED:
        assert len(reason) > 20, names
        assert "\n" not in reason, names


def test_unknown_names_are_named():
    with pytest.raises(ConfigError, match=r"--estimator must be one of table, oneshot, zero-cost, .*, got 'oracle'"):
        routes.route("darts", "spos", "oracle")
    with pytest.raises(ConfigError, match=r"--strategy must be one of .*, got 'foo'"):
        routes.route("darts", "foo")
    with pytest.raises(SpaceError, match="unknown space 'foo'"):
        routes.route("foo", "spos")
    with pytest.raises(SpaceError, match="darts has no setting 'foo'"):
        routes.route("darts", "spos", "", {"foo": "1"})


def test_a_small_space_may_have_a_table_where_its_published_size_may_not():
    settings = {"layers": "3"}
    assert routes.route("enas-macro", "random", "table").runner is None
    assert routes.route("enas-macro", "random", "table", settings).runner == "blackbox"
