"""Search by network morphism against training every candidate from scratch, at equal cost, on noisy digits.

    python -m bench.estimators morphism --json OUT.json --plot OUT.svg

All searches see the same images, the same space (mobilenet, by default with one block a stage, so that architectures
differ: `--space`) and get the same cost, counted in multiply-adds of training: forward, and twice as many backward, and
forward on the held-out images. From scratch train

- random search and regularized evolution, whose candidates are of any size;
- the strategies by morphism themselves, which begin with the smallest network and grow it: what is then left of the
  difference comes from the weights that children inherit, not from where the search begins;
- no search at all: the smallest network, the largest, or a drawn one, once, for as many epochs as the cost allows.

Each does so with few and with many epochs a candidate. What is reported is the network that is best on the held-out
images when the cost is used up, as it was trained, on the test images, which no search looks at. Noise on the images
keeps the task from being solved by every network. The bench exits with 1 where a search by morphism does not lead all
of them: the best search from scratch, the same search from scratch, and the best single training.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from bench import environment
from bench.arguments import IN_PERCENT, progress, write_json
from bench.morphism_plot import draw
from bench.tables import section
from nasfast.data import DataSet, load_data
from nasfast.errors import ConfigError
from nasfast.estimators.base import WarmStartEstimator
from nasfast.estimators.candidates import load_candidate
from nasfast.estimators.inherit import InheritEstimator
from nasfast.estimators.train import Fidelity, TrainEstimator, TrainSettings
from nasfast.spaces.base import Rows, Space
from nasfast.spaces.registry import DIGITS, make_space
from nasfast.strategies.base import Strategy
from nasfast.strategies.blackbox.evolution import RegularizedEvolution
from nasfast.strategies.blackbox.morphism import MorphismEvolution, MorphismHillClimbing
from nasfast.strategies.blackbox.random_search import RandomSearch
from nasfast.training.evaluate import evaluate_network
from nasfast.training.space_network import WholeNetwork

FIRST_EPOCHS, CHILD_EPOCHS = 10, 8
MORPHISMS = 3  # of a child: with one at a time the networks stay small
SCRATCH_EPOCHS = (8, 16, 32)
INHERITS = ("evolution by morphism", "hill climbing by morphism")
SEARCHES = ("random search", "regularized evolution", *INHERITS)
SCRATCH = tuple(f"{kind}, from scratch, {epochs} epochs" for kind in SEARCHES for epochs in SCRATCH_EPOCHS)
SINGLE = tuple(f"one training of {which}" for which in ("the smallest", "the largest", "a drawn one"))
NAMES = (*INHERITS, *SCRATCH, *SINGLE)

SPACES = {
    "shallow": {
        **DIGITS["mobilenet"],
        "stages": "8:1,8:2,8:2", "depths": "1", "widths": "1,2,4,6", "kernels": "1,3", "expansions": "1,2,4,8",
        "features": "16",
    },
    "digits": DIGITS["mobilenet"],
}  # fmt: skip
"""Settings of mobilenet. "shallow": networks differ by tens of points, and by 123 times in cost. "digits": as
`nasfast search --data digits` takes it; nearly any network is good."""

LR = 0.1
HELD_OUT = 0.4  # of the train images: enough of them to tell networks apart that are nearly as good
NOISE = 0.4  # standard deviation, in units of the pixels' range
SHARES = (0.25, 0.5, 1.0)
COST = 2e10
_MOST_REJECTED = 1000  # first candidates that cost more than all


@dataclass
class Found:
    """One search: after every training the cost so far, and accuracies in percent of the best network so far."""

    cost: list[float]
    valid: list[float]
    test: list[float]

    def at(self, cost: float, what: str) -> float:
        """``what`` ("valid" or "test") when so much was used up; NaN before the first training ended."""
        done = int(np.searchsorted(self.cost, cost, side="right"))
        values: list[float] = getattr(self, what)
        return values[done - 1] if done else float("nan")


def noisy_digits(seed: int) -> DataSet:
    """The digits with normal noise on every pixel."""
    data, generator = load_data("digits"), torch.Generator().manual_seed(seed)

    def noisy(images: torch.Tensor) -> torch.Tensor:
        added = images.float() + 255 * NOISE * torch.randn(images.shape, generator=generator)
        return added.round().clamp(0, 255).to(images.dtype)

    return replace(data, train_images=noisy(data.train_images), test_images=noisy(data.test_images))


def single_row(name: str, space: Space, seed: int) -> Rows:
    """The row of one of SINGLE."""
    most = np.array(space.sizes, np.int64) - 1
    drawn = space.sample(np.random.default_rng(seed), 1)[0]
    return (np.zeros_like(most), most, drawn)[SINGLE.index(name)]


def make_strategy(kind: str, space: Space) -> Strategy:
    """One of SEARCHES, not yet started."""
    begin = space.decode(np.zeros(len(space.sizes), np.int64))  # the smallest network
    if kind == INHERITS[0]:
        return MorphismEvolution(2, 2, begin=begin, morphisms=MORPHISMS)
    if kind == INHERITS[1]:
        return MorphismHillClimbing(2, begin=begin, morphisms=MORPHISMS)
    return RandomSearch() if kind == SEARCHES[0] else RegularizedEvolution(4, 2)


class Once(RandomSearch):
    """No search: the same row, and that once."""

    def __init__(self, row: Rows) -> None:
        self.row = row

    def ask(self, count: int) -> Rows:
        return np.stack([self.row] * count)


def make_search(
    name: str, space: Space, data: DataSet, folder: Path, seed: int, budget: float
) -> tuple[Strategy, TrainEstimator]:
    """The strategy and the estimator of one of NAMES."""
    settings = TrainSettings(batch_size=64, lr=LR, held_out=HELD_OUT, seed=seed)
    kind, _, epochs = name.partition(", from scratch, ")
    if name in SINGLE:
        row = single_row(name, space, seed)
        most = epochs_within(TrainEstimator(space, data, folder, settings), row, budget)
        if not most:
            raise ConfigError(f"--cost {budget:g} is less than one epoch of {name.removeprefix('one training of ')}")
        fidelity = Fidelity(epochs=most)
        return Once(row).init(space, seed), TrainEstimator(space, data, folder, settings, fidelity)
    strategy = make_strategy(kind, space).init(space, seed)
    if epochs:
        return strategy, TrainEstimator(space, data, folder, settings, Fidelity(epochs=int(epochs.split()[0])))
    assert isinstance(strategy, (MorphismEvolution, MorphismHillClimbing))
    return strategy, InheritEstimator(space, data, folder, settings, Fidelity(epochs=CHILD_EPOCHS), FIRST_EPOCHS)


def epochs_within(estimator: TrainEstimator, row: Rows, budget: float) -> int:
    """How many epochs of a row's training a cost allows, with the test at its end; 0: none."""
    one, two = (estimator.training_cost(row, epochs) for epochs in (1, 2))
    return int((budget - one) / (two - one)) + 1 if budget >= one else 0


