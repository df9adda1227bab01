"""Tables: published ones, one's own, and one clear line for what is none."""

import json
import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from nasfast.errors import DataError
from nasfast.estimators.table import TableEstimator
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.spaces.nasbench_macro import NASBenchMacro
from tests.helpers.paths import GOLDEN

DATA = GOLDEN
NB201, MACRO = DATA / "nasbench201_slice.npz", DATA / "nasbench_macro_slice.json"


def test_nasbench201_scores_by_budget():
    space = NASBench201()
    table = TableEstimator(NB201, space)
    with np.load(NB201, allow_pickle=False) as file:
        content = dict(file)
    assert table.fidelities == [12, 200]
    assert len(table) == len(content["arch_str"])
    for fidelity, epochs in ((None, 200), (200, 200), (12, 12)):
        for estimate, i in zip(table.estimate(content["ops"].astype(int), fidelity), range(10_000), strict=False):
            assert estimate.score == float(content[f"val_acc_cifar10_e{epochs}"][i]) / 100
            assert estimate.metrics["test_accuracy"] == float(content["test_acc_cifar10_e200"][i]) / 100
            assert estimate.metrics["valid_accuracy"] == float(content["val_acc_cifar10_e200"][i]) / 100


def test_macro_scores_are_the_means():
    space = NASBenchMacro()
    table = TableEstimator(MACRO, space)
    (best,) = table.estimate(space.check(space.encode("22212220")))
    assert best.score == best.metrics["test_accuracy"] == pytest.approx(0.931267)


def test_equal_functions_are_found_under_another_name(tmp_path):
    space = NASBenchMacro()
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"00000001": 64.0}))
    table = TableEstimator(path, space)
    assert table.estimate(space.check(space.encode("00000010")))[0].score == 64.0
    with pytest.raises(DataError, match="has no score for 00000011; it holds 1 of 6,561 architectures"):
        table.estimate(space.check(space.encode("00000011")))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "arch,score,latency\n22212220,93.5,7\n00000000,45.25,1.5\n"),
        (
            "t.json",
            json.dumps({"22212220": {"score": 93.5, "latency": 7}, "00000000": {"score": 45.25, "latency": 1.5}}),
        ),
    ],
)
def test_table_of_ones_own(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    space = NASBenchMacro()
    table = TableEstimator(tmp_path / name, space)
    found = table.estimate(np.stack([space.encode("00000000"), space.encode("22212220")]))
    assert [(e.score, e.metrics) for e in found] == [(45.25, {"latency": 1.5}), (93.5, {"latency": 7.0})]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "arch,acc\n22212220,1\n", "line 1: expected the columns arch, score .*; got arch, acc"),
        ("t.csv", "arch;score\n22212220;1\n", "line 1: expected the columns arch, score .*; got arch;score"),
        ("t.csv", "arch,score,score\n22212220,1,2\n", "each once; got arch, score, score"),
        ("t.csv", "arch,9,late\n22212220,1,2\n", "line 1: expected the columns .*; got arch, 9, late"),
        ("t.csv", "arch\n22212220\n", "line 1: expected the columns .*; got arch"),
        ("t.csv", "", "t.csv is empty: expected a table of scores"),
        ("t.json", "", "t.json is empty: expected a table of scores"),
        ("t.json", "[" * 100_000, "t.json is nested too deep"),
        ("t.npz", "", "t.npz is empty: expected a .npz archive"),
        ("t.csv", "arch,9,81\n22212220,1,2\n\n00000000,,2\n", "line 4: 9 must be a number, got ''"),
        ("t.csv", "arch,score\n22212220,1\n\n22212220,2\n", "line 4: 22212220 stands in an earlier line too"),
        (
            "t.csv",
            "arch,score\n22212220,1\n\n3333,1\n",
            "no table of nasbench-macro: line 4: nasbench-macro: expected 8",
        ),
        ("t.json", '{"22212220": 1, "22212220": 2}', "22212220 stands there more than once"),
        ("t.csv", "arch,score\n22212220,high\n", "line 2: score must be a number, got 'high'"),
        ("t.csv", "arch,score\n22212220,nan\n", "must be a finite number, got 'nan'"),
        ("t.csv", "arch,score\n22212220\n", "line 2: another number of columns"),
        ("t.csv", "score,arch\n93\n", "line 2: another number of columns"),
        ("t.csv", "arch,9,09\n22212220,1,2\n", "line 1: expected the columns .*; got arch, 9, 09"),
        ("t.csv", "arch,score\n", "holds no architecture"),
        ("t.json", "[1, 2]", "expected an object"),
        ("t.json", "{", "is not valid JSON"),
        ("t.json", '{"22212220": true}', "must be a finite number, got True"),
        ("t.json", '{"22212220": {"accuracy": 3}}', "22212220 has no score"),
        ("t.json", '{"archs": {"22212220": [1, 2]}}', "must have"),
        (
            "t.json",
            '{"archs": {"22212220": [1, 100.5, 3, 4]}}',
            "22212220 must be an accuracy in percent, from 0 to 100",
        ),
        ("t.json", '{"archs": {"22212220": [1, -0.5, 3, 4]}}', "in percent, from 0 to 100, got -0.5"),
        (
            "t.json",
            '{"22212220": {"score": 93, "test_accuracy": 93.5}}',
            "22212220: test_accuracy must be a fraction from 0 to 1, got 93.5",
        ),
        (
            "t.csv",
            "arch,score,valid_accuracy\n22212220,93,1.5\n",
            "line 2: valid_accuracy must be a fraction from 0 to 1, got 1.5",
        ),
        ("t.npz", "nothing", "t.npz is damaged: expected a .npz archive"),
        ("t.txt", "", r"must be a file of type .npz, .json, .csv"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        TableEstimator(tmp_path / name, NASBenchMacro())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(("name", "content"), [("t.csv", "arch,score\n22212220,5\n"), ("t.json", '{"22212220": 5}')])
def test_a_table_with_a_byte_order_mark_is_read(tmp_path, encoding, name, content):
    (tmp_path / name).write_text(content, encoding=encoding)
    table, space = TableEstimator(tmp_path / name, NASBenchMacro()), NASBenchMacro()
    assert table.estimate(space.encode("22212220")[None])[0].score == 5


@pytest.mark.parametrize("name", ["t.csv", "t.json"])
def test_a_table_that_is_no_text_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"arch,score\n\x80,1\n")
    with pytest.raises(DataError, match=f"{name} is not a text file: expected a table of scores"):
        TableEstimator(tmp_path / name, NASBenchMacro())


