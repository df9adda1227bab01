"""The report of what CUDA kernels take finds kernels that spill or use local memory."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bench import cuda_report

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
    assert cuda_report.report(kernels, tmp_path / "out/report.json") == 1
    out = capsys.readouterr().out
    assert "some.cu: _ZN7nasfast3badEPf on sm_90 spills 36 bytes and reads back 44" in out
    assert "2 of 3 kernels" in out
    assert len(json.loads((tmp_path / "out/report.json").read_text())) == 3
    assert cuda_report.report(kernels[:2], None) == 0
    assert cuda_report.report([], None) == 1


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
