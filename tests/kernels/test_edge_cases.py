"""What is easy to get wrong in the ops: odd graphs and layouts, NaN, large means, mixed dtypes and devices."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

import nasfast._C as extension
from nasfast.kernels import ops
from nasfast.kernels.primitives import ALL_PRIMITIVES
from nasfast.nn import cells, primitives
from nasfast.nn.fused import ParamList
from tests.conftest import Device
from tests.helpers.op_cases import EDGES, Edge, assert_near, exact, fused_results, leaves, near, plain_results, run

CONVOLUTIONS = tuple(name for name in ALL_PRIMITIVES if "conv" in name)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def params_of(module: nn.Module, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return leaves(*ParamList([module]).params(), dtype=dtype)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("affine", [False, True], ids=["plain", "affine"])
@pytest.mark.parametrize("name", [n for n in ALL_PRIMITIVES if n != "none"])
def test_gradcheck_of_every_primitive_alone(name: str, affine: bool, stride: int) -> None:
    edge = Edge(2, 4, 4, stride, primitives=(name,), affine=affine)
    module, (x, weights) = edge.module(), edge.inputs()
    step = lambda x, w, *p: ops.mixed_op([x], w.unsqueeze(0), p, edge.graph())[0]  # noqa: E731
    # Away from relu's corner and from ties, which finite differences of 1e-6 must not cross.
    x = torch.randperm(x.numel()).double().view(x.shape) / x.numel() - 0.487
    inputs = (x.requires_grad_(), weights.requires_grad_(), *params_of(module))
    assert torch.autograd.gradcheck(step, inputs, fast_mode=True)


@pytest.mark.parametrize("channels", range(1, 21))
def test_every_channel_count(channels: int, device: Device) -> None:
    edge = Edge(channels, 3, 5, batch=3, primitives=ALL_PRIMITIVES)
    module, (x, weights) = edge.module(), edge.inputs()
    fused = fused_results(edge, module, x, weights, exact(device), device.torch)
    expected = plain_results(edge, module, x, weights)
    if channels == 1 and device.name != "cpu":  # the weights' gradients are zero but for rounding
        fused, expected = fused[:3], expected[:3]
    assert_near(fused, expected, near(device))


@pytest.mark.parametrize("isa", ops.build_info()["isa_usable"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_wide_and_narrow_types_on_every_instruction_set(dtype: torch.dtype, isa: str) -> None:
    active = str(ops.build_info()["isa"])
    edge = EDGES["odd channels"]
    module, (x, weights) = edge.module(), edge.inputs()
    expected = fused_results(edge, module, x, weights, dtype)
    extension.set_isa(isa)
    try:
        assert ops.build_info()["isa"] == isa
        fused = fused_results(edge, module, x, weights, dtype)
    finally:
        extension.set_isa(active)
    # Between sets only the contraction of a*b + c differs: the rounding of the stored type, twice.
    assert_near(fused, [e.double() for e in expected], {torch.float64: 1e-11, torch.bfloat16: 3e-2}[dtype])


def test_an_unknown_instruction_set_is_refused_and_changes_nothing() -> None:
    active = ops.build_info()["isa"]
    with pytest.raises(RuntimeError, match=r"instruction set must be one of \{baseline.* got 'sse9'"):
        extension.set_isa("sse9")
    assert ops.build_info()["isa"] == active


def edge_spec(source: int, node: int, *primitives: str, stride: int = 1) -> ops.EdgeSpec:
    return ops.EdgeSpec(source, node, stride, primitives)


def graph_results(graph: ops.MixedGraph, device: Device | None) -> list[Tensor]:
    """Nodes and all gradients of a graph on 3 channels: from the op, or (None) from modules one edge at a time."""
    torch.manual_seed(1)
    modules = [cells.MixedOp(3, edge.stride, edge.primitives).double() for edge in graph.edges]
    params = [p for m in modules for p in m.parameters()]
    states = [torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True) for _ in range(graph.inputs)]
    weights = torch.randn(len(graph.edges), len(graph.edges[0].primitives), dtype=torch.float64, requires_grad=True)
    if device:
        own = leaves(*states, weights, *params, dtype=exact(device), on=device.torch)
        states, weights, params = own[: graph.inputs], own[graph.inputs], own[graph.inputs + 1 :]

    def plain() -> Tensor:
        known: list[Tensor] = [*states]
        for node in range(graph.nodes):
            into = [e for e, edge in enumerate(graph.edges) if edge.node == node]
            known.append(sum((modules[e](known[graph.edges[e].source], weights[e]) for e in into), torch.zeros(())))
        return torch.cat(known[graph.inputs :], dim=1)

    return run(
        (lambda: ops.mixed_op(states, weights, params, graph)[0]) if device else plain, [*states, weights, *params]
    )


GRAPHS = {
    "two edges between the same states": ops.MixedGraph(
        1, 1, (edge_spec(0, 0, "sep_conv_3x3", "skip_connect"), edge_spec(0, 0, "avg_pool_3x3", "skip_connect"))
    ),
    "unused inputs, an isolated node": ops.MixedGraph(
        3,
        3,
        (
            edge_spec(1, 0, "max_pool_3x3", "sep_conv_3x3"),
            edge_spec(1, 2, "avg_pool_3x3", "none"),
            edge_spec(3, 1, "skip_connect", "dil_conv_5x5"),
            edge_spec(4, 2, "sep_conv_5x5", "skip_connect"),
        ),
    ),
    "an edge between nodes first": ops.MixedGraph(
        2,
        2,
        (
            edge_spec(2, 1, "skip_connect", "dil_conv_3x3"),
            edge_spec(0, 0, "max_pool_3x3", "sep_conv_3x3", stride=2),
            edge_spec(1, 0, "max_pool_3x3", "dil_conv_5x5", stride=2),
        ),
    ),
    "the same candidate twice": ops.MixedGraph(1, 1, (edge_spec(0, 0, "max_pool_3x3", "max_pool_3x3"),)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_unusual_graphs_equal_their_edges_one_by_one(name: str, device: Device) -> None:
    assert_near(graph_results(GRAPHS[name], device), graph_results(GRAPHS[name], None), near(device))


def test_a_state_given_twice_gets_both_gradients(device: Device) -> None:
    graph = ops.MixedGraph(2, 1, (edge_spec(0, 0, "skip_connect"), edge_spec(1, 0, "max_pool_3x3")))
    on = device.torch
    x, weights = torch.randn(2, 3, 4, 4, device=on, requires_grad=True), torch.tensor([[2.0], [3.0]], device=on)
    twins = [x.detach().clone().requires_grad_() for _ in range(2)]
    (both,) = torch.autograd.grad(ops.mixed_op([x, x], weights, [], graph)[0].sin().sum(), [x])
    first, second = torch.autograd.grad(ops.mixed_op(twins, weights, [], graph)[0].sin().sum(), twins)
    torch.testing.assert_close(both, first + second)


def test_gradients_do_not_depend_on_which_are_asked_for(device: Device) -> None:
    edge = EDGES["every primitive, affine"]
    module, (x, weights) = edge.module(), edge.inputs()
    everything = fused_results(edge, module, x, weights, torch.float32, device.torch)[1:]
    inputs = leaves(x, weights, *ParamList(module._ops).params(), dtype=torch.float32, on=device.torch)
    for chosen in ([0], [1], [5], [0, 7], [1, len(inputs) - 1]):
        asked = [t.requires_grad_(i in chosen) for i, t in enumerate(inputs)]
        step = lambda a=asked: ops.mixed_op([a[0]], a[1].unsqueeze(0), a[2:], edge.graph())[0]  # noqa: E731
        _, *grads = run(step, [asked[i] for i in chosen])
        assert all(torch.equal(g, everything[i]) for g, i in zip(grads, chosen, strict=True))


def test_the_graph_is_free_only_after_its_last_backward() -> None:
    edge = Edge(4, 5, 5)
    x, weights = (t.requires_grad_() for t in edge.inputs())
    loss = ops.mixed_op([x], weights.unsqueeze(0), params_of(edge.module()), edge.graph())[0].sin().sum()
    first = torch.autograd.grad(loss, [x, weights], retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, torch.autograd.grad(loss, [x, weights]), strict=True))
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(loss, [x])


def test_expanded_sliced_and_negated_tensors(device: Device) -> None:
    edge = Edge(8, 6, 6, primitives=("max_pool_3x3", "skip_connect", "sep_conv_3x3"))
    on, dtype = device.torch, exact(device)
    params = leaves(*ParamList(edge.module()._ops).params(), dtype=dtype, on=on)
    line = torch.randn(1, 8, 1, 6, dtype=dtype, device=on)
    wide = torch.randn(6, 8, 6, 6, dtype=dtype, device=on).to(memory_format=torch.channels_last)
    views = [line.expand(2, 8, 6, 6), wide[::3], wide[1:3].transpose(2, 3), torch._neg_view(wide[:2]), wide[:2].flip(3)]
    weights = torch.rand(3, dtype=dtype, device=on)[:, None, None].expand(3, 1, 2)[:, :, 0].t()
    for view in views:
        out, _ = ops.mixed_op([view], weights, params, edge.graph())
        copied, _ = ops.mixed_op(
            [view.clone(memory_format=torch.contiguous_format)], weights.clone(), params, edge.graph()
        )
        assert torch.equal(out, copied)


def test_a_gradient_of_any_layout() -> None:
    edge = Edge(6, 4, 5)
    params, (x, weights) = params_of(edge.module()), edge.inputs()
    x.requires_grad_()
    for grad in (torch.ones((), dtype=torch.float64).expand(2, 6, 4, 5), torch.randn(2, 6, 5, 4).double().mT):
        out, _ = ops.mixed_op([x], weights.unsqueeze(0), params, edge.graph())
        (one,) = torch.autograd.grad(out, [x], grad, retain_graph=True)
        assert torch.equal(one, torch.autograd.grad(out, [x], grad.clone(memory_format=torch.contiguous_format))[0])


def test_every_argument_may_have_its_own_dtype(device: Device) -> None:
    edge = Edge(8, 6, 6, primitives=("sep_conv_3x3", "max_pool_3x3"))
    x, weights = (t.to(device.torch).requires_grad_() for t in edge.inputs())
    params = [p.to(device.torch) for p in params_of(edge.module())]
    kinds = itertools.cycle([torch.bfloat16, torch.float64, torch.float16])
    mixed = [p.detach().to(kind).requires_grad_() for p, kind in zip(params, kinds, strict=False)]
    x = x.detach().float().requires_grad_()
    out, used = ops.mixed_op([x], weights.unsqueeze(0), mixed, edge.graph())
    grads = torch.autograd.grad(out.sum(), [x, weights, *mixed])
    assert (out.dtype, used.dtype) == (torch.float32, torch.float32)
    assert [g.dtype for g in grads] == [t.dtype for t in (x, weights, *mixed)]
    assert all(g.shape == t.shape for g, t in zip(grads, (x, weights, *mixed), strict=True))


def test_given_statistics_are_used_and_returned_as_a_copy() -> None:
    edge = Edge(4, 5, 5, primitives=("avg_pool_3x3",))
    x, _ = edge.inputs()
    stats = torch.stack([torch.randn(4), torch.rand(4) + 0.5]).double().unsqueeze(0)
    out, used = ops.mixed_op([x], torch.ones(1, 1).double(), [], edge.graph(), stats=stats, eps=0.1)
    assert torch.equal(used, stats)
    assert used.data_ptr() != stats.data_ptr()
    pooled = nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(out, nn.functional.batch_norm(pooled, stats[0, 0], stats[0, 1], eps=0.1))


@pytest.mark.parametrize("mean", [0.0, 1e2, 1e4])
def test_statistics_keep_their_digits_at_a_large_mean(mean: float, device: Device) -> None:
    x = (mean + torch.randn(4, 8, 8, 8)).to(device.torch)
    x[:, 0, 0, 0] = -5 * mean  # an outlier where the kernels take their shift from
    graph = ops.MixedGraph(1, 1, (edge_spec(0, 0, "max_pool_3x3"),))
    _, used = ops.mixed_op([x], torch.ones(1, 1, device=device.torch), [], graph)
    pooled = nn.functional.max_pool2d(x.double(), 3, 1, 1)
    # float32 sums of 64 values an image, from the first of each.
    torch.testing.assert_close(used[0, 0].double(), pooled.mean((0, 2, 3)), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(used[0, 1].double(), pooled.var((0, 2, 3), unbiased=False), rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["sep_conv_3x3", "max_pool_3x3", "avg_pool_3x3"])
def test_statistics_of_a_large_image_keep_their_digits(name: str) -> None:
    edge = Edge(8, 224, 224, batch=1, primitives=(name,))
    module = edge.module()
    x, weights = edge.inputs()
    x = x.float() + 0.5
    params = ParamList(module._ops).params()
    _, used = ops.mixed_op([x], weights.float().unsqueeze(0), params, edge.graph())
    _, exact = ops.mixed_op([x.double()], weights.unsqueeze(0), [p.double() for p in params], edge.graph())
    torch.testing.assert_close(used[:, 1].double(), exact[:, 1], rtol=3e-6, atol=0)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("edge", [Edge(3, 5, 7, primitives=ALL_PRIMITIVES), Edge(16, 6, 4, 2)], ids=["1", "2"])
def test_nothing_of_an_earlier_call_is_left_in_kept_buffers(edge: Edge, recompute: bool) -> None:
    module, (x, weights) = edge.module(), edge.inputs()
    ops.empty_cache()
    clean = fused_results(edge, module, x, weights, torch.float32, recompute=recompute)
    for again in (False, True):
        fused_results(edge, module, torch.full_like(x, torch.nan), weights, torch.float32, recompute=again)
    after = fused_results(edge, module, x, weights, torch.float32, recompute=recompute)
    assert all(torch.equal(a, b) for a, b in zip(clean, after, strict=True))


@pytest.mark.parametrize("name", [*CONVOLUTIONS, "max_pool_3x3", "avg_pool_3x3", "skip_connect"])
@pytest.mark.parametrize("training", [True, False], ids=["batch", "given"])
@pytest.mark.parametrize("channels", [8, 12])  # whole blocks of eight, and a padded one that a reduction's halves share
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=["nan", "inf"])
def test_nan_and_inf_reach_the_same_outputs_and_input_gradients_as_in_torch(
    name: str, training: bool, channels: int, stride: int, value: float, device: Device
) -> None:
    edge = Edge(channels, 6, 8, stride, primitives=(name,))
    module = edge.module().double().train(training)
    x, weights = edge.inputs()
    x[1, 3, 2, 2] = value
    stats = None if training else ParamList(module._ops).running_stats()
    stats = None if stats is None else stats.to(device.torch)
    (theirs,) = leaves(x, dtype=torch.float64)
    mine, mixture, *params = leaves(x, weights, *ParamList(module._ops).params(), dtype=exact(device), on=device.torch)
    fused = run(lambda: ops.mixed_op([mine], mixture.unsqueeze(0), params, edge.graph(), stats=stats)[0], [mine])
    plain = run(lambda: module(theirs, weights), [theirs])
    for a, b in zip(fused, plain, strict=True):
        assert torch.equal(a.cpu().isnan(), b.isnan())


@pytest.mark.parametrize("split", [8, 6])
def test_nan_stays_in_its_half_of_a_factorized_reduction(split: int, device: Device) -> None:
    module = primitives.FactorizedReduce(5, 2 * split, affine=False).double()
    x = torch.randn(2, 5, 4, 4, dtype=torch.float64)
    x[0, 1, 1, 3] = torch.nan  # an odd pixel, read by the second half alone
    (theirs,) = leaves(x, dtype=torch.float64)
    convs = (module.conv_1.weight, module.conv_2.weight)
    mine, *weights = leaves(x, *convs, dtype=exact(device), on=device.torch)
    fused = run(lambda: ops.relu_conv_bn(mine, weights)[0], [mine])
    plain = run(lambda: module(theirs), [theirs])
    assert plain[0][:, split:].isnan().all()
    assert not plain[0][:, :split].isnan().any()
    for a, b in zip(fused, plain, strict=True):
        assert torch.equal(a.cpu().isnan(), b.isnan())


def test_none_is_zero_whatever_it_reads(device: Device) -> None:
    x = torch.full((2, 3, 4, 4), torch.nan, requires_grad=True, device=device.torch)
    weights = torch.ones(1, 1, device=device.torch)
    out, _ = ops.mixed_op([x], weights, [], ops.MixedGraph(1, 1, (edge_spec(0, 0, "none"),)))
    assert torch.equal(out.cpu(), torch.zeros(2, 3, 4, 4))
    assert not torch.autograd.grad(out.sum(), [x])[0].any()


def test_a_constant_image_has_finite_gradients(device: Device) -> None:
    edge = Edge(4, 6, 6, primitives=ALL_PRIMITIVES)
    image = torch.full((2, 4, 6, 6), 3.0)
    results = fused_results(edge, edge.module(), image, torch.ones(10), torch.float32, device.torch)
    assert all(r.isfinite().all() for r in results)


def test_pixels_of_a_row_are_refused_nothing_by_the_border(device: Device) -> None:
    """Every pool window and kernel of a one pixel high image reaches over its border."""
    for height, width in ((1, 9), (9, 1), (2, 2)):
        edge = Edge(3, height, width, primitives=ALL_PRIMITIVES, batch=4)
        module, (x, weights) = edge.module(), edge.inputs()
        fused = fused_results(edge, module, x, weights, exact(device), device.torch)
        assert_near(fused, plain_results(edge, module, x, weights), near(device))


def test_autocast_reads_states_in_bfloat16_and_keeps_float32_parameters() -> None:
    edge = Edge(8, 6, 6)
    module, (x, weights) = edge.module(), edge.inputs()
    x, weights, *params = leaves(x, weights, *ParamList(module._ops).params(), dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out, used = ops.mixed_op([x], weights.unsqueeze(0), params, edge.graph())
        before, _ = ops.relu_conv_bn(x, [torch.randn(4, 8, 1, 1)])
    cast, _ = ops.mixed_op([x.bfloat16()], weights.unsqueeze(0), params, edge.graph())
    assert torch.equal(out, cast)
    assert (out.dtype, before.dtype, used.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    grads = torch.autograd.grad(out.float().sum(), [x, weights, *params])
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in grads)


CALLS = {
    "mixed_op": lambda x: ops.mixed_op([x], torch.ones(1, 1), [], ops.MixedGraph(1, 1, (edge_spec(0, 0, "none"),))),
    "relu_conv_bn": lambda x: ops.relu_conv_bn(x, [torch.ones(2, 4, 1, 1)]),
}


@pytest.mark.parametrize("op", CALLS)
def test_autocast_to_float16_is_refused_on_the_cpu(op: str) -> None:
    message = f"{op}: states must be float32, float64 or bfloat16, got Half"
    with torch.autocast("cpu", torch.float16), pytest.raises(RuntimeError, match=message):
        CALLS[op](torch.zeros(1, 4, 5, 5))


def test_modes_without_a_graph() -> None:
    edge = Edge(4, 5, 5)
    params, (x, weights) = params_of(edge.module()), edge.inputs()
    plain, _ = ops.mixed_op([x], weights.unsqueeze(0), [p.detach() for p in params], edge.graph())
    assert not plain.requires_grad
    with torch.no_grad():
        assert not ops.mixed_op([x], weights.unsqueeze(0), params, edge.graph())[0].requires_grad
    with torch.inference_mode():
        out, _ = ops.mixed_op([x.clone()], weights.unsqueeze(0), params, edge.graph())
    assert torch.equal(out, plain)


def test_nodes_that_backward_reads_may_not_be_overwritten() -> None:
    graph = ops.MixedGraph(1, 2, (edge_spec(0, 0, "skip_connect"), edge_spec(1, 1, "max_pool_3x3")))
    out, _ = ops.mixed_op([torch.randn(2, 3, 4, 4)], torch.ones(2, 1, requires_grad=True), [], graph)
    out.relu_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


META = torch.device("meta")
X, W = torch.zeros(2, 4, 6, 6), torch.zeros(1, 1)
DILATED = params_of(Edge(4, 6, 6, primitives=("dil_conv_3x3",)).module(), torch.float32)
CODE = ops.MixedGraph(1, 1, (edge_spec(0, 0, "dil_conv_3x3"),)).code
POINTWISE = torch.zeros(3, 4, 1, 1)


@pytest.mark.parametrize(
    ("op", "arguments", "message"),
    [
        ("mixed_op", ([X], W.to(META), DILATED, None, CODE), "weights must be on cpu, got meta"),
        ("mixed_op", ([X], W, [DILATED[0].to(META), DILATED[1]], None, CODE), "params must be on cpu, got meta"),
        ("mixed_op", ([X], W, DILATED, torch.zeros(1, 2, 4, device=META), CODE), "stats must be on cpu, got meta"),
        ("mixed_op", ([X.to(META)], W, DILATED, None, CODE), "weights must be on meta, got cpu"),
        ("relu_conv_bn", (X, [POINTWISE.to(META)], [], None), "weights must be on cpu, got meta"),
        ("relu_conv_bn", (X, [POINTWISE], [torch.ones(3), torch.ones(3, device=META)], None), "affine must be on cpu"),
        ("relu_conv_bn", (X, [POINTWISE], [torch.ones(3).int()] * 2, None), "affine must be floating point on cpu"),
        ("mixed_op", ([X, X.double()], W, DILATED, None, [2, *CODE[1:]]), "states must have one dtype"),
        ("mixed_op", ([X, X[:1]], W, DILATED, None, [2, *CODE[1:]]), "states must have one shape"),
        ("mixed_op", ([X], W, DILATED, None, [1, 2, *CODE[2:]]), "graph node 1 must have an edge into it"),
        ("mixed_op", ([X], W, DILATED, None, [1, 2, 1, 1, 1, 0, 1, 1]), "graph edge 0 must lead to a later node"),
        ("mixed_op", ([X], W, [], None, [1, 1, 1, 1, 0, 0, 1, 4 + 32]), "a primitive without BatchNorm"),
        ("mixed_op", ([X], W, [], None, [1, 1, 2, 1, 0, 0, 1, 3, 3]), "at most one skip_connect"),
        ("mixed_op", ([], W, [], None, CODE), "states must hold 1 tensors for this graph, got 0"),
    ],
)
def test_wrong_arguments_are_named(op: str, arguments: tuple, message: str) -> None:
    call = getattr(torch.ops.nasfast, op)
    recompute = False
    with pytest.raises(RuntimeError, match=f"{op}: .*{message}"):
        call(*arguments, 1e-5, recompute)


@pytest.mark.parametrize("norms", [("batch",), ("batch", "layer")], ids=str)
def test_wrong_norms_are_named(norms: tuple[str, ...]) -> None:
    with pytest.raises(ops.ConfigError, match="norms must be one of batch, affine, none for each of 2 candidates"):
        ops.MixedGraph(1, 1, (ops.EdgeSpec(0, 0, 1, ("none", "max_pool_3x3"), norms=norms),))


def test_a_second_derivative_of_the_preprocessing_is_refused() -> None:
    weight = torch.ones(3, 4, 1, 1, requires_grad=True)
    out, _ = ops.relu_conv_bn(X, [weight])
    with pytest.raises(RuntimeError, match="relu_conv_bn: cannot be differentiated twice"):
        torch.autograd.grad(out.sum(), [weight], create_graph=True)
