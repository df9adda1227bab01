"""The report of what CUDA kernels take finds kernels that spill, use local memory, or move single bytes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bench import cuda_ptx, cuda_report
from bench.cuda_occupancy import Residency, residency

ROOT = Path(__file__).resolve().parents[2]

# As ptxas 13.0 prints it.
SAMPLE = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN7nasfast4goodEPf' for 'sm_80'
ptxas info    : Function properties for _ZN7nasfast4goodEPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 30 registers, used 1 barriers, 1024 bytes smem, 400 bytes cmem[0]
ptxas info    : Compile time = 10.418 ms
ptxas info    : Compiling entry function '_ZN7nasfast4goodEPf' for 'sm_90'
ptxas info    : Function properties for _ZN7nasfast4goodEPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers
ptxas info    : Compiling entry function '_ZN7nasfast3badEPf' for 'sm_90'
ptxas info    : Function properties for _ZN7nasfast3badEPf
    40 bytes stack frame, 36 bytes spill stores, 44 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers, 40 bytes cumulative stack size
"""

# As nvcc 13.0 writes it, shortened. The second kernel is one that copies a word out of memory byte by byte.
PTX = """\
.version 9.0
.target sm_80
.address_size 64

.extern .shared .align 16 .b8 _ZN7nasfast21nasfast_shared_memoryE[];

.visible .entry _ZN7nasfast4goodEPf(
	.param .u64 .ptr .align 1 _ZN7nasfast4goodEPf_param_0,
	.param .u8 _ZN7nasfast4goodEPf_param_1
)
.maxntid 32, 4, 1
.minnctapersm 2
{
	.reg .b16 	%rs<9>;
	ld.param.s8 	%rs3, [_ZN7nasfast4goodEPf_param_1];
	ld.global.v4.f32 	{%f1, %f2, %f3, %f4}, [%rd2];
	@%p1 ld.global.nc.v2.u64 	{%rd4, %rd5}, [%rd2];
	ld.global.v2.u16 	{%rs1, %rs2}, [%rd2+16];
	ld.shared.v4.u32 	{%r1, %r2, %r3, %r4}, [%r9];
	st.shared.v4.f32 	[%r9], {%f1, %f2, %f3, %f4};
	st.global.v4.u32 	[%rd3], {%r1, %r2, %r3, %r4};
	st.local.u8 	[%rd8], %rs1;
	ret;
}
.entry _ZN7nasfast50_GLOBAL__N__d6508cd6_11_node_sum_cu_ea44bb0b_142263badEPf(
	.param .u64 _ZN7nasfast50_GLOBAL__N__d6508cd6_11_node_sum_cu_ea44bb0b_142263badEPf_param_0
)
{
	ld.shared.u8 	%rs1, [%r1];
	ld.shared.u8 	%rs2, [%r1+1];
	ld.global.v4.u8 	{%rs2, %rs3, %rs4, %rs5}, [%rd6+4];
	ld.f32 	%f1, [%rd7];
	ret;
}
.func  (.param .b32 func_retval0) _Z6helperPKhi(
	.param .b64 _Z6helperPKhi_param_0
)
{
	@%p2 ld.s8 	%rs1, [%rd7];
	ret;
}
"""

SPILLING = """
__global__ void __launch_bounds__(1024) spilling(const float* x, float* y) {
  float v[96];
#pragma unroll
  for (int i = 0; i < 96; ++i) v[i] = x[i * 1024 + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 96; ++i) y[i * 1024 + threadIdx.x] = v[i] * v[(i * 37 + 5) % 96];
}
__global__ void local_array(const float* x, float* y, int n) {
  float v[64];
  for (int i = 0; i < 64; ++i) v[i] = x[i];
  for (int i = 0; i < n; ++i) v[i * n % 64] += v[(i + n) % 64];
  y[threadIdx.x] = v[threadIdx.x % 64];
}
__global__ void good(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x]; }
"""


def test_the_output_of_ptxas_is_read() -> None:
    first, second, third = cuda_report.parse_ptxas(SAMPLE, "some.cu")
    assert first == cuda_report.Kernel("some.cu", "_ZN7nasfast4goodEPf", "sm_80", registers=30, shared=1024)
    assert (second.arch, second.registers, second.shared) == ("sm_90", 32, 0)
    assert (third.stack, third.spill_stores, third.spill_loads, third.registers) == (40, 36, 44, 255)
    assert [bool(k.fault) for k in (first, second, third)] == [False, False, True]


def test_the_report_fails_on_a_spill_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernels = cuda_report.parse_ptxas(SAMPLE, "some.cu")
    functions = [cuda_ptx.Accesses("some.cu", name, 128) for name in dict.fromkeys(k.name for k in kernels)]
    assert cuda_report.report(kernels, functions, tmp_path / "out/report.json") == 1
    out = capsys.readouterr().out
    bad = cuda_report.readable("_ZN7nasfast3badEPf")
    assert f"some.cu: {bad} on sm_90 spills 36 bytes and reads back 44" in out
    assert "2 of 3 kernels" in out
    written = json.loads((tmp_path / "out/report.json").read_text())
    assert [len(written[part]) for part in ("kernels", "accesses")] == [3, 2]
    assert cuda_report.report(kernels[:2], functions, None) == 0
    assert cuda_report.report([], [], None) == 1


