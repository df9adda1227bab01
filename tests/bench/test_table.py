"""bench.table: what it times agrees, and what does not agree is not timed."""

from __future__ import annotations

import pytest
import torch

from bench import table
from bench.validate import MismatchError

SMALL = table.Case(rows=60, columns=5, bins=4, members=3, width=8, batch=16)


def test_both_ways_compute_the_same() -> None:
    assert table.validate(SMALL, table.Table.make(SMALL)) < 1e-5


def test_a_training_step_moves_both_ways_alike() -> None:
    made = table.Table.make(SMALL)
    plain, ours = (table.Way(SMALL, made, way == "plain") for way in table.WAYS)
    losses = [(plain.train().item(), ours.train().item()) for _ in range(3 * table.BATCHES)]
    assert sum(a for a, _ in losses[-table.BATCHES :]) < sum(a for a, _ in losses[: table.BATCHES])
    for a, b in losses:
        assert a == pytest.approx(b, rel=1e-4)


def test_numbers_beyond_the_edges_stay_at_them() -> None:
    made = table.Table.make(SMALL)
    made.numbers[:2] = torch.tensor([[-1e3], [1e3]])
    bins, fractions = made.encoded()
    assert bins[:2].unique(dim=1).flatten().tolist() == [0, SMALL.bins - 1]
    assert fractions[:2].unique(dim=1).flatten().tolist() == [0, 1]
    table.validate(SMALL, made)


def test_a_wrong_result_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = table.table_embedding
    monkeypatch.setattr(table, "table_embedding", lambda *arguments: 1.001 * right(*arguments))
    with pytest.raises(MismatchError, match="ours, Case"):
        table.measure(SMALL, rounds=1)
