"""Derived networks and their training: structure, drop path, inherited weights, resume, and what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nasfast.data import DataSet, load_data
from nasfast.errors import ConfigError, DataError, RunError, ShapeError
from nasfast.kernels.primitives import PRIMITIVES
from nasfast.runs.checkpoint import load_checkpoint
from nasfast.runs.folder import RunFolder
from nasfast.spaces.darts import random_genotype
from nasfast.spaces.genotype import Genotype
from nasfast.spaces.genotype_network import DerivedCell, DerivedNetwork, count_parameters, drop_path, inherit_weights
from nasfast.supernets import SearchNetwork
from nasfast.training.config import RetrainConfig
from nasfast.training.evaluate import TrainError, evaluate
from nasfast.training.genotype_trainer import retrain
from nasfast.training.model_file import load_model, model_path
from nasfast.training.trainer import Trainer
from nasfast.utils.progress import Progress, Stage
from tests.helpers.chance import chance
from tests.helpers.paths import ROOT

DARTS_V2 = Genotype.parse(
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)
TINY = RetrainConfig(channels=4, layers=3, epochs=3, batch_size=32, lr=0.05, seed=5)


@pytest.fixture(scope="module")
def digits() -> DataSet:
    data = load_data("digits")
    return replace(
        data,
        train_images=data.train_images[:128],
        train_labels=data.train_labels[:128],
        test_images=data.test_images[:64],
        test_labels=data.test_labels[:64],
    )


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunFolder]:
    with RunFolder.create(tmp_path / "run", {}) as folder:
        yield folder


@contextmanager
def _reopened(run: RunFolder) -> Iterator[RunFolder]:
    run.close()
    with RunFolder.open(run.path) as again:
        yield again


class _Watcher(Progress, Stage):
    """Progress that acts when a given step is done."""

    def __init__(self, step: int, action: Any) -> None:
        super().__init__(quiet=True)
        self.left, self.action = step, action

    @contextmanager
    def stage(self, name: str, total: int, done: int = 0, unit: str = "step") -> Iterator[Stage]:
        yield self

    def advance(self, count: int = 1, note: str | None = None) -> None:
        self.left -= count
        if self.left == 0:
            self.action()


# Published: 3.3 M (DARTS, second order), counted by the public code as 3.349342 MB without the auxiliary head.
def test_parameters_of_the_published_network() -> None:
    network = DerivedNetwork(36, 10, 20, True, DARTS_V2)
    assert count_parameters(network) == 3_349_342
    names = network.state_dict().keys()
    for name in ("stem.0.weight", "cells.0.preprocess0.op.1.weight", "cells.1._ops.0.op.6.weight", "classifier.bias"):
        assert name in names
    assert "cells.7.preprocess0.conv_2.weight" in names  # after a reduction
    assert "auxiliary_head.features.5.weight" in names


@pytest.mark.parametrize(("size", "layers"), [((8, 8), 3), ((32, 32), 5), ((16, 24), 4), ((64, 64), 2)])
def test_forward_shapes(size: tuple[int, int], layers: int) -> None:
    genotype = random_genotype(torch.Generator().manual_seed(layers))
    network = DerivedNetwork(4, 7, layers, True, genotype, in_channels=2, drop_path_prob=0.3)
    x = torch.randn(3, 2, *size)
    logits, auxiliary = network(x)
    assert logits.shape == (3, 7)
    assert auxiliary is not None
    assert auxiliary.shape == (3, 7)
    logits, auxiliary = network.eval()(x)
    assert logits.shape == (3, 7)
    assert auxiliary is None


def test_every_primitive_can_be_derived() -> None:
    names = ("none", "sep_conv_7x7", "conv_7x1_1x7", "sep_conv_5x5", "dil_conv_5x5", "dil_conv_3x3", "avg_pool_3x3")
    edges = tuple((name, i % 2) for i, name in enumerate((*names, "max_pool_3x3")))
    network = DerivedNetwork(4, 3, 3, False, Genotype(edges, (2, 3, 4, 5), edges, (4, 5)))
    logits, _ = network(torch.randn(2, 3, 8, 8))
    logits.sum().backward()
    assert logits.isfinite().all()


def test_auxiliary_head_refuses_maps_it_cannot_pool(digits: DataSet, run: RunFolder) -> None:
    network = DerivedNetwork(4, 10, 3, True, DARTS_V2)
    with pytest.raises(ShapeError, match="at least 2x2, got 1x1"):
        network(torch.randn(2, 3, 4, 4))
    small = replace(digits, train_images=digits.train_images[:, :4, :4], test_images=digits.test_images[:, :4, :4])
    with pytest.raises(ConfigError, match="at least 8x8 pixels, got 4x4; train without it"):
        retrain(DARTS_V2, small, run, TINY)
    odd = replace(digits, train_images=digits.train_images[:, :7], test_images=digits.test_images[:, :7])
    with pytest.raises(ConfigError, match=r"images of 7x8 pixels .* expected multiples of 4"):
        retrain(DARTS_V2, odd, run, TINY)
    assert not list(run.path.glob("retrain*"))


def test_drop_path_drops_whole_samples_at_its_rate_and_keeps_the_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    out = drop_path(torch.ones(20_000, 2, 1, 1), 0.3, generator)
    assert out.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert torch.equal(out[:, 0], out[:, 1])
    assert (out == 0).float().mean().item() == pytest.approx(0.3, abs=0.012)
    assert out.mean().item() == pytest.approx(1.0, abs=0.02)


def test_drop_path_never_drops_identities_and_is_off_in_eval() -> None:
    skips = Genotype((("skip_connect", 0), ("skip_connect", 1)), (2,), (("skip_connect", 0), ("skip_connect", 1)), (2,))
    convs = Genotype((("sep_conv_3x3", 0), ("sep_conv_3x3", 1)), (2,), (("skip_connect", 0), ("skip_connect", 1)), (2,))
    x = torch.randn(8, 4, 6, 6)
    for genotype, changes in ((skips, False), (convs, True)):
        cell = DerivedCell(genotype, 4, 4, 4, False, False)
        assert torch.equal(cell(x, x, 0.9), cell(x, x, 0.0)) != changes
        assert torch.equal(cell.eval()(x, x, 0.9), cell(x, x, 0.0))


def _search_network(C: int = 4, layers: int = 3, partial: bool = False) -> SearchNetwork:
    torch.manual_seed(1)
    network = SearchNetwork(C, 10, layers, fused=False, partial=partial)
    network(torch.randn(8, 3, 8, 8))  # so that the running statistics are no longer the initial ones
    return network


def test_inherited_operations_compute_what_the_supernet_computed() -> None:
    search = _search_network().eval()
    genotype = random_genotype(torch.Generator().manual_seed(3), primitives=PRIMITIVES[3:])  # without pools
    derived = DerivedNetwork(4, 10, 3, True, genotype).eval()
    copied = inherit_weights(derived, genotype, search.state_dict())
    assert copied > 50
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(derived.stem(x), search.stem(x))
    for ours, theirs in zip(derived.cells, search.cells, strict=True):
        edges = genotype.reduce if ours.reduction else genotype.normal
        assert ours.reduction == theirs.reduction
        first = 0
        for position, (name, source) in enumerate(edges):
            node = position // 2
            first = sum(2 + i for i in range(node))
            mixed = theirs._ops[first + source]
            h = torch.randn(2, mixed.channels, 8, 8)
            torch.testing.assert_close(ours._ops[position](h), mixed._ops[PRIMITIVES.index(name)](h))
    assert torch.equal(derived.classifier.weight, search.classifier.weight)


def test_inherited_weights_must_fit() -> None:
    state = _search_network().state_dict()
    derived = DerivedNetwork(8, 10, 3, False, DARTS_V2)
    with pytest.raises(ConfigError, match=r"stem.0.weight is \[24, 3, 3, 3\], the search network has \[12, 3, 3, 3\]"):
        inherit_weights(derived, DARTS_V2, state)
    with pytest.raises(ConfigError, match="has 4 layers, the search network 3"):
        inherit_weights(DerivedNetwork(4, 10, 4, False, DARTS_V2), DARTS_V2, state)
    with pytest.raises(ConfigError, match="sep_conv_3x3 was no candidate"):
        inherit_weights(DerivedNetwork(4, 10, 3, False, DARTS_V2), DARTS_V2, state, PRIMITIVES[:4])
    partial = _search_network(partial=True).state_dict()
    with pytest.raises(ConfigError, match="expected the channels"):
        inherit_weights(DerivedNetwork(4, 10, 3, False, DARTS_V2), DARTS_V2, partial)


def _rows(run: RunFolder, kind: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.metrics.rows() if row["kind"] == kind]


def test_retraining_learns_logs_and_keeps_its_weights(digits: DataSet, run: RunFolder) -> None:
    config = replace(TINY, epochs=16, channels=8, drop_path=0.0)
    result = retrain(DARTS_V2, digits, run, config)
    rows = _rows(run, "retrain_epoch")
    assert [row["epoch"] for row in rows] == list(range(16))
    assert rows[-1]["train_loss"] < 0.7 * rows[0]["train_loss"]
    assert rows[0]["lr"] == config.lr
    assert rows[8]["lr"] == pytest.approx(config.lr / 2)
    assert result.test_acc > 0.3
    assert result.params == count_parameters(DerivedNetwork(8, 10, 3, False, DARTS_V2))
    (logged,) = _rows(run, "result")
    assert logged["test_acc"] == result.test_acc
    assert Genotype.parse(logged["genotype"]) == DARTS_V2
    assert evaluate(run, digits) == pytest.approx((result.test_acc, result.test_loss))
    with _reopened(run) as again:
        assert retrain(DARTS_V2, digits, again, config) == result  # complete: nothing is trained again
        assert len(_rows(again, "retrain_epoch")) == 16


def test_inherited_training_starts_from_the_supernet(digits: DataSet, run: RunFolder) -> None:
    state = _search_network().state_dict()
    result = retrain(DARTS_V2, digits, run, replace(TINY, epochs=1, lr=1e-12), "inherited", state)
    assert result.inherited > 50
    model = load_model(run, "inherited")
    assert torch.allclose(model.network.stem[0].weight, state["stem.0.weight"], atol=1e-9)


def _assert_same_bits(a: RunFolder, b: RunFolder, label: str = "derived") -> None:
    states = [load_checkpoint(run.path / f"retrain-{label}.pt", "retrain") for run in (a, b)]
    for key in ("network", "optimizer", "sampler", "augmenter", "dropper", "sums", "step", "identity"):
        left, right = (_leaves(state[key]) for state in states)
        assert len(left) == len(right)
        assert all(
            torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(left, right, strict=True)
        )
    assert _rows(a, "retrain_epoch") == _rows(b, "retrain_epoch")
    assert _rows(a, "result") == _rows(b, "result")
    assert model_path(a, label).read_bytes() == model_path(b, label).read_bytes()


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for key in value for leaf in (key, *_leaves(value[key]))]
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


@pytest.mark.parametrize("step", [1, 6, 8])
def test_ctrl_c_saves_the_step_and_resumes_with_the_same_bits(
    digits: DataSet, run: RunFolder, tmp_path: Path, step: int
) -> None:
    stop = _Watcher(step, lambda: signal.raise_signal(signal.SIGINT))
    before = signal.getsignal(signal.SIGINT)  # ignored, where the tests run in a shell's background
    with pytest.raises(KeyboardInterrupt):
        retrain(DARTS_V2, digits, run, TINY, progress=stop)
    assert load_checkpoint(run.path / "retrain-derived.pt", "retrain")["step"] in (step, step + 1)
    assert signal.getsignal(signal.SIGINT) is before
    with _reopened(run) as again, RunFolder.create(tmp_path / "whole", {}) as whole:
        retrain(DARTS_V2, digits, again, TINY)
        retrain(DARTS_V2, digits, whole, TINY)
        _assert_same_bits(again, whole)


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
import torch
from tests.training.test_training import DARTS_V2, TINY, _Watcher, load_data
from dataclasses import replace
from nasfast.training.genotype_trainer import retrain
torch.set_num_threads(1)
data = load_data("digits")
data = replace(data, train_images=data.train_images[:128], train_labels=data.train_labels[:128],
               test_images=data.test_images[:64], test_labels=data.test_labels[:64])
kill = _Watcher(int(sys.argv[2]), lambda: os.kill(os.getpid(), signal.SIGKILL))
retrain(DARTS_V2, data, sys.argv[1], TINY, progress=kill)
"""