def test_the_report_fails_on_single_bytes_and_on_a_kernel_without_ptx(capsys: pytest.CaptureFixture[str]) -> None:
    kernels = cuda_report.parse_ptxas(SAMPLE, "some.cu")[:2]
    functions = cuda_ptx.parse_ptx(PTX, "some.cu")
    assert cuda_report.report(kernels, functions, None) == 1
    assert "moves single bytes: 2 ld.shared.u8, 1 ld.global.v4.u8" in capsys.readouterr().out
    assert cuda_report.report(kernels, functions[:1], None) == 0
    capsys.readouterr()
    assert cuda_report.report(kernels, functions[1:2], None) == 1
    assert "some.cu: no PTX was found of" in capsys.readouterr().out


def test_accesses_are_read_from_ptx() -> None:
    good, bad, helper = cuda_ptx.parse_ptx(PTX, "some.cu")
    assert (good.name, good.threads, good.fault) == ("_ZN7nasfast4goodEPf", 128, "")
    assert good.wide == {"load global": 2, "load shared": 1, "store shared": 1, "store global": 1}
    assert bad.name == "_ZN7nasfast12_GLOBAL__N_13badEPf"
    assert bad.single_bytes == ["ld.shared.u8", "ld.shared.u8", "ld.global.v4.u8"]
    assert (bad.threads, bad.wide) == (0, {})
    assert (helper.name, helper.single_bytes) == ("_Z6helperPKhi", ["ld.s8"])


def test_data_of_one_byte_need_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = cuda_ptx.parse_ptx(PTX, "some.cu")[1]
    assert bad.fault
    monkeypatch.setitem(cuda_ptx.ONE_BYTE_DATA, "3bad", "keeps the tap of every maximum in a byte")
    assert not bad.fault


@pytest.mark.parametrize(
    ("arch", "threads", "registers", "static", "expected"),
    [
        ("sm_80", 128, 95, 0, Residency(5, 32512)),  # 96 * 128 registers
        ("sm_90", 128, 128, 0, Residency(4, 57344)),
        ("sm_90", 256, 32, 0, Residency(8, 28160)),  # all 64 warps
        ("sm_90", 32, 16, 0, Residency(32, 6272)),  # all 32 blocks
        ("sm_100", 96, 255, 0, Residency(2, 115712)),  # 8 warps fit: 2 blocks of 3
        ("sm_80", 128, 32, 40 * 1024, Residency(4, 0)),
        ("sm_86", 128, 32, 0, None),
        ("sm_80", 0, 32, 0, None),
    ],
)
def test_resident_blocks(arch: str, threads: int, registers: int, static: int, expected: Residency | None) -> None:
    assert residency(arch, threads, registers, static) == expected


@pytest.mark.needs("nvcc")
def test_compiled_kernels_that_spill_or_use_local_memory_are_found(tmp_path: Path) -> None:
    source = tmp_path / "bad.cu"
    source.write_text(SPILLING)
    command = ["nvcc", "-O3", "-arch=sm_80", "-Xptxas", "-v", "-c", str(source), "-o", str(tmp_path / "bad.o")]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    kernels = cuda_report.parse_ptxas(said.stdout + said.stderr, source.name)
    found = {name: k for k in kernels for name in ("spilling", "local_array", "good") if name in k.name}
    assert set(found) == {"spilling", "local_array", "good"}
    assert "spills" in found["spilling"].fault
    assert "local memory" in found["local_array"].fault
    assert found["good"].fault == ""
    assert found["good"].registers > 0


@pytest.mark.needs("nvcc")
def test_kernels_move_no_single_bytes_and_fence_where_blocks_meet() -> None:
    """Of one file with vector accesses to both memories, and of one whose blocks meet at a counter."""
    nvcc = Path(str(shutil.which("nvcc")))
    for name in ("node_sum", "pool_statistics"):
        source = ROOT / f"csrc/mixed_op/{name}.cu"
        text = cuda_ptx.ptx_of(source, ROOT, nvcc, "sm_80")
        functions = cuda_ptx.parse_ptx(text, source.name)
        assert any(f.wide.get("load global") for f in functions)
        assert [f.fault for f in functions if f.fault] == []
        made = (ROOT / f"build/ptx/sm_80/csrc/mixed_op/{name}.ptx").stat().st_mtime_ns
        assert cuda_ptx.ptx_of(source, ROOT, nvcc, "sm_80") == text
        assert (ROOT / f"build/ptx/sm_80/csrc/mixed_op/{name}.ptx").stat().st_mtime_ns == made
    # The thread that counts a block in fences between the barrier and the count, and behind it.
    steps = re.findall(r"\b(bar\.sync|barrier\.sync|membar\.gl|fence\.\S+|atom\.global\.add)", text)
    counts = [i for i, step in enumerate(steps) if step == "atom.global.add"]
    assert counts
    for i in counts:
        barrier = max(k for k, step in enumerate(steps[:i]) if step.startswith("bar"))
        assert i - barrier > 1
        assert steps[i + 1].startswith(("membar", "fence"))
