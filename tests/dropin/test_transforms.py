"""An accelerated network under what takes a network apart: torch.export, torch.func, vmap, torch.compile."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, jvp, vmap

import nasfast
from nasfast.kernels import ops
from nasfast.nn.cells import Cell
from tests.helpers.require import require

STEPS, CHANNELS, CLASSES = 2, 8, 4


class Network(nn.Module):
    """A stem, a search cell, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.cell = Cell(STEPS, STEPS, CHANNELS, CHANNELS, CHANNELS, False, False)
        self.alphas = nn.Parameter(torch.rand(5, 8))
        self.head = nn.Linear(STEPS * CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.cell(x, x, self.alphas.softmax(-1)).mean((2, 3)))


def networks() -> tuple[Network, Network, Tensor]:
    """A plain one, its accelerated copy, and images."""
    torch.manual_seed(0)
    plain = Network().double().eval()
    fused = copy.deepcopy(plain)
    assert "3 fused" in str(nasfast.accelerate(fused))
    return plain, fused, torch.randn(2, 3, 8, 8, dtype=torch.float64)


def calls_of_ops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Calls of the fused ops from here on."""
    calls: list[str] = []
    for name in ("mixed_op", "relu_conv_bn"):
        op = getattr(ops, name)
        monkeypatch.setattr(ops, name, lambda *a, _op=op, _name=name, **k: (calls.append(_name), _op(*a, **k))[1])
    return calls


def loss(network: nn.Module, parameters: dict[str, Tensor], images: Tensor) -> Tensor:
    out = functional_call(network, parameters, (images,))
    return F.cross_entropy(out, torch.zeros(len(images), dtype=torch.int64))


TRANSFORMS = {
    "gradients": lambda net, p, x: grad(lambda q: loss(net, q, x))(p),
    "of each image": lambda net, p, x: vmap(grad(lambda q, v: loss(net, q, v[None])), (None, 0))(p, x),
    "vmap": lambda net, p, x: vmap(lambda v: net(v[None])[0])(x),
    "jacobian": lambda net, p, x: jacrev(net)(x),
    "jvp": lambda net, p, x: jvp(net, (x,), (torch.ones_like(x),)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_functions_of_torch_take_the_module_s_own_forward(name, monkeypatch):
    plain, fused, images = networks()
    calls = calls_of_ops(monkeypatch)
    results = [TRANSFORMS[name](net, dict(net.named_parameters()), images) for net in (fused, plain)]
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert not calls
    fused(images)
    assert calls  # and afterwards it is fused as before


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_network_has_only_what_pytorch_has(strict):
    plain, fused, images = networks()
    program = torch.export.export(fused, (images,), strict=strict)
    assert not [node for node in program.graph.nodes if "nasfast" in str(node.target)]
    torch.testing.assert_close(program.module()(images), plain(images), rtol=0, atol=0)


def test_onnx_gives_the_same_outputs(tmp_path):
    onnxruntime = require("onnxruntime")
    require("onnxscript")
    plain, fused, images = networks()
    plain, fused, images = plain.float(), fused.float(), images.float()  # onnxruntime has no convolutions in float64
    path = tmp_path / "network.onnx"
    torch.onnx.export(fused, (images,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path)
    (out,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    torch.testing.assert_close(torch.from_numpy(out), plain(images))


def test_a_compiled_network_still_calls_the_fused_ops(monkeypatch):
    plain, fused, images = networks()
    calls = calls_of_ops(monkeypatch)
    torch._dynamo.reset()
    compiled = torch.compile(fused, backend="aot_eager")
    torch.testing.assert_close(compiled(images), plain(images))
    assert calls
    compiled(images).sum().backward()
    plain(images).sum().backward()
    for mine, theirs in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
