"""Blocks of a kernel that one multiprocessor holds at a time."""

from __future__ import annotations

import dataclasses

_WARP, _WARPS, _BLOCKS, _REGISTERS = 32, 64, 32, 65536
"""Threads of a warp; warps, blocks and registers of a multiprocessor: the same on all of the architectures below."""
_WARP_REGISTERS, _WARP_STEP = 256, 4
"""A warp takes registers in such steps; registers suffice for a whole multiple of so many warps."""
_BLOCK_RESERVE, _SHARED_STEP = 1024, 128
"""Bytes of shared memory that every block takes besides its own, and the step in which it takes them."""
_SHARED = {"sm_80": 164 * 1024, "sm_90": 228 * 1024, "sm_100": 228 * 1024}
_SHARED_OF_BLOCK = {"sm_80": 163 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024}


@dataclasses.dataclass(frozen=True)
class Residency:
    """What a multiprocessor holds of a kernel.

    Attributes:
        blocks: As many as its registers, warps and static shared memory allow.
        room: Bytes of dynamic shared memory that each of them may take without there being fewer.
    """

    blocks: int
    room: int


def residency(arch: str, threads: int, registers: int, static_shared: int = 0) -> Residency | None:
    """Of a kernel with blocks of so many threads; None on an architecture that is not listed here."""
    if arch not in _SHARED or threads < 1 or registers < 1:
        return None
    warps = -(-threads // _WARP)
    of_warp = -(-registers * _WARP // _WARP_REGISTERS) * _WARP_REGISTERS
    fitting = _REGISTERS // of_warp // _WARP_STEP * _WARP_STEP
    blocks = min(fitting // warps, _WARPS // warps, _BLOCKS)
    while blocks and blocks * _taken(static_shared) > _SHARED[arch]:
        blocks -= 1
    if not blocks:
        return Residency(0, 0)
    share = _SHARED[arch] // blocks // _SHARED_STEP * _SHARED_STEP - _BLOCK_RESERVE
    return Residency(blocks, min(share, _SHARED_OF_BLOCK[arch]) - static_shared)


def _taken(shared: int) -> int:
    return -(-(shared + _BLOCK_RESERVE) // _SHARED_STEP) * _SHARED_STEP
