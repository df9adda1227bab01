"""Zero-cost proxies against their formulas written out, and the estimator: seeds, equal functions, cost, errors."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from nasfast.errors import ConfigError, NasfastError, ShapeError, SpaceError
from nasfast.estimators.zero_cost import PROXIES, ZeroCostEstimator, score_network
from nasfast.estimators.zero_cost.kernels import jacob_cov
from nasfast.estimators.zero_cost.layers import fork_random
from nasfast.spaces.graph_network import GraphNetwork
from nasfast.spaces.live_graph import live_graph
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.spaces.registry import DIGITS, SPACES, make_space

SPACE = NASBench201(4, 1)
MIXED = SPACE.encode("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|nor_conv_3x3~1|skip_connect~2|")
COMPUTED = [name for name in PROXIES if name not in ("params", "flops")]


def batch(count=12, dtype=torch.float32, side=8):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, side, side, generator=generator).to(dtype)
    return images, torch.randint(10, (count,), generator=generator)


def network(dtype=torch.float32, row=MIXED):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return GraphNetwork(live_graph(SPACE.graph(row))).to(dtype)


def layers(net):
    return [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]


def gradients(net, images, labels):
    loss = functional.cross_entropy(net.train()(images), labels)
    return torch.autograd.grad(loss, [layer.weight for layer in layers(net)])


def estimator(proxies=("synflow",), seed=0, space=SPACE, **options):
    return ZeroCostEstimator(space, *batch(), proxies, seed, num_classes=10, **options)


# formulas, in float64


def test_gradient_proxies_are_their_formulas():
    net, (images, labels) = network(torch.float64), batch(dtype=torch.float64)
    given = gradients(copy.deepcopy(net), images, labels)
    pairs = list(zip(given, [layer.weight.detach() for layer in layers(net)], strict=True))
    found = score_network(net, images, labels, ["grad_norm", "snip"])
    assert found["grad_norm"] == pytest.approx(sum(float(g.square().sum().sqrt()) for g, _ in pairs), rel=1e-12)
    assert found["snip"] == pytest.approx(sum(float((g * w).abs().sum()) for g, w in pairs), rel=1e-12)


def test_grasp_is_the_hessian_product_by_finite_differences():
    net, (images, labels) = network(torch.float64), batch(dtype=torch.float64)
    given, step, moved = gradients(net, images, labels), 1e-6, []
    for sign in (1, -1):
        other = copy.deepcopy(net)
        with torch.no_grad():
            for layer, g in zip(layers(other), given, strict=True):
                layer.weight += sign * step * g
        moved.append(gradients(other, images, labels))
    products = [(up - down) / (2 * step) for up, down in zip(*moved, strict=True)]
    expected = -sum(float((layer.weight.detach() * hg).sum()) for layer, hg in zip(layers(net), products, strict=True))
    assert score_network(net, images, labels, ["grasp"])["grasp"] == pytest.approx(expected, rel=1e-5)


def test_fisher_is_its_formula():
    net, (images, labels) = network(torch.float64), batch(dtype=torch.float64)
    kept = []
    copied = copy.deepcopy(net).train()
    for layer in layers(copied):
        layer.register_forward_hook(lambda layer, _, out: kept.append((layer, out)))
    loss = functional.cross_entropy(copied(images), labels)
    given = torch.autograd.grad(loss, [out for _, out in kept])
    expected = 0.0
    for (layer, out), g in zip(kept, given, strict=True):
        for channel in range(out.shape[1]):
            per_image = [float((out[n, channel].detach() * g[n, channel]).sum()) ** 2 for n in range(len(images))]
            expected += np.mean(per_image) / 2 * layer.weight[channel].numel()
    assert score_network(net, images, labels, ["fisher"])["fisher"] == pytest.approx(expected, rel=1e-10)


def test_naswot_is_its_formula():
    net, (images, labels) = network(torch.float64), batch(dtype=torch.float64)
    codes = []
    copied = copy.deepcopy(net).train()
    for relu in (m for m in copied.modules() if isinstance(m, nn.ReLU)):
        relu.register_forward_hook(lambda _, inputs, out: codes.append((out > 0).flatten(1)))
    copied(images)
    code = torch.cat(codes, 1).numpy()
    kernel = np.array([[float((one == other).sum()) for other in code] for one in code])
    assert score_network(net, images, labels, ["naswot"])["naswot"] == pytest.approx(np.linalg.slogdet(kernel)[1])


def test_jacob_cov_is_its_formula():
    net, (images, labels) = network(torch.float64), batch(dtype=torch.float64)
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(copy.deepcopy(net).train()(images).sum(), images)
    values = np.linalg.eigvalsh(np.corrcoef(gradient.flatten(1).numpy())) + 1e-5
    expected = -np.sum(np.log(values) + 1 / values)
    found = score_network(net, images.detach(), labels, ["jacob_cov"])["jacob_cov"]
    assert found == pytest.approx(expected, rel=1e-6)


def test_jacob_cov_falls_with_correlation():
    generator = torch.Generator().manual_seed(0)
    free, common = (torch.randn(8, 3, 4, 4, generator=generator) for _ in range(2))
    scores = [jacob_cov((1 - share) * free + share * common[:1]) for share in (0.0, 0.5, 0.9, 1.0)]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] == pytest.approx(jacob_cov(torch.zeros(8, 3, 4, 4)))


def test_synflow_of_a_chain_is_its_output_once_for_every_layer():
    """Euler's theorem: without biases, the output is of degree one in the weights of each layer."""
    torch.manual_seed(0)
    chain = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3, bias=False), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 10, bias=False),
    )  # fmt: skip
    images, labels = batch()
    first, second, last = (layer.weight.detach().double().abs() for layer in layers(chain))
    x = functional.conv2d(functional.conv2d(torch.ones(1, 3, 8, 8, dtype=torch.float64), first), second)
    output = float((last @ x.mean((2, 3)).t()).sum())
    assert score_network(chain, images, labels, ["synflow"])["synflow"] == pytest.approx(math.log(3 * output))


