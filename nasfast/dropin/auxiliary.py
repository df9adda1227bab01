"""A skip that a mixed operation adds beside its mixture, with a weight of its own.

For the kernels it is one more edge from the same state to the same node, whose other candidates are zero.

Chu et al., "DARTS-: Robustly Stepping out of Performance Collapse Without Indicators", ICLR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasfast.dropin.recognise import Bank, Candidate, check_norms, read_skip


@dataclass(frozen=True)
class Auxiliary:
    """`module` is None where it is the image itself. `bank` is that of its edge: it alone and zeros."""

    module: nn.Module | None
    bank: Bank

    def norms(self) -> list[nn.BatchNorm2d]:
        return self.bank.norms()


def possible_auxiliaries(bank: Bank, beside: list[nn.Module]) -> list[Auxiliary]:
    """The skips among the modules that stand beside the candidates and, at stride 1, the image itself."""
    found = []
    for module in beside:
        candidate = read_skip(module, bank.channels, bank.stride)
        if candidate is not None:
            found.append(_auxiliary(bank, candidate, module))
    if bank.stride == 1:
        found.append(_auxiliary(bank, Candidate(nn.Identity(), "skip_connect", "batch", 1, None), None))
    return found


def _auxiliary(bank: Bank, candidate: Candidate, module: nn.Module | None) -> Auxiliary:
    zero = Candidate(nn.Identity(), "none", "batch", bank.stride, None)
    zeros = (zero,) * (len(bank.candidates) - 1)
    return Auxiliary(module, replace(bank, holder=module or bank.module, candidates=(candidate, *zeros)))


def check_together(bank: Bank, auxiliary: Auxiliary) -> None:
    """Raise Unrecognised where one graph cannot take both."""
    check_norms(replace(bank, candidates=(*bank.candidates, auxiliary.bank.candidates[0])))


def edge_rows(weights: Tensor) -> Tensor:
    """[2E, K] for E edges and the skips beside them, from [E, K + 1] whose last column are the weights of these."""
    count = weights.shape[1] - 1
    return torch.cat([weights[:, :count], F.pad(weights[:, count:], (0, count - 1))])
