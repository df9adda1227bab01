"""What bench/gpu.sh --minutes runs, tried on the CPU: so that no minute of a GPU is spent on a slip."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench import (
    child_eval,
    child_eval_cuda,
    cuda,
    gpu_build,
    gpu_epoch,
    gpu_kernels,
    gpu_smoke,
    network,
    search_step,
    supernet,
    timing,
)
from bench.cuda import KernelTime
from bench.prediction import Counted, Traffic
from bench.timing import Timing


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def one_thread(threads: Callable[[int], None]) -> None:
    """Tensors are tiny: threads would only wait for each other."""
    threads(1)


@pytest.fixture
def measured_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks a GPU for time and memory, by means of the CPU; the steps that are measured are the real ones."""

    def compare(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
        return timing.compare(steps, rounds, min_sample=0, warmup=1)

    def step_memory(step: Callable[[], object]) -> cuda.StepMemory:
        step()
        return cuda.StepMemory(0, 1)

    def kernel_times(step: Callable[[], object], repeats: int) -> dict[str, KernelTime]:
        step()
        return {"a_kernel": KernelTime(1, 1e-6)}

    for name, stand_in in {"compare": compare, "step_memory": step_memory, "kernel_times": kernel_times}.items():
        monkeypatch.setattr(cuda, name, stand_in)
    monkeypatch.setattr(cuda, "measure_card", lambda: cuda.Card("a card", "9.0", 1, 1, 1, 1e12))


def test_every_public_op_is_right_and_gives_the_same_bits_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu_smoke.run(
        gpu_smoke.parse(["--device", "cpu", "--threads", "1", "--quick", "--json", str(tmp_path / "f.json")])
    )
    lines = capsys.readouterr().out.splitlines()
    found = read(tmp_path / "f.json")
    assert found["failed"] == []
    assert [line for line in lines if line.startswith("ok")] == found["lines"]
    assert found["key_figures"]["ops that are right"] == f"{len(found['lines'])} of {len(found['lines'])}"
    names = [name.partition("::")[2] for name in torch._C._dispatch_get_all_op_names() if name.startswith("nasfast::")]
    on_the_cpu_alone = {"table_embedding"}
    public = {name.partition(".")[0] for name in names if not name.startswith("_")} - on_the_cpu_alone
    ran = {name for line in found["lines"] for name in line.split(":")[0].split()}
    assert public
    assert public <= ran


def dies() -> list[Tensor]:
    raise RuntimeError("CUDA error: an illegal memory access\nand more")


ONES = torch.ones(1000)
OFF = ONES.clone()
OFF[17] = 0.0
DRAWS = iter(range(100))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (lambda: [OFF], "error 3.2e-02 of 0.0001, same bits"),
        (lambda: [ONES + 1e-6 * next(DRAWS)], "OTHER bits"),
        (lambda: [ONES[:10]], "error inf"),
        (lambda: [ONES * float("nan")], "OTHER bits"),
        (lambda: [ONES, ONES], "ValueError: zip() argument 2 is shorter than argument 1"),
        (dies, "RuntimeError: CUDA error: an illegal memory access"),
    ],
    ids=["one value in a thousand", "bits", "shape", "nan", "another number of results", "an error"],
)
def test_an_op_that_is_wrong_fails(found: Callable[[], list[Tensor]], said: str) -> None:
    case = gpu_smoke.Case("an op", "a case", "float32", 16, found, lambda: [ONES.double()])
    verdict = gpu_smoke.judge(case)
    assert said in verdict.line()
    assert not verdict.good
    assert verdict.line().startswith("FAIL an op: a case, float32, C=16: ")


def test_the_smoke_goes_through_all_and_fails_if_one_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = gpu_smoke.Case("good", "a", "float32", 16, lambda: [ONES], lambda: [ONES])
    bad = gpu_smoke.Case("bad", "a", "float32", 16, dies, lambda: [ONES])
    monkeypatch.setattr(gpu_smoke, "cases", lambda *_: [bad, good])
    assert not gpu_smoke.run(gpu_smoke.parse(["--device", "cpu"]))
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 2 are right"
    monkeypatch.setattr(sys, "argv", ["gpu_smoke", "--device", "cpu"])
    assert gpu_smoke.main() == 1


def test_the_kernels_of_a_step_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--device", "cpu", "--threads", "1", "--quick", "--steps", "1", "--json", str(tmp_path / "f.json")]
    gpu_kernels.run(gpu_kernels.parse(options))
    said = capsys.readouterr().out
    found = read(tmp_path / "f.json")
    assert {"conv_forward", "conv_backward", "node_sum"} <= {entry["name"] for entry in found["kernels"]}
    assert found["kernels"][-1]["name"] == "all"
    assert all(entry["predicted_seconds"] is None for entry in found["kernels"])  # for another size, and no H200
    assert "Bytes were not counted" in said
    assert len(found["key_figures"]) == 4