def test_zen_is_its_formula_and_does_not_depend_on_the_weights():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)
    chain = nn.Sequential(conv, norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
    images, labels = batch()
    with fork_random(images, 7):
        found = score_network(chain, images, labels, ["zen"])["zen"]
    with fork_random(images, 7):
        weight = torch.randn_like(conv.weight)
        torch.randn(10, 6)
        x = torch.randn(images.shape)
        e = torch.randn(images.shape)

    def scaled(inputs):
        y = functional.conv2d(inputs, weight).double()
        return y, (y - y.mean((0, 2, 3), keepdim=True)) / (y.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()

    (y, one), (_, other) = scaled(x), scaled(x + 0.01 * e)
    distance = (one.relu() - other.relu()).flatten(1).norm(dim=1).mean()
    variance = y.var((0, 2, 3), correction=0).mean() + 1e-5
    assert found == pytest.approx(float(distance.log() + variance.sqrt().log()), abs=1e-3)
    with torch.no_grad():
        conv.weight.mul_(100)
    with fork_random(images, 7):
        assert score_network(chain, images, labels, ["zen"])["zen"] == found


# together and alone


@pytest.mark.parametrize("name", COMPUTED)
def test_a_proxy_is_the_same_alone_and_with_the_others(name):
    together = estimator(COMPUTED).estimate(MIXED)[0].metrics[name]
    assert estimator([name]).estimate(MIXED)[0].score == together


def test_the_network_is_left_as_it_is():
    net, (images, labels) = network().eval(), batch()
    before = copy.deepcopy(net.state_dict())
    torch.manual_seed(0)
    score_network(net, images, labels, COMPUTED)
    assert not net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


# the estimator


def test_same_seed_same_bits_and_another_seed_others():
    rows = SPACE.sample(np.random.default_rng(0), 4)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = estimator(COMPUTED).estimate(rows)
    assert torch.equal(torch.get_rng_state(), state)
    assert estimator(COMPUTED).estimate(rows[::-1].copy())[::-1] == first
    others = estimator(COMPUTED, seed=1).estimate(rows)
    for name in COMPUTED:
        assert [e.metrics[name] for e in first] != [e.metrics[name] for e in others], name


def equal_cells():
    """Two cells that are the same function, written in mirrored ways, with an operation that goes nowhere."""
    one = SPACE.encode("|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|none~0|avg_pool_3x3~1|skip_connect~2|")
    other = SPACE.encode("|nor_conv_1x1~0|+|nor_conv_3x3~0|none~1|+|none~0|skip_connect~1|avg_pool_3x3~2|")
    third = SPACE.encode("|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_1x1~0|avg_pool_3x3~1|none~2|")
    return np.stack([one, other, third])


def test_equal_functions_have_equal_scores_however_they_are_written():
    scores = [estimator(COMPUTED).estimate(row)[0].metrics for row in equal_cells()]
    for name in COMPUTED:
        assert [s[name] for s in scores] == pytest.approx([scores[0][name]] * 3, rel=1e-4), name


def test_equal_functions_are_scored_once_and_cost_nothing_more():
    found = estimator(COMPUTED).estimate(equal_cells())
    assert found[0].metrics == found[1].metrics == found[2].metrics
    flops = SPACE.cost(equal_cells()[0], 10, 3, 8).flops
    assert [e.cost for e in found] == [(12 * (1 + 2 + 1 + 4 + 2) + 3) * flops, 0, 0]


def test_parameters_and_flops_are_those_of_the_row():
    rows = equal_cells()[1:]
    found = estimator(["params", "flops", "naswot"]).estimate(rows)
    for row, estimate in zip(rows, found, strict=True):
        cost = SPACE.cost(row, 10, 3, 8)
        assert (estimate.score, estimate.metrics["flops"]) == (cost.params, cost.flops)
    assert estimator(["params"]).estimate(rows)[0].cost == 0


def test_uncertainty_is_the_standard_error_over_draws():
    alone = [estimator(["grad_norm"], seed).estimate(MIXED)[0] for seed in (0, 1)]
    assert alone[0].uncertainty is None
    several = estimator(["grad_norm"], draws=4)
    (estimate,) = several.estimate(MIXED)
    (scores,) = [[draw["grad_norm"] for draw in draws] for draws in several._known.values()]
    assert scores[0] == alone[0].score
    assert estimate.score == pytest.approx(np.mean(scores))
    assert estimate.uncertainty == pytest.approx(np.std(scores, ddof=1) / 2)
    assert estimate.cost == 4 * alone[0].cost


def test_recalled_scores_answer_for_equal_functions():
    rows = equal_cells()
    whole = estimator(["synflow", "snip"]).estimate(rows)
    resumed = estimator(["synflow", "snip"])
    resumed.recall(rows[:1], [whole[0].numbers()])
    assert [e.numbers() for e in resumed.estimate(rows[1:])] == [e.numbers() for e in whole[1:]]


def test_a_cell_without_a_path_has_the_lowest_scores():
    rows = SPACE.sample(np.random.default_rng(1), 8)
    paths = [row for row in rows if row[3] > 0]  # an operation from the input to the output
    nothing = np.zeros(6, np.int64)
    found = estimator(COMPUTED).estimate(np.stack([nothing, *paths]))
    for name in ("synflow", "naswot", "jacob_cov", "grad_norm", "snip", "zen"):
        scores = [estimate.metrics[name] for estimate in found]
        assert all(map(math.isfinite, scores))
        assert scores[0] < min(scores[1:]), name


@pytest.mark.parametrize("name", SPACES)
def test_every_space_is_scored(name):
    space = make_space(name, DIGITS[name])
    found = estimator(list(PROXIES), space=space).estimate(space.sample(np.random.default_rng(0), 2))
    assert all(math.isfinite(value) for estimate in found for value in estimate.metrics.values())
    assert set(found[0].metrics) == set(PROXIES)


def test_bad_input_is_named():
    images, labels = batch()
    with pytest.raises(ConfigError, match="unknown zero-cost proxy 'synflw': expected one of synflow, naswot"):
        ZeroCostEstimator(SPACE, images, labels, ["synflw"])
    with pytest.raises(ConfigError, match="at least one zero-cost proxy"):
        ZeroCostEstimator(SPACE, images, labels, [])
    with pytest.raises(ConfigError, match="draws must be at least 1, got 0"):
        ZeroCostEstimator(SPACE, images, labels, draws=0)
    with pytest.raises(ShapeError, match=r"N at least 2, got \[1, 3, 8, 8\]"):
        ZeroCostEstimator(SPACE, images[:1], labels[:1])
    with pytest.raises(ShapeError, match="labels must be 0 to 2, got one of 9"):
        ZeroCostEstimator(SPACE, images, labels.clamp_min(9), num_classes=3)
    with pytest.raises(SpaceError, match="naswot needs a network with ReLU or ReLU6, got one without"):
        score_network(nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), images, labels, ["naswot"])
    with pytest.raises(NasfastError, match="grad_norm is nan, expected a finite number"):
        score_network(network(), images * math.inf, labels, ["grad_norm"])


# the live part of a graph


@pytest.mark.parametrize("name", SPACES)
def test_live_part_is_the_same_function(name):
    space = make_space(name, DIGITS[name])
    images, _ = batch(4)
    for row in space.sample(np.random.default_rng(3), 2):
        whole = GraphNetwork(space.graph(row)).double().eval()
        part = GraphNetwork(live_graph(space.graph(row))).double().eval()
        assert part.graph.form() == whole.graph.form()
        part.load_state_dict({key: whole.state_dict()[key] for key in part.state_dict()})
        assert torch.allclose(part(images.double()), whole(images.double()), rtol=1e-10, atol=1e-12)
        assert {node.weights for node in part.graph.nodes} <= {node.weights for node in whole.graph.nodes}


def test_live_part_keeps_neither_zeros_nor_what_is_not_read():
    row = SPACE.encode("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|none~2|")
    cells = [node.op.name for node in live_graph(SPACE.graph(row)).nodes if node.op is not None]
    assert cells == ["stem", "reduce", "reduce", "head"]