def test_kill_and_resume_end_with_the_same_bits(digits: DataSet, run: RunFolder, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run.close()
        step = chance().randint(1, 11)
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(run.path), str(step), str(ROOT)], capture_output=True
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        with RunFolder.open(run.path) as again, RunFolder.create(tmp_path / "whole", {}) as whole:
            retrain(DARTS_V2, digits, again, TINY)
            retrain(DARTS_V2, digits, whole, TINY)
            _assert_same_bits(again, whole)
    finally:
        torch.set_num_threads(threads)


def test_a_model_that_is_gone_is_written_again(
    digits: DataSet, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(TINY, epochs=1)
    result = retrain(DARTS_V2, digits, run, short)
    path, rows = model_path(run, "derived"), [_rows(run, kind) for kind in ("retrain_epoch", "result")]
    whole = path.read_bytes()
    path.unlink()
    monkeypatch.setattr(Trainer, "take_step", None)  # no step is taken again
    again = retrain(DARTS_V2, digits, run, short)
    assert replace(again, seconds=result.seconds) == result
    assert path.read_bytes() == whole
    assert [_rows(run, kind) for kind in ("retrain_epoch", "result")] == rows


def test_starting_again_leaves_the_rows_of_others(digits: DataSet, run: RunFolder) -> None:
    short = replace(TINY, epochs=1)
    run.metrics.append({"kind": "epoch", "epoch": 0})
    retrain(DARTS_V2, digits, run, short)
    retrain(DARTS_V2, digits, run, short, "random")
    with pytest.raises(RunError, match=r"was made with epochs 1, not 2.*--force"):
        retrain(DARTS_V2, digits, run, replace(TINY, epochs=2))
    retrain(DARTS_V2, digits, run, replace(TINY, epochs=2), overwrite=True)
    labels = [(row["kind"], row.get("label"), row.get("epoch")) for row in run.metrics.rows()]
    assert labels == [
        ("epoch", None, 0),
        ("retrain_epoch", "random", 0),
        ("result", "random", None),
        ("retrain_epoch", "derived", 0),
        ("retrain_epoch", "derived", 1),
        ("result", "derived", None),
    ]


def test_a_diverged_training_says_so(digits: DataSet, run: RunFolder) -> None:
    with pytest.raises(TrainError, match="loss is not finite in epoch 0; lower --lr"):
        retrain(DARTS_V2, digits, run, replace(TINY, lr=1e30))
    assert not model_path(run, "derived").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"drop_path": 1.0}, r"drop_path must be in \[0, 1\)"),
        ({"cutout": -1}, "cutout must not be negative"),
    ],
)
def test_settings_that_make_no_sense(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **change)


