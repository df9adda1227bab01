"""Cases for the tests of the ops: a plain module, its fused twin's arguments, and how near they must be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nasfast.kernels import ops
from nasfast.kernels.primitives import ALL_PRIMITIVES, PRIMITIVES
from nasfast.nn import cells
from nasfast.nn.fused import ParamList
from tests.conftest import Device

# Error allowed, relative to the largest value of the float64 reference. float32: sums of a few thousand products in
# another order; bfloat16: 8 bits of every stored image. The CUDA kernels also round what goes into tensor cores, and
# the gradients between two convolutions, to the type.
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 6e-2}
CUDA_TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 1.5e-1, torch.float16: 2e-2}
TOLERANCES = {"cpu": TOLERANCE, "simt": CUDA_TOLERANCE, "cuda": CUDA_TOLERANCE}


def exact(device: Device) -> torch.dtype:
    """The widest type that the kernels of a device have."""
    return torch.float64 if device.name == "cpu" else torch.float32


def near(device: Device) -> float:
    return TOLERANCES[device.name][exact(device)]


@dataclass(frozen=True)
class Edge:
    """One mixed edge."""

    channels: int
    height: int
    width: int
    stride: int = 1
    batch: int = 2
    primitives: tuple[str, ...] = PRIMITIVES
    affine: bool = False

    def module(self) -> cells.MixedOp:
        module = cells.MixedOp(self.channels, self.stride, self.primitives, self.affine)
        for parameter in module.parameters():
            if parameter.dim() == 1:
                nn.init.uniform_(parameter, 0.5, 1.5)
        return module

    def graph(self) -> ops.MixedGraph:
        return ops.MixedGraph(1, 1, (ops.EdgeSpec(0, 0, self.stride, self.primitives, self.affine),))

    def inputs(self) -> tuple[Tensor, Tensor]:
        x = torch.randn(self.batch, self.channels, self.height, self.width, dtype=torch.float64)
        return x, torch.softmax(torch.randn(len(self.primitives), dtype=torch.float64), 0)


NO_SKIP = tuple(name for name in ALL_PRIMITIVES if name != "skip_connect")
EDGES = {
    "darts": Edge(16, 8, 8),
    "darts, stride 2": Edge(16, 8, 8, stride=2),
    "every primitive, affine": Edge(8, 6, 6, primitives=ALL_PRIMITIVES, affine=True),
    "every primitive, affine, stride 2": Edge(8, 6, 6, stride=2, primitives=ALL_PRIMITIVES, affine=True),
    "odd channels": Edge(5, 7, 4, primitives=ALL_PRIMITIVES),
    "one channel": Edge(1, 5, 5),
    "odd size, stride 2": Edge(12, 7, 5, stride=2, primitives=NO_SKIP),
    "one pixel": Edge(9, 1, 1, batch=3, primitives=ALL_PRIMITIVES),
    "wide": Edge(4, 3, 37),
    "batch 1": Edge(20, 6, 6, batch=1, affine=True),
    **{name: Edge(6, 6, 4, primitives=(name,), affine=True) for name in ALL_PRIMITIVES},
    **{f"{name}, stride 2": Edge(6, 6, 4, stride=2, primitives=(name,), affine=True) for name in ALL_PRIMITIVES},
}


def run(step: Callable[[], Tensor], wanted: list[Tensor]) -> list[Tensor]:
    """Output, then the gradients of `wanted` for a fixed gradient of the output."""
    out = step()
    generator = torch.Generator().manual_seed(7)
    grad = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out)
    grads = torch.autograd.grad(out, wanted, grad, allow_unused=True)
    return [out, *(torch.zeros_like(w) if g is None else g for w, g in zip(wanted, grads, strict=True))]


def leaves(*tensors: Tensor, dtype: torch.dtype, on: str = "cpu") -> list[Tensor]:
    return [t.detach().to(on, dtype, copy=True).requires_grad_() for t in tensors]


def plain_results(edge: Edge, module: cells.MixedOp, x: Tensor, weights: Tensor) -> list[Tensor]:
    module = module.double()
    x, weights = leaves(x, weights, dtype=torch.float64)
    return run(lambda: module(x, weights), [x, weights, *module.parameters()])


def fused_results(
    edge: Edge,
    module: cells.MixedOp,
    x: Tensor,
    weights: Tensor,
    dtype: torch.dtype,
    on: str = "cpu",
    **options: object,
) -> list[Tensor]:
    x, weights, *params = leaves(x, weights, *ParamList(module._ops).params(), dtype=dtype, on=on)
    out = run(
        lambda: ops.mixed_op([x], weights.unsqueeze(0), params, edge.graph(), **options)[0],  # type: ignore[arg-type]
        [x, weights, *params],
    )
    return out


def assert_near(actual: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Each tensor within `tolerance` of the largest value of its reference."""
    assert len(actual) == len(expected)
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        scale = e.abs().max().item() if e.numel() else 0.0
        torch.testing.assert_close(
            a.cpu().double(),
            e.cpu().double(),
            rtol=0,
            atol=tolerance * max(scale, 1e-3),
            msg=lambda m, i=i: f"result {i}: {m}",
        )