def test_a_garbled_archive_is_a_table_or_one_line(tmp_path):
    space, generator = NASBench201(), random.Random(0)
    names = [space.decode(row) for row in space.sample(np.random.default_rng(0), 3)]
    scores = {f"{part}_acc_cifar10_e9": np.arange(3.0) for part in ("val", "test")}
    np.savez_compressed(tmp_path / "whole.npz", arch_str=np.array(names), **scores)
    whole = (tmp_path / "whole.npz").read_bytes()
    errors = []
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(generator.choice([1, 2, 20])):
            content[generator.randrange(len(content))] = generator.randrange(256)
        (tmp_path / "t.npz").write_bytes(content)
        try:
            TableEstimator(tmp_path / "t.npz", space)
        except DataError as error:
            errors.append(str(error))
    assert len(errors) > 75
    assert not any("\n" in error for error in errors)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "\ufeffarch,81,9\r\n22212220,93.5,60\r\n00000000,45.25,50\r\n"),  # as a spreadsheet writes it
        ("t.json", json.dumps({"22212220": {"81": 93.5, "9": 60}, "00000000": {"81": 45.25, "9": 50}})),
    ],
)
def test_table_of_ones_own_tells_epochs_apart(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    space = NASBenchMacro()
    table, rows = TableEstimator(tmp_path / name, space), np.stack([space.encode("00000000"), space.encode("22212220")])
    assert table.fidelities == [9, 81]
    for fidelity, scores in ((None, [45.25, 93.5]), (81, [45.25, 93.5]), (9, [50.0, 60.0])):
        assert [estimate.score for estimate in table.estimate(rows, fidelity)] == scores


@pytest.mark.parametrize("array", ["val_acc_cifar10_e12", "val_acc_cifar10_e200", "test_acc_cifar10_e200"])
@pytest.mark.parametrize("value", [-0.01, 100.01])
def test_published_accuracies_that_are_no_percentages_are_refused(tmp_path, array, value):
    with np.load(NB201, allow_pickle=False) as file:
        content = dict(file)
    content[array] = content[array].copy()
    content[array][3] = value
    np.savez(tmp_path / "t.npz", **content)
    with pytest.raises(DataError, match=rf"must be an accuracy in percent, from 0 to 100, got {value:g}"):
        TableEstimator(tmp_path / "t.npz", NASBench201())


def test_published_accuracies_reach_both_ends(tmp_path):
    rows = {"00000000": [0, 0, 3, 4], "22212220": [100, 100, 3, 4]}
    (tmp_path / "t.json").write_text(json.dumps({"archs": rows}))
    space = NASBenchMacro()
    found = TableEstimator(tmp_path / "t.json", space).estimate(np.stack([space.encode(text) for text in rows]))
    assert [estimate.score for estimate in found] == [0, 1]


def test_all_that_a_table_lacks_is_counted(tmp_path):
    space = NASBenchMacro()
    (tmp_path / "t.csv").write_text("arch,score\n22212220,93.5\n")
    rows = np.stack([space.encode(text) for text in ("22212220", "11111111", "12121212")])
    with pytest.raises(DataError, match="no score for 2 of 3 architectures, such as 11111111; it holds 1 of 6,561"):
        TableEstimator(tmp_path / "t.csv", space).estimate(rows)


def test_missing_file_budget_and_data_set():
    space = NASBench201()
    with pytest.raises(DataError, match=r"no table at gone.json"):
        TableEstimator("gone.json", space)
    with pytest.raises(DataError, match="val_acc_mnist_eEPOCHS; it has data sets cifar10"):
        TableEstimator(NB201, space, "mnist")
    with pytest.raises(DataError, match="no scores for a fidelity of 7 epochs; there are 12, 200"):
        TableEstimator(NB201, space).estimate(space.sample(np.random.default_rng(0), 1), 7)


class Trap:
    def __reduce__(self):
        return (Path("/tmp/nasfast-trap").touch, ())


def test_reading_a_table_runs_no_code(tmp_path):
    trap = Path("/tmp/nasfast-trap")
    trap.unlink(missing_ok=True)
    np.savez(tmp_path / "t.npz", arch_str=np.array([Trap()], object), val_acc_cifar10_e200=np.ones(1))
    (tmp_path / "p.npz").write_bytes(pickle.dumps(Trap()))
    for name in ("t.npz", "p.npz"):
        with pytest.raises(DataError, match=r"cannot be read as a table|damaged"):
            TableEstimator(tmp_path / name, NASBench201())
    assert not trap.exists()
