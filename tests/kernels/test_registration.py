"""Every op has all its parts: schema, kernel, fake, autograd, autocast, twin and tests."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nasfast.kernels import ops, reference_paths, reference_table, table
from nasfast.nn import cells, primitives
from nasfast.nn.fused import ParamList
from tests.helpers.op_cases import EDGES

PUBLIC = {
    *("mixed_op", "relu_conv_bn", "shuffle_channels", "update_running_stats_"),
    *("supernet_paths", "supernet_update_running_", "table_embedding"),
}
TWINS = {
    "mixed_op": [cells.MixedOp, cells.Cell],
    "relu_conv_bn": [primitives.ReLUConvBN, primitives.FactorizedReduce],
    "shuffle_channels": [cells.channel_shuffle],
    "update_running_stats_": [nn.BatchNorm2d],
    "supernet_paths": [reference_paths.run_paths],
    "supernet_update_running_": [nn.BatchNorm2d],
    "table_embedding": [reference_table.embed_table],
}
CPU_ONLY = ("table_embedding",)  # its function takes the twin on other devices
DIFFERENTIABLE = ("mixed_op", "relu_conv_bn", "supernet_paths", *CPU_ONLY)
INNER = {f"_{name}_{part}" for name in DIFFERENTIABLE for part in ("forward", "backward")}
INNER |= {"_shuffle_channels_backward"}
OTHERS = {"child_eval"}  # has no gradients, and is called by nasfast.supernets.batched_eval: tests/supernets
EVERY = sorted(PUBLIC | INNER | OTHERS)


def registered() -> set[str]:
    schemas = torch._C._jit_get_all_schemas()
    return {s.name.removeprefix("nasfast::") for s in schemas if s.name.startswith("nasfast::")}


def test_the_list_of_ops_is_complete() -> None:
    assert registered() == set(EVERY)
    assert set(TWINS) == PUBLIC


@pytest.mark.parametrize("name", EVERY)
def test_every_op_has_a_cpu_kernel_and_a_fake(name: str) -> None:
    kernel = torch._C._dispatch_has_computed_kernel_for_dispatch_key
    assert kernel(f"nasfast::{name}", "CPU")
    assert kernel(f"nasfast::{name}", "Meta")


@pytest.mark.parametrize("name", EVERY)
def test_every_op_has_a_cuda_kernel_where_the_build_has_cuda(name: str) -> None:
    kernel = torch._C._dispatch_has_computed_kernel_for_dispatch_key(f"nasfast::{name}", "CUDA")
    composite, on_cuda = name in DIFFERENTIABLE, not name.removeprefix("_").startswith(CPU_ONLY)
    assert kernel == (composite or (on_cuda and ops.build_info()["cuda"] is not None))


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_ops_have_a_typed_function_with_docs(name: str) -> None:
    doc = getattr(table if name in CPU_ONLY else ops, name).__doc__
    assert "Args:" in doc
    assert "Equivalent to" in doc


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_differentiable_ops_have_autograd_and_autocast(name: str) -> None:
    devices = ("CPU",) if name in CPU_ONLY else ("CPU", "CUDA")
    for key in [f"{kind}{device}" for kind in ("Autograd", "Autocast") for device in devices]:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"nasfast::{name}", key)
    for part in ("forward", "backward"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"nasfast::_{name}_{part}", "CPU")


def mixed_arguments(name: str) -> tuple:
    edge = EDGES[name]
    x, weights = edge.inputs()
    params = [p.detach().requires_grad_() for p in ParamList(edge.module()._ops).params()]
    x, weights = x.float().requires_grad_(), weights.float().unsqueeze(0).requires_grad_()
    return [x], weights, params, None, edge.graph().code, 1e-5


def relu_arguments(reduce: bool) -> tuple:
    weights = [torch.randn(4, 6, 1, 1, requires_grad=True) for _ in range(1 + reduce)]
    return torch.randn(2, 6, 4, 4, requires_grad=True), weights, [], None, 1e-5


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", ["darts", "darts, stride 2", "every primitive, affine"])
def test_opcheck_mixed_op(name: str, recompute: bool) -> None:
    torch.manual_seed(0)
    torch.library.opcheck(torch.ops.nasfast.mixed_op.default, (*mixed_arguments(name), recompute))


@pytest.mark.parametrize("reduce", [False, True])
def test_opcheck_relu_conv_bn(reduce: bool) -> None:
    torch.manual_seed(0)
    torch.library.opcheck(torch.ops.nasfast.relu_conv_bn.default, (*relu_arguments(reduce), False))


def test_opcheck_shuffle_channels() -> None:
    parts = [torch.randn(2, channels, 3, 5, requires_grad=True) for channels in (2, 6)]
    torch.library.opcheck(torch.ops.nasfast.shuffle_channels.default, (*parts, 4))
    torch.library.opcheck(torch.ops.nasfast._shuffle_channels_backward.default, (torch.randn(2, 8, 3, 5), 2, 4))


def test_opcheck_update_running_stats() -> None:
    buffers = [[torch.zeros(3)], [torch.ones(3)], [torch.zeros((), dtype=torch.int64)]]
    arguments = (torch.rand(1, 2, 3), *buffers, 0.1, 12)
    torch.library.opcheck(torch.ops.nasfast.update_running_stats_.default, arguments)


@pytest.mark.parametrize("wanted", [True, False], ids=["every gradient", "alphas only"])
@pytest.mark.parametrize("batch", [2, 0])
@pytest.mark.parametrize("recompute", [False, True], ids=["saved", "recompute"])
@torch.no_grad()
def test_opcheck_inner_ops_of_mixed_op(recompute: bool, batch: int, wanted: bool) -> None:
    torch.manual_seed(0)
    (x,), weights, params, _, code, eps = mixed_arguments("every primitive, affine, stride 2")
    arguments = ([x[:batch]], weights, params)
    torch.library.opcheck(torch.ops.nasfast._mixed_op_forward.default, (*arguments, None, code, eps, recompute))
    out, stats, saved = torch.ops.nasfast._mixed_op_forward(*arguments, None, code, eps, recompute)
    torch.library.opcheck(
        torch.ops.nasfast._mixed_op_backward.default,
        (torch.randn_like(out), out, *arguments, stats, saved, code, eps, True, [wanted], wanted),
    )


@pytest.mark.parametrize("wanted", [True, False], ids=["every gradient", "none"])
@pytest.mark.parametrize("batch", [2, 0])
@pytest.mark.parametrize("reduce", [False, True], ids=["pointwise", "reduction"])
@torch.no_grad()
def test_opcheck_inner_ops_of_relu_conv_bn(reduce: bool, batch: int, wanted: bool) -> None:
    torch.manual_seed(0)
    x, convs, _, _, eps = relu_arguments(reduce)
    arguments = (x[:batch], convs, [torch.rand(4 * len(convs)) for _ in range(2)])
    torch.library.opcheck(torch.ops.nasfast._relu_conv_bn_forward.default, (*arguments, None, eps, False))
    out, stats, saved = torch.ops.nasfast._relu_conv_bn_forward(*arguments, None, eps, False)
    torch.library.opcheck(
        torch.ops.nasfast._relu_conv_bn_backward.default,
        (torch.randn_like(out), *arguments, stats, saved, eps, True, wanted, wanted),
    )


def test_fakes_give_the_shapes_without_data() -> None:
    [x], weights, params, _, code, eps = mixed_arguments("every primitive, affine, stride 2")
    meta = [p.to("meta") for p in params]
    out, stats = torch.ops.nasfast.mixed_op([x.to("meta")], weights.to("meta"), meta, None, code, eps, False)
    real, used = torch.ops.nasfast.mixed_op([x], weights, params, None, code, eps, False)
    assert (out.shape, out.stride(), out.device.type) == (real.shape, real.stride(), "meta")
    assert stats.shape == used.shape


def test_build_info_tells_the_build() -> None:
    info = ops.build_info()
    assert info["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert info["openmp"]  # without it, torch's parallel loops are serial in an extension
    assert info["isa"] in info["isa_usable"]
    assert set(info["isa_usable"]) <= set(info["isa_built"])


def test_kept_buffers_are_given_back() -> None:
    states, weights, params, _, code, eps = mixed_arguments("darts")
    torch.ops.nasfast.mixed_op(states, weights, params, None, code, eps, False)
    assert ops.empty_cache() > 0
    assert ops.empty_cache() == 0