def test_a_cell_alone_runs(capsys: pytest.CaptureFixture[str]) -> None:
    gpu_kernels.run(gpu_kernels.parse(["--device", "cpu", "--threads", "1", "--quick", "--cell"]))
    assert capsys.readouterr().out == "a normal cell of 4 channels went forward and backward\n"


def test_the_table_of_kernels_has_predictions_and_counted_bytes() -> None:
    names = gpu_kernels.kernel_names()
    assert {name.partition(",")[0] for name in gpu_kernels.PREDICTED} <= set(names)
    assert {"child_conv", "supernet_conv_weights", "shuffle", "running_stats"} <= set(names)
    times = {
        "void nasfast::(anonymous namespace)::conv_forward_kernel<float, 16>(ForwardArgs)": KernelTime(60, 4e-3),
        "_ZN7nasfast12_GLOBAL__N_115node_sum_kernelIfLi4EEEvNS_8NodeArgsE": KernelTime(64, 1e-3),
        "void at::native::vectorized_elementwise_kernel<4>()": KernelTime(300, 2e-3),
    }
    table = gpu_kernels.table_of(times, {"conv_forward": 4e9, "node_sum": 1e9}, is_predicted=True)
    rows = gpu_kernels.rows_of(table)
    # 2 normal cells of each size, and 1.3 of one for the reductions to 32 and 64; both halves of a step.
    forward = 2 * (2 * 0.70 + 3.3 * 0.43 + 3.3 * 0.33)
    assert rows[0] == ("conv_forward", "60", "4.000", "57%", f"{forward:.2f}", "4000", "1000")
    assert rows[1][:4] == ("kernels of torch", "300", "2.000", "29%")
    assert rows[1][4:] == ("-", "-", "-")
    assert rows[-1][:4] == ("all", "424", "7.000", "100%")
    assert all(len(row) == len(gpu_kernels.HEADERS) for row in rows)
    whole = sum(gpu_kernels.predicted_seconds(name) or 0 for name in names)
    assert 0.035 < whole < 0.048  # of 48 ms that were predicted for a step; the rest is torch, launches and tails


def test_bytes_of_a_step_are_those_of_both_halves() -> None:
    def entry(batch: int, step: str, moved: float) -> Traffic:
        size = {"batch": batch, "channels": 16, "cells": 8, "pixels": 32}
        assert network.Size(**size).label()
        return Traffic("network", size, "float32", step, (Counted("products", 4, moved),))

    entries = [entry(b, s, b * share) for b in (2, 4) for s, share in (("architecture", 10.0), ("training", 5.0))]
    size = search_step.Size()
    assert gpu_kernels.bytes_of_a_step(entries, size, "float32") == {"products": 64 * 15.0}
    assert gpu_kernels.bytes_of_a_step(entries, size, "bfloat16") == {}
    assert gpu_kernels.bytes_of_a_step([], size, "float32") == {}


def test_a_search_loop_is_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "f.json"
    gpu_epoch.run(
        gpu_epoch.parse(["--device", "cpu", "--threads", "1", "--quick", "--steps", "3", "--json", str(path)])
    )
    found = read(path)
    assert [epoch["step"] for epoch in found["epochs"]] == [3, 6]
    assert list(found["key_figures"]) == ["a search loop"]
    assert "a whole one is" in capsys.readouterr().out


def test_a_search_of_the_whole_size_has_a_hundred_steps_an_epoch() -> None:
    options = gpu_epoch.parse(["--device", "cpu"])
    config = gpu_epoch.config_of(search_step.Size(), "cpu", options.steps, gpu_epoch.IMAGES)
    assert int(gpu_epoch.IMAGES * config.train_portion) // config.batch_size == options.steps == 100


def test_ways_of_a_search_step_can_be_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = search_step.Size(batch=2, channels=4, cells=2)
    monkeypatch.setattr(search_step, "Size", lambda **_: small)
    validate, compared = search_step.validate, []

    def record(ways: Mapping[str, Any], *rest: Any) -> float:
        compared.append(list(ways))
        return validate(ways, *rest)

    monkeypatch.setattr(search_step, "validate", record)
    options = ["--threads", "1", "--ways", "fused", "--dtypes", "float32", "--rounds", "1"]
    search_step.run(search_step.parse([*options, "--json", str(tmp_path / "f.json")]))
    found = read(tmp_path / "f.json")
    assert [list(m["step"]) for m in found["measured"]] == [["fused"]]
    assert compared == [["eager", "fused"]]  # eager is not timed
    assert list(found["key_figures"]) == ["fused, float32"]
    assert "1.00x" in capsys.readouterr().out