def search(name: str, space: Space, data: DataSet, seed: int, budget: float) -> Found:
    """Search until the next training would cost more than is left.

    A first candidate that costs more than all is not trained, and the strategy is told.
    """
    found, best = Found([], [], []), -1.0
    with tempfile.TemporaryDirectory() as folder:
        strategy, estimator = make_search(name, space, data, Path(folder), seed, budget)
        tested = replace(estimator.data, test_images=data.test_images, test_labels=data.test_labels)
        used, test, rejected = 0.0, 0.0, 0
        while True:
            rows = strategy.ask(1)
            if isinstance(estimator, WarmStartEstimator):
                key = tuple(rows[0].tolist())
                estimator.note_ancestors(key, strategy.ancestors_of(key, strategy.seen.__contains__))
            cost = estimator.cost(rows[0])
            if not found.cost and cost > budget and rejected < _MOST_REJECTED:
                rejected += 1
                strategy.tell(rows, np.array([[np.nan]]), np.ones(1))
                continue
            used += cost
            if used > budget:
                return found
            score = estimator.estimate(rows)[0].score
            strategy.tell(rows, np.array([[score]]))
            if score > best:
                best = score
                network = load_candidate(space, rows[0], estimator.path_of(rows[0]), data.num_classes, data.channels)
                test = 100 * evaluate_network(WholeNetwork(network), tested)[0]
            found.cost.append(used)
            found.valid.append(100 * best)
            found.test.append(test)


def _search_alone(task: tuple[str, str, int, float]) -> Found:
    """One search in a process of its own, on one thread."""
    space, name, seed, budget = task
    torch.set_num_threads(1)
    return search(name, make_space("mobilenet", SPACES[space]), noisy_digits(seed), seed, budget)


def ends(found: list[Found], cost: float, what: str) -> np.ndarray:
    """``what`` at so much cost, by seed."""
    return np.array([run.at(cost, what) for run in found])


def lead(results: dict[str, list[Found]], budget: float, name: str, rival: str) -> tuple[float, float]:
    """By how many points of test accuracy a search is ahead of another, over the same seeds: mean, standard error."""
    ahead = ends(results[name], budget, "test") - ends(results[rival], budget, "test")
    return float(ahead.mean()), float(ahead.std(ddof=1) / np.sqrt(len(ahead)))


