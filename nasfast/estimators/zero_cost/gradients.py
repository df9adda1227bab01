"""Proxies by the gradient of the loss: grad_norm, snip, fisher, grasp.

With weights w, loss L, its gradient g = dL/dw, and the activations a that a layer gives; all sums are over convolutions
and linear layers:

- grad_norm = sum of |g|, a norm for each layer (Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS", ICLR
  2021);
- snip = sum of |w g|, a term for each weight (Lee, Ajanthan, Torr, "SNIP", ICLR 2019);
- fisher = sum over channels of the mean over images of (sum over pixels of a dL/da)^2 / 2 (Theis et al., "Faster Gaze
  Prediction with Dense Networks and Fisher Pruning", 2018; Turner et al., "BlockSwap", ICLR 2020), which each weight of
  a channel counts once, so that as with snip there is a term for each weight (Abdelfattah et al.);
- grasp = -sum of w (H g), with H the Hessian of L, a term for each weight (Wang, Zhang, Grosse, "Picking Winning
  Tickets Before Training by Preserving Gradient Flow", ICLR 2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nasfast.estimators.zero_cost.layers import WEIGHTED


class FisherRecorder:
    """Adds up fisher during the first backward pass through a network on which :meth:`hooks` are."""

    def __init__(self) -> None:
        self.terms: list[Tensor] = []
        self.listens = True

    def hooks(self, network: nn.Module) -> list[RemovableHandle]:
        layers = [module for module in network.modules() if isinstance(module, WEIGHTED)]
        return [layer.register_forward_hook(self._watch) for layer in layers]

    def _watch(self, layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        # An activation that is later rectified in place loses what has no gradient anyway.
        assert isinstance(layer.weight, Tensor)
        value, share = out.detach(), layer.weight[0].numel()
        out.register_hook(lambda gradient: self._add(value, gradient, share))

    def _add(self, value: Tensor, gradient: Tensor, weights: int) -> None:
        if not self.listens:
            return
        per_channel = (value * gradient.detach()).flatten(2).sum(2) if value.dim() > 2 else value * gradient.detach()
        self.terms.append(weights * per_channel.square().mean(0).sum() / 2)

    def stop(self) -> float:
        """The sum; later backward passes do not count."""
        self.listens = False
        return float(sum(term.double() for term in self.terms))


def grad_norm(gradients: Sequence[Tensor]) -> float:
    """See the module."""
    return float(sum(gradient.detach().norm().double() for gradient in gradients))


def snip(weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> float:
    """See the module."""
    return float(sum((w.detach() * g.detach()).abs().sum().double() for w, g in zip(weights, gradients, strict=True)))


def grasp(weights: Sequence[Tensor], gradients: Sequence[Tensor], keep: bool = False) -> float:
    """See the module. ``gradients`` have a graph of their own, which ``keep`` leaves for another backward."""
    flow = torch.stack([(g.detach() * g).sum() for g in gradients]).sum()
    if not flow.requires_grad:  # no gradient depends on a weight
        return 0.0
    products = torch.autograd.grad(flow, list(weights), retain_graph=keep, allow_unused=True)
    pairs = [(w, hg) for w, hg in zip(weights, products, strict=True) if hg is not None]
    return -float(sum((w.detach() * hg).sum().double() for w, hg in pairs))
