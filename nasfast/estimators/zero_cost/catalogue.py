"""The zero-cost proxies by name: where each is from, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nasfast.errors import ConfigError
from nasfast.utils.suggest import did_you_mean


@dataclass(frozen=True)
class Proxy:
    """What a proxy needs.

    Attributes:
        paper: Where it is from.
        shares: What it takes of the batch's common forward: "codes", "loss" (gradients), "flow" (second derivatives),
            "pixels" (gradients by the images); "" where it runs the network itself, or not at all.
        passes: Forwards of the batch that it adds to what is shared.
        images: Forwards of single images.
    """

    paper: str
    shares: str = ""
    passes: float = 0.0
    images: float = 0.0


PROXIES: dict[str, Proxy] = {
    "synflow": Proxy("Tanaka et al., NeurIPS 2020", images=3.0),
    "naswot": Proxy("Mellor et al., ICML 2021", "codes"),
    "jacob_cov": Proxy("Mellor et al., arXiv:2006.04647, 2020", "pixels", 1.0),
    "grad_norm": Proxy("Abdelfattah et al., ICLR 2021", "loss"),
    "snip": Proxy("Lee et al., ICLR 2019", "loss"),
    "fisher": Proxy("Turner et al., ICLR 2020", "loss"),
    "grasp": Proxy("Wang et al., ICLR 2020", "flow", 4.0),
    "zen": Proxy("Lin et al., ICCV 2021", "", 2.0),
    "params": Proxy("trainable parameters"),
    "flops": Proxy("FLOPs, as the space counts them"),
}
"""Larger is better, of each. params and flops are the space's, see :meth:`nasfast.spaces.Space.cost`."""

COUNTED = ("params", "flops")
_BY_LOSS = ("loss", "flow")


def check_proxies(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once.

    Raises:
        ConfigError: There are none, or one is unknown.
    """
    for name in names:
        if name not in PROXIES:
            hint = did_you_mean(name, PROXIES)
            raise ConfigError(f"unknown zero-cost proxy {name!r}: expected one of {', '.join(PROXIES)}{hint}")
    if not names:
        raise ConfigError(f"expected at least one zero-cost proxy of {', '.join(PROXIES)}, got none")
    return tuple(dict.fromkeys(names))


def images_through(names: Sequence[str], count: int) -> float:
    """Images that go forward for the proxies of a batch of ``count``, about.

    A backward is two forwards, a Hessian product four.
    """
    used = [PROXIES[name] for name in names]
    shared = 1.0 if any(proxy.shares for proxy in used) else 0.0
    backward = 2.0 if any(proxy.shares in _BY_LOSS for proxy in used) else 0.0
    return count * (shared + backward + sum(proxy.passes for proxy in used)) + sum(proxy.images for proxy in used)