def verdicts(results: dict[str, list[Found]], budget: float) -> dict[str, dict[str, float | str]]:
    """Each search by morphism against rivals from scratch, the best by test accuracy where there are several."""

    def best(names: tuple[str, ...]) -> str:
        return max(names, key=lambda name: float(np.nan_to_num(ends(results[name], budget, "test")).mean()))

    found: dict[str, dict[str, float | str]] = {}
    for name in INHERITS:
        own = tuple(other for other in SCRATCH if other.startswith(name))
        found[name] = {}
        for what, rival in (("search", best(SCRATCH)), ("itself", best(own)), ("single", best(SINGLE))):
            mean, error = lead(results, budget, name, rival)
            found[name] |= {what: rival, f"lead over {what}": mean, f"error over {what}": error}
    return found


def misses(judged: dict[str, dict[str, float | str]]) -> list[str]:
    """Searches by morphism that do not lead each of their rivals by more than the standard error."""
    kinds = ("search", "itself", "single")
    return [
        name for name, v in judged.items()
        if not all(float(v[f"lead over {kind}"]) > float(v[f"error over {kind}"]) for kind in kinds)
    ]  # fmt: skip


def print_results(results: dict[str, list[Found]], budget: float, judged: dict[str, dict[str, float | str]]) -> None:
    def spread(runs: list[Found], what: str, share: float) -> str:
        values = ends(runs, share * budget, what)
        return "-" if np.isnan(values).any() else f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"

    rows = [
        [name, *(spread(runs, "test", share) for share in SHARES), spread(runs, "valid", 1.0),
         f"{np.mean([len(run.cost) for run in runs]):.0f}"]
        for name, runs in results.items()
    ]  # fmt: skip
    header = ["", *(f"test, {100 * share:.0f} %" for share in SHARES), "held out, 100 %", "trainings"]
    seeds = len(results[INHERITS[0]])
    print(section(f"Accuracy in % after shares of the cost, mean ± standard deviation of {seeds} seeds", header, rows))
    table = [
        [name, *(f"{v[f'lead over {what}']:+.2f} ± {v[f'error over {what}']:.2f} ({v[what]})"
                 for what in ("search", "itself", "single"))]
        for name, v in judged.items()
    ]  # fmt: skip
    title = "Lead at the end, points of test accuracy ± standard error"
    print(section(title, ["", "over the best search from scratch", "itself from scratch", "one training"], table))


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.estimators morphism", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--space", choices=SPACES, default="shallow", help="settings of mobilenet (default shallow)")
    parser.add_argument("--cost", type=float, default=COST, help=f"multiply-adds of each search (default {COST:g})")
    parser.add_argument("--jobs", type=int, default=1, help="searches at a time, each on one thread")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", default=Path("runs/bench/morphism.svg"), help="svg or png")
    options = parser.parse_args(arguments)
    if options.seeds < 2 or options.jobs < 1 or not options.cost > 0:
        parser.error("--seeds must be at least 2, --jobs at least 1, --cost above 0")
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    facts, started = environment.describe("cpu", 1), time.monotonic()
    tasks = [(options.space, name, seed, options.cost) for seed in range(options.seeds) for name in NAMES]
    results: dict[str, list[Found]] = {name: [] for name in NAMES}
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        for i, ((_, name, seed, _), found) in enumerate(zip(tasks, pool.map(_search_alone, tasks), strict=True)):
            results[name].append(found)
            progress(i + 1, len(tasks), f"seed {seed}, {name}")
    judged = verdicts(results, options.cost)
    print_results(results, options.cost, judged)
    draw(options.plot, {n: [asdict(f) for f in runs] for n, runs in results.items()}, INHERITS, options.cost)
    settings = {
        "space": options.space, "cost": options.cost, "first epochs": FIRST_EPOCHS, "child epochs": CHILD_EPOCHS,
        "lr": LR, "morphisms": MORPHISMS, "held out": HELD_OUT, "noise": NOISE, "seeds": options.seeds,
    }  # fmt: skip
    searches = {name: [asdict(found) for found in runs] for name, runs in results.items()}
    write_json(
        options.json,
        IN_PERCENT
        | {"environment": facts, "seconds": round(time.monotonic() - started), "settings": settings,
         "verdicts": judged, "searches": searches},
    )  # fmt: skip
    missed = misses(judged)
    if missed:
        print(
            f"bench.estimators morphism: does not lead what trains from scratch: {', '.join(missed)}", file=sys.stderr
        )
    return 1 if missed else 0
