"""The harness that runs CUDA sources on the CPU rejects every mistake it is there for, and nothing else."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor

# What the harness must say about each faulty kernel. The corrected twin of each must pass.
FAULTS = {
    "missing_barrier": r"nobody has written|race: (read|write) of element \d+ of shared memory piece 0 that",
    "missing_barrier_in_loop": r"race: (read|write) of element \d+ of shared memory piece 0 that .* with no barrier",
    "missing_barrier_global": r"nobody has written|race: (read|write) of byte \d+ of the op's own Float \[256\]",
    "missing_syncwarp": r"nobody has written|race: (read|write) of element \d+ of shared memory piece 0 that",
    "syncwarp_across_warps": r"nobody has written|race: (read|write) of element \d+ of shared memory piece 0 that",
    "divergent_barrier": r"divergent barrier: this thread reaches __syncthreads \(barriers.cu:\d+\) while \d+ others",
    "barrier_after_exit": r"divergent barrier: this thread (exits while \d+ others wait|reaches .* have exited)",
    "uneven_barrier_count": r"divergent barrier: this thread (exits while \d+ others wait|reaches .* have exited)",
    "write_past_end": r"thread \(63, 0, 0\): write of 4 bytes at 0x[0-9a-f]+ is out of bounds: 0 bytes past the end of "
    r"the op's own Float \[256\] \(1024 bytes\)",
    "read_before_start": r"read of 4 bytes at 0x[0-9a-f]+ is out of bounds: ",
    "vector_past_end": r"read of 16 bytes at 0x[0-9a-f]+ is out of bounds: 0 bytes past the end of the caller's Float",
    "misaligned_vector": r"read of 16 bytes at 0x[0-9a-f]+ is misaligned: the address must be a multiple of 16",
    "shared_past_end": r"access to element 64 of a piece of shared memory is out of bounds: it has 64 elements",
    "shared_misaligned_vector": r"elements \d+ to \d+ of a piece of shared memory is misaligned: .* a multiple of 8",
    "shared_larger_than_launched": r"SharedArena: the kernel takes at least 260 bytes .*, the launch gave 256",
    "second_arena": r"SharedArena: every thread must take the same pieces in the same order, from one arena",
    "unwritten_global": r"read of byte 308 of the op's own Float \[256\], which nobody has written yet",
    "unwritten_shared": r"read of element 7 of shared memory piece 0, which nobody has written yet",
    "shared_from_another_block": r"read of element \d+ of shared memory piece 0, which nobody has written yet",
    "write_to_input": r"write to the caller's Float \[256\], which the host gave to be read only",
    "read_of_other_blocks": r"race between blocks: |nobody has written",
    "write_after_counter": r"race between blocks: |nobody has written",
    "wrong_counter": r"race between blocks: |nobody has written",
    "too_many_announced": r"last_block: a counter holds 4 when the launch ends",
    "write_by_two_blocks": r"race between blocks: write of byte 0 of .* that block \(\d, 0, 0\) writes in the same",
    "in_place_with_neighbours": r"race between blocks: (read|write) of byte \d+",
    "plain_read_of_atomic": r"race( between blocks)?: (read|atomic update) of byte 4 of the op's own Int \[4\]",
    "shuffle_with_exited_lanes": r"divergent warp: .*__shfl_xor_sync .* lane \d+, which has exited",
    "divergent_shuffle": r"divergent warp: this thread is at __shfl_xor_sync \(warps.cu:\d+\) and needs lane \d+, "
    r"which waits at __shfl_xor_sync \(warps.cu:\d+\)",
    "shuffle_against_barrier": r"divergent warp: .* for lane 3, which waits at __syncthreads",
    "shuffle_out_of_mask": r"__shfl_xor_sync \(warps.cu:\d+\) reads lane \d+, which the mask 0xffff leaves out",
    "caller_out_of_mask": r"divergent warp: the mask of __ballot_sync .* leaves out the calling lane",
    "lanes_beyond_block": r"divergent warp: .* lane 8, which the block does not have",
}
SEEDS = range(4)
# Rejected otherwise: by comparing seeds, and by the sanitizers.
ELSEWHERE = {"order_dependence", "unchecked_global", "unchecked_local", "unchecked_overflow"}


@pytest.fixture
def x(simt_faulty: ModuleType) -> Tensor:
    return torch.randn(simt_faulty.ELEMENTS, generator=torch.Generator().manual_seed(0))


def test_every_faulty_kernel_has_an_expected_message(simt_faulty: ModuleType) -> None:
    assert set(simt_faulty.cases()) == set(FAULTS) | ELSEWHERE


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_kernel_is_rejected(simt_faulty: ModuleType, x: Tensor, name: str, seed: int) -> None:
    simt_faulty.seed(seed)
    with pytest.raises(RuntimeError, match=f"simt: kernel '{name}'") as error:
        simt_faulty.run(name, False, x)
    assert error.match(FAULTS[name])


@pytest.mark.parametrize("name", FAULTS)
def test_its_corrected_twin_passes_and_gives_the_same_bits_in_every_order(
    simt_faulty: ModuleType, x: Tensor, name: str
) -> None:
    results = []
    for seed in SEEDS:
        simt_faulty.seed(seed)
        results.append(simt_faulty.run(name, True, x))
        assert simt_faulty.unwritten(results[-1]) == 0
    for result in results[1:]:
        assert torch.equal(result, results[0])


def test_the_harness_works_after_an_error(simt_faulty: ModuleType, x: Tensor) -> None:
    for _ in range(3):
        with pytest.raises(RuntimeError, match="missing_barrier"):
            simt_faulty.run("missing_barrier", False, x)
        simt_faulty.run("missing_barrier", True, x)


def test_order_dependence_shows_between_seeds(simt_faulty: ModuleType, x: Tensor) -> None:
    def results(right: bool) -> set[float]:
        found = set()
        for seed in range(8):
            simt_faulty.seed(seed)
            found.add(simt_faulty.run("order_dependence", right, x)[0].item())
        return found

    assert len(results(False)) > 1
    assert len(results(True)) == 1


def test_threads_and_blocks_run_in_an_order_that_the_seed_decides(simt_faulty: ModuleType) -> None:
    def arrival(seed: int) -> Tensor:
        simt_faulty.seed(seed)
        return simt_faulty.arrival(8, 96)

    first = arrival(1)
    assert torch.equal(first, arrival(1))
    assert not torch.equal(first, arrival(2))
    assert sorted(first.flatten().tolist()) == list(range(8 * 96))
    blocks = first.min(dim=1).values
    assert blocks.tolist() != sorted(blocks.tolist())  # blocks do not run by number
    inside = first - blocks.unsqueeze(1)
    assert inside.max() == 95  # but one after the other
    assert (inside.diff(dim=1) < 0).any(dim=1).all()  # nor do threads
    assert len({tuple(row) for row in inside.tolist()}) == 8


def test_bytes_are_counted_as_requested_and_once(simt_faulty: ModuleType) -> None:
    x = torch.randn(64)
    simt_faulty.reset()
    y = simt_faulty.count(x, 3, 96, 50)
    torch.testing.assert_close(y, x[:50].sum().expand(3 * 96))
    threads = 3 * 96
    assert simt_faulty.launches() == [
        {
            "name": "count",
            "grid": (3, 1, 1),
            "block": (96, 1, 1),
            "shared_bytes": 0,
            "bytes_read": threads * 50 * 4,
            "bytes_written": threads * 4,
            "unique_read": 50 * 4,
            "unique_written": threads * 4,
        }
    ]
    simt_faulty.reset()
    assert simt_faulty.launches() == []


def test_bytes_of_vectors_are_counted(simt_faulty: ModuleType) -> None:
    x = torch.randn(4 * 128)
    simt_faulty.reset()
    assert torch.equal(simt_faulty.count_vectors(x, 2, 64), x)
    (launch,) = simt_faulty.launches()
    for key in ("bytes_read", "bytes_written", "unique_read", "unique_written"):
        assert launch[key] == 4 * 128 * 4


def test_memory_cleared_by_the_host_is_a_launch(simt_faulty: ModuleType) -> None:
    simt_faulty.reset()
    simt_faulty.arrival(1, 32)
    written = {launch["name"]: launch["unique_written"] for launch in simt_faulty.launches()}
    assert written == {"memset": 4, "arrival": 4 + 32 * 4}


def test_what_a_result_leaves_unwritten_is_known(simt_faulty: ModuleType) -> None:
    simt_faulty.reset()
    y = simt_faulty.half_written(torch.randn(64))
    assert simt_faulty.unwritten(y) == 64 * 4
    assert simt_faulty.incomplete_results() == ["the op's own Float [128]: 256 bytes"]
    assert y[64:].isnan().all()
    y[64:] = 0  # the host may
    assert simt_faulty.unwritten(y) == 0
    simt_faulty.reset()
    assert simt_faulty.incomplete_results() == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("depth", [16, 80])
def test_tensor_core_products(simt_faulty: ModuleType, dtype: torch.dtype, depth: int) -> None:
    generator = torch.Generator().manual_seed(depth)
    a = torch.randn(16, depth, generator=generator).to(dtype)
    b = torch.randn(depth, 8, generator=generator).to(dtype)
    torch.testing.assert_close(simt_faulty.product(a, b), a.float() @ b.float(), rtol=1e-5, atol=1e-5)
    rows, columns = torch.eye(16).to(dtype), torch.arange(128.0).reshape(16, 8).to(dtype)
    assert torch.equal(simt_faulty.product(rows, columns), columns.float())  # no element in a wrong place


@pytest.mark.parametrize("half", [False, True])
def test_conversions_agree_with_torch(simt_faulty: ModuleType, half: bool) -> None:
    dtype = torch.float16 if half else torch.bfloat16
    patterns = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(dtype).float()
    patterns = patterns[~patterns.isnan()]
    finite = patterns[patterns.isfinite()].sort().values.unique()
    between = (finite[1:].double() + finite[:-1].double()) / 2  # ties
    generator = torch.Generator().manual_seed(0)
    values = torch.cat(
        [
            patterns,
            between.float(),
            torch.nextafter(between.float(), torch.tensor(torch.inf)),
            torch.nextafter(between.float(), torch.tensor(-torch.inf)),
            torch.randint(-(2**31), 2**31 - 1, (20000,), generator=generator, dtype=torch.int32).view(torch.float32),
            torch.tensor([65519.0, 65520.0, 1e30, -1e30, 3.4e38, torch.inf, -torch.inf]),
        ]
    )
    values = values[~values.isnan()]
    converted, back = simt_faulty.convert(values, half)
    assert torch.equal(converted.view(torch.int16), values.to(dtype).view(torch.int16))
    assert torch.equal(back, values.to(dtype).float())
    nan, _ = simt_faulty.convert(torch.tensor([torch.nan]), half)
    assert nan.isnan().all()


def test_warp_operations(simt_faulty: ModuleType) -> None:
    x = torch.randint(0, 100, (64,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    for seed in SEEDS:
        simt_faulty.seed(seed)
        y = simt_faulty.warp_operations(x)
        for warp in (slice(0, 32), slice(32, 64)):
            v, lane = x[warp], torch.arange(32)
            expected = [
                v[(lane + (0 if warp.start == 0 else 32) + 3) % 32],
                v[lane ^ 5],
                v[torch.where(lane + 4 < 32, lane + 4, lane)],
                v[torch.where(lane >= 4, lane - 4, lane)],
                v[torch.where((lane + 3) // 8 == lane // 8, lane + 3, lane)],
                sum(1 << i for i in range(32) if v[i] > 50),
                2 * int((v > 90).any()) + int((v >= 0).all()),
                torch.where(lane < 16, v[lane ^ 1], -1),
            ]
            for row, want in enumerate(expected):
                got = y[row, warp].long()
                if row == 5:
                    got = got % 2**32
                assert torch.equal(got, torch.as_tensor(want).long().expand(32)), row