def test_rows_without_the_fused_way_have_no_factor() -> None:
    timed = {"eager": Timing((0.2,))}
    assert search_step.rows(search_step.Size(), "float32", timed, timed)[0][5] == "-"


@pytest.mark.parametrize(
    ("bench", "options", "message"),
    [
        (search_step, ["--ways", "fused, captured"], "--ways 'fused, captured' goes with --device cuda"),
        (search_step, ["--ways", "slow"], "argument --ways: invalid choice: 'slow'"),
        (search_step, ["--rounds", "0"], "argument --rounds: must be at least 1, got 0"),
        (child_eval, ["--cases", "x"], "--dtypes and --cases go with --device cuda"),
        (
            child_eval,
            ["--device", "cuda", "--cases", "x"],
            "--cases: there is no 'x'; expected some of ['Macro evolved",
        ),
        (supernet, ["--spaces", "x"], "argument --spaces: invalid choice: 'x'"),
        (gpu_kernels, ["--device", "cpu", "--steps", "-1"], "argument --steps: must be at least 1, got -1"),
    ],
)
def test_bad_options_get_one_clear_line(
    bench: Any, options: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "missing", lambda: None)
    with pytest.raises(SystemExit) as left:
        bench.parse(options)
    assert left.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.usefixtures("measured_here")
def test_children_are_measured_and_written_case_by_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the device."""
    case = child_eval.Case("small", child_eval.small_nasbench201, False, 4, 8, pixels=8)
    monkeypatch.setattr(cuda, "missing", lambda: None)
    monkeypatch.setattr(child_eval_cuda, "cases_for", lambda quick: [replace(case, count=5), case])
    path = tmp_path / "f.json"
    chosen = ["--threads", "1", "--cases", "small, 4, 8", "--dtypes", "float32", "--rounds", "1"]
    options = child_eval.parse(["--device", "cuda", "--quick", *chosen, "--json", str(path)])
    options.device = "cpu"
    child_eval_cuda.run(options)
    found = read(path)
    assert [measured["calibrated"] for measured in found["cases"]] == [False, True]
    assert list(found["key_figures"]) == ["small, 4, 8, float32", "small, 4, 8, float32, recalibrated"]


@pytest.mark.usefixtures("measured_here")
def test_a_supernet_s_step_is_measured_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the device: which images, how they are timed, what is kept."""
    make_way = supernet.make_way
    monkeypatch.setitem(supernet.SPACES, "small", child_eval.small_nasbench201)
    monkeypatch.setattr(
        supernet, "make_way", lambda case, way, dtype=torch.float32, device="": make_way(case, way, dtype)
    )
    case = supernet.Case("small", "per sample", 8, pixels=8)
    result = supernet.measure(case, rounds=1, threads=1, device="cuda")
    assert result.peaks == {"loop": 1, "kernels": 1}
    assert list(supernet.key_figures([result])) == ["small, per sample, 8 images"]
    options = supernet.parse(["--spaces", "Macro"])
    options.device = "cuda"
    assert supernet._some((64, 16), options) == (64,)


def test_a_toolkit_without_its_runtime_links_against_the_wheel_s(tmp_path: Path) -> None:
    home, wheels = tmp_path / "cuda", tmp_path / "site"
    library = wheels / "nvidia/cu13/lib/libcudart.so.13"
    library.parent.mkdir(parents=True)
    library.touch()
    assert gpu_build.runtime_library(home, [wheels]) == library
    flags = gpu_build.link_flags(library, tmp_path / "links")
    assert flags == f"-L{tmp_path / 'links'}"
    assert gpu_build.link_flags(library, tmp_path / "links") == flags  # made anew
    assert (tmp_path / "links/libcudart.so").resolve() == library.resolve()
    (home / "lib64").mkdir(parents=True)
    (home / "lib64/libcudart.so").touch()
    assert gpu_build.runtime_library(home, [wheels]) is None
    assert gpu_build.runtime_library(tmp_path / "other", [tmp_path]) is None


def test_the_toolkit_is_the_first_that_has_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("given", "beside"):
        (tmp_path / name / "include").mkdir(parents=True)
        (tmp_path / name / "include/cuda_runtime.h").touch()
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "given"))
    assert gpu_build.toolkit(str(tmp_path / "beside/bin/nvcc")) == tmp_path / "given"
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "without headers"))
    assert gpu_build.toolkit(str(tmp_path / "beside/bin/nvcc")) == tmp_path / "beside"
