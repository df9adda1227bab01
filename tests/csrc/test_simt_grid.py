"""Launch geometry past 2^31 elements: what fits is exact, what does not is an error and never wraps around."""

from __future__ import annotations

from random import Random
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


def test_blocks_are_checked_before_a_launch(simt_faulty: ModuleType) -> None:
    simt_faulty.check_launch("op", 1024)
    with pytest.raises(RuntimeError, match="op: a block must have 1 to 1024 threads, got 1025"):
        simt_faulty.check_launch("op", 1025)
    with pytest.raises(RuntimeError, match="op: a block must have 1 to 1024 threads, got 0"):
        simt_faulty.check_launch("op", 0)


@pytest.mark.parametrize("most", [99 * 1024, 163 * 1024, 227 * 1024], ids=["sm_120", "sm_80", "sm_90"])
def test_shared_memory_is_what_the_device_gives(simt_faulty: ModuleType, most: int) -> None:
    simt_faulty.check_shared("op", most, most)
    with pytest.raises(RuntimeError, match=f"op: a block needs {most + 1} bytes .*, and this device .* at most {most}"):
        simt_faulty.check_shared("op", most + 1, most)


def test_quotients_are_exact(simt_faulty: ModuleType) -> None:
    """At multiples and beside them, where an estimate that is off by one shows."""
    generator = Random(0)
    divisors = [1, 2, 3, 5, 7, 1000, 2**16 + 1, 2**31 - 1, *(generator.randrange(1, 2**31) for _ in range(2000))]
    for b in divisors:
        for a in (0, b - 1, b, 2**32 - 1, 2**32, 2**50 - 1, generator.randrange(2**50), generator.randrange(2**32)):
            for beside in (a - 1, a, a // b * b, a // b * b - 1):
                if 0 <= beside < 2**50:
                    assert simt_faulty.quotient(beside, b) == beside // b