def test_data_and_settings_must_fit(digits: DataSet, run: RunFolder) -> None:
    with pytest.raises(DataError, match="batch size 500 is larger than the train set"):
        retrain(DARTS_V2, digits, run, replace(TINY, batch_size=500))
    with pytest.raises(ConfigError, match="at most the image's side of 8 pixels"):
        retrain(DARTS_V2, digits, run, replace(TINY, cutout=9))
    with pytest.raises(ConfigError, match="a label is made of"):
        retrain(DARTS_V2, digits, run, TINY, "../up")
    assert sorted(p.name for p in run.path.iterdir()) == [".lock", "config.json"]


def test_a_damaged_training_is_refused(digits: DataSet, run: RunFolder) -> None:
    short = replace(TINY, epochs=1)
    retrain(DARTS_V2, digits, run, short)
    with pytest.raises(RunError, match="was made with inherited weights False, not True"):
        retrain(DARTS_V2, digits, run, short, inherit_from={})
    path = run.path / "retrain-derived.pt"
    whole = path.read_bytes()
    state = load_checkpoint(path, "retrain")
    del state["optimizer"]
    torch.save(state, path)
    with pytest.raises(RunError, match="is damaged"):
        retrain(DARTS_V2, digits, run, short)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="truncated or damaged"):
        retrain(DARTS_V2, digits, run, short)


def test_evaluate_refuses_what_does_not_fit(digits: DataSet, run: RunFolder) -> None:
    with pytest.raises(RunError, match=r"has no retrained network 'derived'.*nasfast retrain"):
        evaluate(run, digits)
    retrain(DARTS_V2, digits, run, replace(TINY, epochs=1))
    with pytest.raises(DataError, match="knows 10 classes"):
        evaluate(run, replace(digits, class_names=["cat", "dog"]))
    path = model_path(run, "derived")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="truncated or damaged"):
        evaluate(run, digits)
    head = int.from_bytes(whole[:8], "little")
    described = json.loads(whole[8 : 8 + head])
    described["__metadata__"]["nasfast"] = json.dumps({"format": 99})
    changed = json.dumps(described).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + whole[8 + head :])
    with pytest.raises(RunError, match="has format 99"):
        evaluate(run, digits)
