"""Members in ONNX give what they give in NumPy, scikit-learn and PyTorch."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, HistGradientBoostingRegressor
from torch.nn import functional as F

from nasfast.automl.onnx_graph import Graph
from nasfast.automl.onnx_members import boosting_outputs, forest_outputs, linear_outputs, network_outputs
from nasfast.automl.onnx_network import NetworkWeights
from nasfast.automl.onnx_trees import round_down, tree_columns, tree_scores
from nasfast.automl.prepare import Prepared
from nasfast.automl.trees import Trees
from tests.helpers.onnx_graphs import given_features, result

pytestmark = [
    pytest.mark.needs("onnx"),
    pytest.mark.needs("onnxruntime"),
    # scikit-learn takes quantiles of infinite numbers, too.
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
]

COUNTS = (5, 60)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def feeds(data: Prepared) -> dict[str, NDArray[Any]]:
    given = {"numbers": data.numbers, "codes": data.codes.astype(np.int64)}
    return {name: array for name, array in given.items() if array.shape[1]}


def together(data: Prepared) -> NDArray[np.float64]:
    """What scikit-learn is given."""
    return np.concatenate([data.numbers, data.codes], axis=1, dtype=np.float64)


def rows(count: int, seed: int, codes_from: int = 0, infinite: bool = True) -> Prepared:
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(count, 4)).astype(np.float32) * np.float32([1, 100, 1e-3, 1])
    numbers[:, 3] = np.round(numbers[:, 3])
    numbers[rng.random(numbers.shape) < 0.1] = np.nan
    if infinite:
        numbers[rng.random(numbers.shape) < 0.02] = np.inf
        numbers[rng.random(numbers.shape) < 0.02] = -np.inf
    return Prepared(numbers, np.stack([rng.integers(codes_from, n, count) for n in COUNTS], axis=1).astype(np.int16))


def score_of(data: Prepared) -> NDArray[np.float64]:
    effects = np.random.default_rng(7).normal(size=256)
    known = np.nan_to_num(data.numbers.astype(np.float64), nan=1.5, posinf=2, neginf=-2)
    return known[:, 0] + known[:, 1] / 100 + known[:, 3] + 2 * effects[data.codes[:, 1]] + effects[data.codes[:, 0]]


def labels(data: Prepared, classes: int) -> NDArray[np.int64]:
    score = score_of(data)
    return np.digitize(score, np.quantile(score, np.linspace(0, 1, classes + 1)[1:-1]))


CATEGORICAL = np.array([False] * 4 + [True] * 2)


def classifier(**settings: Any) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(**{"max_iter": 20, "categorical_features": CATEGORICAL} | settings)


# In training codes 0 (missing) and 1 (unseen) do not occur.
TRAIN = rows(3000, 1, codes_from=2)
NEW = rows(2000, 2)


@pytest.mark.parametrize("classes", [2, 4])
def test_boosted_classifiers(classes: int) -> None:
    y = labels(TRAIN, classes)
    folds = [classifier(random_state=i, max_iter=20 + i).fit(together(TRAIN)[i::2], y[i::2]) for i in range(2)]
    forests = [Trees.of(model) for model in folds]
    assert all((trees.category_set >= 0).any() for trees in forests)
    graph = Graph()
    features = given_features(graph, 4, COUNTS)
    kind: Literal["binary", "multiclass"] = "binary" if classes == 2 else "multiclass"
    made = boosting_outputs(graph, features, forests, [range(classes)] * 2, kind, classes)
    expected = np.mean([model.predict_proba(together(NEW)) for model in folds], axis=0)
    np.testing.assert_allclose(result(graph, made, feeds(NEW), ["N", classes]), expected, **CLOSE)


@pytest.mark.parametrize("seen", [[0, 1, 3], [1, 3]])
def test_boosting_of_a_fold_without_some_classes(seen: list[int]) -> None:
    y = labels(TRAIN, 4)
    kept = np.isin(y, seen)
    model = classifier().fit(together(TRAIN)[kept], y[kept])
    graph = Graph()
    features = given_features(graph, 4, COUNTS)
    made = boosting_outputs(graph, features, [Trees.of(model)], [seen], "multiclass", 4)
    expected = np.zeros((2000, 4))
    expected[:, seen] = model.predict_proba(together(NEW))
    np.testing.assert_allclose(result(graph, made, feeds(NEW), ["N", 4]), expected, **CLOSE)


def test_boosted_regression_of_large_numbers() -> None:
    model = HistGradientBoostingRegressor(max_iter=60, categorical_features=CATEGORICAL)
    model.fit(together(TRAIN), 2e5 + 1e4 * score_of(TRAIN))
    graph = Graph()
    features = given_features(graph, 4, COUNTS)
    made = boosting_outputs(graph, features, [Trees.of(model)], [[0]], "regression", 1)
    got = result(graph, made, feeds(NEW), ["N", 1])
    np.testing.assert_allclose(got[:, 0], model.predict(together(NEW)), rtol=1e-5)


def test_boosting_of_numbers_alone_of_categories_alone_and_without_trees() -> None:
    y = score_of(TRAIN)
    numbers, codes = Prepared(TRAIN.numbers, TRAIN.codes[:, :0]), Prepared(TRAIN.numbers[:, :0], TRAIN.codes)
    for data, iterations in ((numbers, 10), (codes, 10), (codes, 0)):
        mask = CATEGORICAL[-together(data).shape[1] :] if data is codes else None
        model = HistGradientBoostingRegressor(max_iter=10, categorical_features=mask).fit(together(data), y)
        trees = Trees.of(model, iterations)
        graph = Graph()
        features = given_features(graph, data.numbers.shape[1], COUNTS if data is codes else ())
        made = tree_scores(graph, features, tree_columns(graph, features), trees)
        np.testing.assert_allclose(result(graph, made, feeds(data), ["N", 1]), trees.raw(data), **CLOSE)


def test_extra_trees() -> None:
    train, new = rows(800, 1, infinite=False), rows(500, 2, infinite=False)
    model = ExtraTreesClassifier(20, random_state=0).fit(together(train), labels(train, 3))
    graph = Graph()
    features = given_features(graph, 4, COUNTS)
    made = forest_outputs(graph, features, [Trees.of_forest(model, codes=2)])
    got = result(graph, made, feeds(new), ["N", 3])
    np.testing.assert_allclose(got, model.predict_proba(together(new)), **CLOSE)


def grown_by_chance(rng: np.random.Generator, depth: int) -> dict[str, list[Any]]:
    """Nodes of one tree by attribute: splits by numbers and by any set of codes, also by none and by all of them."""
    nodes: dict[str, list[Any]] = {name: [] for name in ("feature", "threshold", "left", "right", "missing", "set")}

    def grow(level: int) -> int:
        own = len(nodes["left"])
        leaf = level == depth or (level > 0 and rng.random() < 0.2)
        feature = 0 if leaf else int(rng.integers(6))
        chances = np.float64(rng.choice([0.0, 0.1, 0.5, 1.0]))
        codes = rng.random(256) < chances if feature >= 4 and rng.random() < 0.8 else None
        threshold = rng.normal() if feature < 4 else rng.integers(60)
        split = (feature, float(threshold), -1, -1, not leaf and feature < 4 and rng.random() < 0.5, codes)
        for values, value in zip(nodes.values(), split, strict=True):
            values.append(value)
        if not leaf:
            nodes["left"][own] = grow(level + 1)
            nodes["right"][own] = grow(level + 1)
        return own

    grow(0)
    return nodes


@pytest.mark.parametrize("seed", range(4))
def test_trees_grown_by_chance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grown = [grown_by_chance(rng, depth=6) for _ in range(30)]
    nodes = {name: [value for tree in grown for value in tree[name]] for name in grown[0]}
    sizes = [len(tree["left"]) for tree in grown]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    start = np.repeat(offsets[:-1], sizes)
    sets = [codes for codes in nodes["set"] if codes is not None]
    chosen = np.array([codes is not None for codes in nodes["set"]])
    leaf = np.array(nodes["left"]) < 0
    trees = Trees.from_arrays(
        {
            "feature": np.array(nodes["feature"], np.int32),
            "threshold": np.array(nodes["threshold"]),
            "left": np.where(leaf, -1, start + nodes["left"]).astype(np.int32),
            "right": np.where(leaf, -1, start + nodes["right"]).astype(np.int32),
            "missing_left": np.array(nodes["missing"], bool),
            "category_set": np.where(chosen, np.cumsum(chosen) - 1, -1).astype(np.int32),
            "value": np.where(leaf, rng.normal(size=len(leaf)), 0.0)[:, None],
            "category_sets": np.packbits(sets, axis=1, bitorder="little"),
            "offsets": offsets,
            "output": (np.arange(30) % 3).astype(np.int32),
            "baseline": rng.normal(size=3),
            "features": np.array([4, 2]),
        }
    )
    assert len(sets) > 50
    graph = Graph()
    features = given_features(graph, 4, COUNTS)
    made = tree_scores(graph, features, tree_columns(graph, features), trees)
    np.testing.assert_allclose(result(graph, made, feeds(NEW), ["N", 3]), trees.raw(NEW), **CLOSE)


def test_thresholds_are_rounded_so_that_comparisons_stay_the_same() -> None:
    values = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    above = np.nextafter(values, np.float32(np.inf))
    for between in ((values.astype(np.float64) + above) / 2, values.astype(np.float64), np.nextafter(above, 0.0)):
        rounded = round_down(between.astype(np.float64))
        for x in (values, above, np.nextafter(values, np.float32(-np.inf))):
            np.testing.assert_array_equal(x <= rounded, x.astype(np.float64) <= between)
    largest = np.finfo(np.float32).max
    np.testing.assert_array_equal(round_down(np.array([1e300, np.inf, -np.inf])), [largest, np.inf, -np.inf])
    assert round_down(np.array([-1e300]))[0] == -np.inf


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_linear_models(kind: Literal["binary", "multiclass", "regression"]) -> None:
    rng = np.random.default_rng(3)
    logits = 3 if kind == "multiclass" else 1
    center, scale = np.array([0.1, 1e9 + 0.5, 1e-3, 0.0]), np.array([1.0, 70.0, 2e-3, 3.0])
    missing, known = np.array([True, False, True, False]), (4, 60)
    width = 4 + 2 + sum(known)
    weights, bias = rng.normal(size=(2, width, logits)), rng.normal(size=(2, logits))
    data = Prepared(NEW.numbers + np.float32([0, 1e9, 0, 0]), NEW.codes)
    graph = Graph()
    features = given_features(graph, 4, COUNTS)
    made = linear_outputs(graph, features, center, scale, missing, known, weights, bias, 4.0, kind)
    x = data.numbers.astype(np.float64)
    z = np.clip((np.where(np.isnan(x), center, x) - center) / scale, -1e6, 1e6)
    z = z / np.sqrt(1 + (z / 4) ** 2)
    one_hot = [np.eye(n)[np.where(data.codes[:, i] < n, data.codes[:, i], 1)] for i, n in enumerate(known)]
    columns = np.concatenate([z, np.isnan(x)[:, missing], *one_hot], axis=1)
    raw = np.einsum("nw,fwk->fnk", columns, weights) + bias[:, None]
    expected = linked(raw, kind).mean(axis=0)
    got = result(graph, made, feeds(data), ["N", expected.shape[1]])
    np.testing.assert_allclose(got, expected, **CLOSE)


def linked(raw: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    if kind == "multiclass":
        return softmax(raw, axis=-1)
    if kind == "regression":
        return raw
    p = 1 / (1 + np.exp(-raw))
    return np.concatenate([1 - p, p], axis=-1)


EDGES = (
    np.float32([-2, -0.5, 0, 0.1, 3]),
    np.float32([-150, 150]),
    np.float32([]),
    np.float32([-1, 0, 1]),
)


def network_weights(seed: int, members: int, outputs: int, depth: int) -> NetworkWeights:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> NDArray[np.float32]:
        return (rng.normal(size=shape) / 3).astype(np.float32)

    rows_of_numbers = sum(max(len(e) - 1, 0) + 1 for e in EDGES)
    hidden = [(draw(16, 16), draw(16)) for _ in range(depth)]
    return NetworkWeights(
        draw(rows_of_numbers + sum(COUNTS), 16),
        draw(members, len(EDGES) + len(COUNTS)),
        draw(16),
        hidden,
        draw(members, 16, outputs),
        draw(members, outputs),
    )


def torch_scores(data: Prepared, w: NetworkWeights, block: str, activation: Any) -> torch.Tensor:
    """Value by value: the rows of the embedding that a value adds up."""
    embedding = torch.tensor(w.embedding, dtype=torch.float64)
    per_feature, start = torch.zeros(len(data.codes), len(EDGES) + len(COUNTS), 16, dtype=torch.float64), 0
    for f, edges in enumerate(EDGES):
        intervals = max(len(edges) - 1, 0)
        for n, x in enumerate(data.numbers[:, f]):
            if np.isnan(x) or not intervals:
                per_feature[n, f] = embedding[start + intervals]
                continue
            for i in range(intervals):
                part = (float(x) - float(edges[i])) / (float(edges[i + 1]) - float(edges[i]))
                per_feature[n, f] += min(max(part, 0.0), 1.0) * embedding[start + i]
        start += intervals + 1
    for f, count in enumerate(COUNTS):
        per_feature[:, len(EDGES) + f] = embedding[start + torch.from_numpy(data.codes[:, f].astype(np.int64))]
        start += count
    h = torch.einsum("mf,nfd->nmd", torch.tensor(w.scales, dtype=torch.float64), per_feature)
    h = activation(h + torch.tensor(w.bias))
    for weight, bias in w.hidden:
        x = activation(h @ torch.tensor(weight, dtype=torch.float64) + torch.tensor(bias))
        h = h + x if block == "resnet" else x
    return (
        torch.einsum("nmd,mdk->mnk", h, torch.tensor(w.head, dtype=torch.float64)) + torch.tensor(w.head_bias)[:, None]
    )


@pytest.mark.parametrize(
    ("kind", "block", "activation", "members"),
    [("binary", "mlp", "relu", 4), ("multiclass", "resnet", "silu", 3), ("regression", "resnet", "gelu", 1)],
)
def test_networks(kind: Any, block: Any, activation: Any, members: int) -> None:
    data = rows(200, 5)
    outputs = 3 if kind == "multiclass" else 1
    folds = [network_weights(seed, members, outputs, depth=2) for seed in range(2)]
    graph = Graph()
    features = given_features(graph, 4, COUNTS)
    made = network_outputs(graph, features, EDGES, folds, block, activation, kind, mean=1000.0, spread=50.0)
    raw = np.stack([torch_scores(data, w, block, getattr(F, activation)).numpy() for w in folds])
    expected = linked(raw, kind).mean(axis=(0, 1))
    if kind == "regression":
        expected = expected * 50 + 1000
    got = result(graph, made, feeds(data), ["N", expected.shape[1]])
    np.testing.assert_allclose(got, expected, **CLOSE)


def test_networks_of_no_row() -> None:
    graph = Graph()
    features = given_features(graph, 4, COUNTS)
    weights = network_weights(0, 2, 1, depth=1)
    made = network_outputs(graph, features, EDGES, [weights], "mlp", "relu", "binary")
    assert result(graph, made, {k: v[:0] for k, v in feeds(NEW).items()}, ["N", 2]).shape == (0, 2)


def test_networks_without_numbers_or_without_categories() -> None:
    full = network_weights(1, 2, 1, depth=1)
    of_numbers = len(full.embedding) - sum(COUNTS)
    data = rows(100, 5)
    for numbers in (True, False):
        part = slice(0, of_numbers) if numbers else slice(of_numbers, None)
        scales = full.scales[:, :4] if numbers else full.scales[:, 4:]
        weights = NetworkWeights(full.embedding[part], scales, full.bias, full.hidden, full.head, full.head_bias)
        graph = Graph()
        features = given_features(graph, 4 if numbers else 0, () if numbers else COUNTS)
        made = network_outputs(graph, features, EDGES if numbers else (), [weights], "mlp", "relu", "regression")
        feeds = {"numbers": data.numbers} if numbers else {"codes": data.codes.astype(np.int64)}
        silent = np.array(full.scales)
        silent[:, slice(4, None) if numbers else slice(0, 4)] = 0
        whole = NetworkWeights(full.embedding, silent, full.bias, full.hidden, full.head, full.head_bias)
        expected = torch_scores(data, whole, "mlp", F.relu).numpy().mean(axis=0)
        np.testing.assert_allclose(result(graph, made, feeds, ["N", 1]), expected, **CLOSE)
