"""Launch geometry past 2^31 elements: what fits is exact, what does not is an error and never wraps around."""

from __future__ import annotations

from types import ModuleType

import pytest


def test_grids_from_64_bit_counts(simt_faulty: ModuleType) -> None:
    assert simt_faulty.make_grid("op", 2**31 - 1, 65535, 65535) == (2**31 - 1, 65535, 65535)
    assert simt_faulty.make_grid("op", 0, 1, 1) == (0, 1, 1)
    for sizes in ((2**31, 1, 1), (2**32 + 1, 1, 1), (1, 65536, 1), (1, 1, 65536), (-1, 1, 1), (2**63 - 1, 1, 1)):
        with pytest.raises(RuntimeError, match=rf"op: grid must be at most .*, got {sizes[0]} x {sizes[1]}"):
            simt_faulty.make_grid("op", *sizes)


@pytest.mark.parametrize("items", [0, 1, 255, 256, 257, 2**31 - 1, 2**31, 2**32 + 5, 2**38])
def test_blocks_cover_every_item(simt_faulty: ModuleType, items: int) -> None:
    assert simt_faulty.grid_for("op", items, 256) == -(-items // 256)


def test_more_items_than_a_grid_covers(simt_faulty: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="op: grid must be at most"):
        simt_faulty.grid_for("op", 2**39 + 256, 256)


def test_32_bit_indices_are_checked(simt_faulty: ModuleType) -> None:
    assert simt_faulty.checked_int("op", "pixels", 2**31 - 1) == 2**31 - 1
    for value in (2**31, 2**32, -1):
        with pytest.raises(RuntimeError, match=f"op: pixels must be at most 2147483647, got {value}"):
            simt_faulty.checked_int("op", "pixels", value)


def test_blocks_and_shared_memory_are_checked_before_a_launch(simt_faulty: ModuleType) -> None:
    simt_faulty.check_launch("op", 1024, 163 * 1024)
    with pytest.raises(RuntimeError, match="op: a block must have 1 to 1024 threads, got 1025"):
        simt_faulty.check_launch("op", 1025, 0)
    with pytest.raises(RuntimeError, match="op: a block must have 1 to 1024 threads, got 0"):
        simt_faulty.check_launch("op", 0, 0)
    with pytest.raises(RuntimeError, match="op: shared memory of a block must be at most 166912 bytes, got 166913"):
        simt_faulty.check_launch("op", 32, 163 * 1024 + 1)
