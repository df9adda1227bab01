"""Policies that architectures are drawn from: independent categoricals, and an LSTM that decides one after the other.

Both are small torch modules with the same methods, so that a strategy takes either.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Policy(nn.Module):
    """A distribution over rows.

    Args:
        sizes: How many values each decision has.
    """

    mask: Tensor

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        values = torch.arange(max(self.sizes))
        closed = values[None] >= torch.tensor(self.sizes)[:, None]
        self.register_buffer("mask", torch.zeros(closed.shape).masked_fill(closed, -torch.inf), persistent=False)

    def log_probabilities(self, rows: Tensor) -> Tensor:
        """Of every value of every decision, given the row's earlier decisions: rows int64 [K, D] to float32 [K, D, V].

        V is the largest size; what a decision has not is -inf.
        """
        raise NotImplementedError

    def sample(self, draws: NDArray[np.float64]) -> NDArray[np.int64]:
        """Rows int64 [K, D] from uniform draws [K, D]."""
        raise NotImplementedError

    def score(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Log-probability of each row, and the entropy of the decisions it met: both float32 [K]."""
        index = torch.from_numpy(np.ascontiguousarray(rows))
        logs = self.log_probabilities(index)
        chosen = logs.gather(2, index[:, :, None])[:, :, 0].sum(1)
        entropy = -(logs.exp() * logs.masked_fill(self.mask[None] < 0, 0.0)).sum((1, 2))
        return chosen, entropy


class CategoricalPolicy(Policy):
    """One categorical per decision, all uniform at first."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(sizes)
        self.logits = nn.Parameter(torch.zeros(len(self.sizes), max(self.sizes)))

    def log_probabilities(self, rows: Tensor) -> Tensor:
        return (self.logits + self.mask).log_softmax(1).expand(len(rows), -1, -1)

    @torch.no_grad()
    def sample(self, draws: NDArray[np.float64]) -> NDArray[np.int64]:
        chances = (self.logits + self.mask).softmax(1).double().numpy()
        return _inverse(np.broadcast_to(chances, (*draws.shape, chances.shape[1])), draws, np.array(self.sizes))


class LSTMPolicy(Policy):
    """Reads the decisions taken so far and gives the next one's probabilities, nearly uniform at first.

    Zoph, Le, "Neural Architecture Search with Reinforcement Learning", ICLR 2017; the logits are bounded as in Pham et
    al., "Efficient Neural Architecture Search via Parameter Sharing", ICML 2018.

    Args:
        hidden: Width of the state and of the embeddings.
        bound: Largest absolute logit.
        generator: Draws the initial weights.
    """

    def __init__(self, sizes: Sequence[int], hidden: int, bound: float, generator: np.random.Generator) -> None:
        super().__init__(sizes)
        self.bound = bound
        self.first = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]) + 1  # embedding 0 stands before the row
        self.embedding = nn.Embedding(sum(self.sizes) + 1, hidden)
        self.cell = nn.LSTMCell(hidden, hidden)
        self.heads = nn.Parameter(torch.empty(len(self.sizes), hidden, max(self.sizes)))
        self.biases = nn.Parameter(torch.empty(len(self.sizes), max(self.sizes)))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.from_numpy(generator.uniform(-0.1, 0.1, tuple(parameter.shape))))

    def _next(
        self, step: int, token: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        state = self.cell(self.embedding(token), state)
        logits = self.bound * torch.tanh((state[0] @ self.heads[step] + self.biases[step]) / self.bound)
        return (logits + self.mask[step]).log_softmax(1), state

    def log_probabilities(self, rows: Tensor) -> Tensor:
        token, state, logs = torch.zeros(len(rows), dtype=torch.int64), None, []
        for step in range(len(self.sizes)):
            log, state = self._next(step, token, state)
            logs.append(log)
            token = rows[:, step] + int(self.first[step])
        return torch.stack(logs, 1)

    @torch.no_grad()
    def sample(self, draws: NDArray[np.float64]) -> NDArray[np.int64]:
        rows = np.zeros(draws.shape, np.int64)
        token, state = torch.zeros(len(draws), dtype=torch.int64), None
        for step, size in enumerate(self.sizes):
            log, state = self._next(step, token, state)
            rows[:, step] = _inverse(log.exp().double().numpy(), draws[:, step], np.array(size))
            token = torch.from_numpy(rows[:, step] + int(self.first[step]))
        return rows


def _inverse(chances: NDArray[np.float64], draws: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The value whose share of [0, 1) a draw falls into: chances [..., V], draws [...] to int64 [...]."""
    below = (chances.cumsum(-1) <= draws[..., None]).sum(-1)
    return np.minimum(below, sizes - 1)


def pack_optimizer(policy: Policy, optimizer: torch.optim.Adam) -> dict[str, Any]:
    """Parameters and Adam's state as plain JSON values, bit for bit."""
    adam = [{key: _pack(value) for key, value in optimizer.state[p].items()} for p in policy.parameters()]
    return {"parameters": [_pack(p.detach()) for p in policy.parameters()], "adam": adam}


def unpack_optimizer(policy: Policy, optimizer: torch.optim.Adam, packed: dict[str, Any]) -> None:
    """Set what :func:`pack_optimizer` wrote."""
    with torch.no_grad():
        for p, content, adam in zip(policy.parameters(), packed["parameters"], packed["adam"], strict=True):
            p.copy_(_unpack(content))
            optimizer.state[p] = {key: _unpack(value) for key, value in adam.items()}


def _pack(tensor: Tensor) -> dict[str, Any]:
    array = tensor.contiguous().numpy()
    return {"shape": list(array.shape), "float32": base64.b64encode(array.astype("<f4").tobytes()).decode()}


def _unpack(content: dict[str, Any]) -> Tensor:
    array = np.frombuffer(base64.b64decode(content["float32"]), "<f4").reshape(content["shape"])
    return torch.from_numpy(array.astype(np.float32))
