"""Benches on a GPU: what can be told without one. Arithmetic of predictions, options, and the script's first steps."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench import arguments, child_eval_cuda, cuda, cuda_bench, cuda_traffic, mixed_op, network, prediction, search_step
from bench.cuda import KernelTime
from bench.prediction import Counted, Traffic
from bench.timing import Timing
from nasfast.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
EDGE = {"batch": 4, "channels": 16, "pixels": 8, "stride": 1}
KERNELS = (Counted("memset", 1, 1000), Counted("conv_forward", 2, 3e6), Counted("node_sum", 1, 1e6))


def traffic(batch: int = 4, kernels: tuple[Counted, ...] = KERNELS, **changes: Any) -> Traffic:
    fields = {"what": "edge", "dtype": "float32", "step": "training"} | changes
    return Traffic(size={**EDGE, "batch": batch}, kernels=kernels, **fields)


def test_launches_are_added_up_by_kernel() -> None:
    launches = [
        {"name": "a", "unique_read": 10, "unique_written": 5, "bytes_read": 999},
        {"name": "b", "unique_read": 1, "unique_written": 0},
        {"name": "a", "unique_read": 100, "unique_written": 50},
    ]
    assert prediction.add_up(launches) == (Counted("a", 2, 165), Counted("b", 1, 1))


def test_a_prediction_is_bytes_over_bandwidth() -> None:
    measured = {
        "void nasfast::(anonymous namespace)::conv_forward_kernel<float, 16>(ForwardArgs)": KernelTime(2, 4e-6),
        "_ZN7nasfast15node_sum_kernelIfLi4EEEvNS_8NodeArgsE": KernelTime(1, 2e-6),
        "Memset (Device)": KernelTime(1, 1e-6),
        "void at::native::vectorized_elementwise_kernel<4>()": KernelTime(3, 5e-6),
    }
    table = prediction.compare(traffic(), measured, copy=1e12)
    found = {entry["name"]: entry for entry in table}
    assert list(found) == ["memset", "conv_forward", "node_sum", prediction.OTHERS, "all"]
    assert found["conv_forward"]["predicted"] == pytest.approx(3e-6)
    assert found["conv_forward"]["measured"] == pytest.approx(4e-6)
    assert found["conv_forward"]["share_of_copy"] == pytest.approx(0.75)
    assert found["memset"]["measured"] == pytest.approx(1e-6)
    assert found[prediction.OTHERS]["launches"] == 3
    assert found[prediction.OTHERS]["bytes"] == 0
    assert found["all"]["bytes"] == 4_001_000
    assert found["all"]["measured"] == pytest.approx(12e-6)
    assert found["all"]["measured_launches"] == 7
    cells = {row[0]: row for row in prediction.rows(table)}
    assert cells["conv_forward"][1:] == ("2", "3.00", "3.0", "4.0", "750", "75%")
    assert cells[prediction.OTHERS][1:] == ("3", "-", "-", "5.0", "-", "-")


def test_a_kernel_that_did_not_run_as_counted_is_shown() -> None:
    table = prediction.compare(traffic(), {"node_sum_kernel<float>": KernelTime(2, 2e-6)}, copy=1e12)
    cells = {row[0]: row for row in prediction.rows(table)}
    assert cells["conv_forward"][1:] == ("2 (ran 0)", "3.00", "3.0", "-", "-", "-")
    assert cells["node_sum"][1] == "1 (ran 2)"


def test_the_longest_name_that_fits_is_the_kernel() -> None:
    measured = {"conv_forward_kernel<float>": KernelTime(1, 1.0), "forward_kernel<float>": KernelTime(1, 2.0)}
    found = prediction.assign(measured, ["forward", "conv_forward"])
    assert found == {"conv_forward": KernelTime(1, 1.0), "forward": KernelTime(1, 2.0)}


def test_another_batch_is_extrapolated_on_a_line() -> None:
    small = traffic(2, (Counted("a", 1, 120.0), Counted("b", 2, 50.0)))
    large = traffic(4, (Counted("a", 1, 220.0), Counted("b", 2, 50.0)))
    found = prediction.find([large, small], "edge", {**EDGE, "batch": 64}, "float32", "training")
    assert found is not None
    assert found.size["batch"] == 64
    assert found.kernels == (Counted("a", 1, 20 + 64 * 50), Counted("b", 2, 50))
    assert prediction.find([large, small], "edge", dict(large.size), "float32", "training") is large
    assert prediction.find([large], "edge", {**EDGE, "batch": 64}, "float32", "training") is None
    assert prediction.find([large, small], "edge", {**EDGE, "batch": 64}, "bfloat16", "training") is None
    assert prediction.find([large, small], "edge", {**EDGE, "batch": 64, "stride": 2}, "float32", "training") is None


def test_counts_come_back_from_their_file(tmp_path: Path) -> None:
    entries = [traffic(), traffic(8, dtype="bfloat16", what="network", step="architecture")]
    prediction.save(tmp_path / "new/traffic.json", entries, {"commit": "abc"})
    assert prediction.load(tmp_path / "new/traffic.json") == entries


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .*traffic.json: No such file"),
        ("[1", "is not a table of python -m bench.cuda_traffic"),
        ("[]", "is not a table of"),
        ('{"format": 1, "entries": [{"what": "edge"}]}', "is not a table of"),
        ('{"format": 0, "entries": []}', "format 0, expected 1"),
    ],
)
def test_a_bad_file_of_counts_gets_one_clear_error(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "traffic.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        prediction.load(path)


def test_profiled_launches_are_averaged_per_step() -> None:
    events = [("a", 1e-6), ("b", 5e-6), ("a", 3e-6), ("a", 2e-6), ("a", 2e-6), ("b", 5e-6)]
    found = cuda.per_step(events, repeats=2)
    assert found["a"].launches == pytest.approx(2)
    assert found["a"].seconds == pytest.approx(4e-6)
    assert found["b"].seconds == pytest.approx(5e-6)


def test_results_are_filed_under_the_card() -> None:
    assert cuda.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    assert cuda.slug("NVIDIA GeForce RTX 4090 (D)") == "nvidia-geforce-rtx-4090-d"


def test_a_step_is_counted_by_what_the_harness_saw() -> None:
    """The harness itself is in tests/simt; here, that counts of one step neither miss nor keep others'."""
    seen: list[dict[str, Any]] = [{"name": "before", "unique_read": 1, "unique_written": 1}]
    state = {"enabled": False}

    def step() -> None:
        assert state["enabled"]
        seen.append({"name": "k", "unique_read": 7, "unique_written": 3})

    harness = SimpleNamespace(
        seed=lambda value: None,
        reset=seen.clear,
        launches=lambda: list(seen),
        enable=lambda: state.update(enabled=True),
        disable=lambda: state.update(enabled=False),
    )
    assert cuda_traffic.count(harness, step) == (Counted("k", 1, 10),)
    assert not seen
    assert not state["enabled"]


@pytest.mark.parametrize("bench", ["mixed_op", "network", "search_step", "child_eval"])
@pytest.mark.without_gpu
def test_without_a_gpu_the_benches_say_so(bench: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        arguments.parse(bench, None, cuda=True, arguments=["--device", "cuda"])
    assert stopped.value.code == 2
    assert "--device cuda: no GPU can be used: none: torch" in capsys.readouterr().err


def test_a_build_without_kernels_is_told_from_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "extension", SimpleNamespace(build_info=lambda: {"cuda": None}))
    assert cuda.missing() == "the extension is built without CUDA kernels: build it with NASFAST_CUDA=1"
    monkeypatch.setattr(cuda, "extension", SimpleNamespace(build_info=lambda: {"cuda": "13.0"}))
    assert cuda.missing() is None


@pytest.mark.parametrize(
    ("options", "takes", "message"),
    [
        (["--traffic", "x"], {"cuda": True, "traffic": True}, "--traffic goes with --device cuda"),
        (["--device", "cuda"], {}, "invalid choice: 'cuda'"),
        (["--traffic", "x"], {"cuda": True}, "unrecognized arguments: --traffic"),
        (["--compile", "1"], {"compiles": False}, "unrecognized arguments: --compile"),
    ],
)
def test_options_that_do_not_go_together(
    options: list[str], takes: dict[str, bool], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        arguments.parse("x", None, arguments=options, **takes)  # type: ignore[arg-type]
    assert message in capsys.readouterr().err


def test_a_plot_is_of_the_cpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cuda, "missing", lambda: None)
    assert arguments.parse("x", None, arguments=[]).plot == Path("runs/bench/x.svg")
    with pytest.raises(SystemExit):
        arguments.parse("x", None, cuda=True, arguments=["--device", "cuda", "--plot", "y.svg"])
    assert "--plot goes with --device cpu" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_way_of_an_edge_computes_the_same_in_autocast_too(dtype: str) -> None:
    ways = mixed_op.build_ways(mixed_op.Edge(8, 8, 8, 1), dtype=dtype)
    exact = mixed_op.exact_results(ways)[0].detach()
    for name in ("eager", "channels_last", "fused", "fused recompute"):
        out = ways[name].forward().detach()
        assert out.dtype == getattr(torch, dtype)
        error = float((out.double() - exact).norm() / exact.norm())
        assert error < (1e-5 if dtype == "float32" else 2e-2)
        assert {p.dtype for p in ways[name].module.parameters()} == {torch.float32}


def test_networks_in_autocast_keep_their_parameters() -> None:
    way = network.build_way(network.Size(2, 4, 2, 8), fused=True, dtype="bfloat16")
    assert way.model(way.images).dtype == torch.bfloat16
    assert {p.dtype for p in way.network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("seconds", "steps", "text"), [(0.001, 19_500, "20 s"), (0.0123, 19_500, "4.0 min"), (2.0, 19_500, "10.8 h")]
)
def test_a_search_is_projected_from_a_step(seconds: float, steps: int, text: str) -> None:
    assert search_step.projection(seconds, steps) == text
    assert search_step.Size().steps == 19_500  # 390 full batches of 64 in 25,000 images, 50 times


def test_the_ways_of_a_search_step_agree() -> None:
    size = search_step.Size(batch=4, channels=4, cells=2)
    ways = search_step.build_ways(size, "cpu", "float32")
    assert list(ways) == ["eager", "channels_last", "fused"]
    assert search_step.validate(ways, size, "cpu", "float32") < 1e-4


def test_the_two_batches_of_a_step_are_of_different_halves() -> None:
    batches = search_step.Batches(search_step.Size(batch=8), "cpu")
    train, valid = batches.draw()
    assert train.inputs.shape == valid.inputs.shape == (8, 3, 32, 32)
    assert not torch.equal(train.inputs, valid.inputs)
    assert not set(batches.samplers[0].next().tolist()) & set(batches.samplers[1].next().tolist())


def stand_ins(folder: Path) -> Path:
    """A copy of the script where every program that it calls says so, in place of what takes a toolkit or minutes."""
    root = folder / "clone"
    for name in ("bench", "tests/helpers", "bin", "csrc", "nasfast"):
        (root / name).mkdir(parents=True)
    shutil.copy(ROOT / "bench/gpu.sh", root / "bench/gpu.sh")
    shutil.copy(ROOT / "tests/helpers/devtools.py", root / "tests/helpers/devtools.py")
    (root / "setup.py").write_text("print('BUILT')\n")
    for name in ("CMakeLists.txt", "pyproject.toml"):
        (root / name).touch()
    for name in ("nvcc", "compute-sanitizer", "chromium"):
        (root / "bin" / name).write_text(f"#!/bin/sh\necho {name.upper()} $2\n")
        (root / "bin" / name).chmod(0o755)
    (root / "torch.py").write_text("__version__ = 'x'\n")
    (root / "cupyx.py").touch()
    (root / "bench/cuda.py").write_text(
        "import os, sys\nprint(os.environ['CARD'])\nsys.exit('lacks' in os.environ['CARD'])\n"
    )
    (root / "bench/cuda_traffic.py").write_text("print('COUNTED')\n")
    (root / "pytest.py").write_text("import os\nprint('TESTED', os.environ['NASFAST_REQUIRE_CUDA'])\n")
    for name in ("mixed_op", "network", "search_step", "child_eval"):
        (root / f"bench/{name}.py").write_text(f"print('MEASURED {name}')\n")
    return root


def run_script(root: Path, card: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("NASFAST_", "CUDA_"))}
    env |= {"NASFAST_PYTHON": sys.executable, "CUDA_HOME": str(root), "CARD": card, "PYTHONPATH": ""}
    env |= {"PATH": f"{root}/bin:{env['PATH']}", "PYTHONPATH": str(root)} | variables
    command = ["bash", "bench/gpu.sh", *arguments]
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


def test_the_script_runs_up_to_where_it_needs_a_gpu_and_says_so(tmp_path: Path) -> None:
    root = stand_ins(tmp_path)
    result = run_script(root, "bench.cuda: it lacks a card")
    assert result.returncode == 1
    assert "BUILT" in result.stdout
    assert "COUNTED" in result.stdout
    assert "TESTED" not in result.stdout
    assert result.stderr == "bench/gpu.sh: built and counted; to go on it lacks: it lacks a card\n"
    (root / "bin/compute-sanitizer").unlink()
    (root / "cupyx.py").write_text("import a_driver_that_is_missing\n")
    again = run_script(root, "bench.cuda: it lacks a card")
    assert "COUNTED" not in again.stdout
    assert "it lacks a card; no CuPy for the tests of it: " in again.stderr
    assert "; compute-sanitizer is neither on PATH nor in" in again.stderr
    assert len(again.stderr.splitlines()) == 1


def test_the_script_needs_a_toolkit_before_anything_else(tmp_path: Path) -> None:
    result = run_script(stand_ins(tmp_path), "card", CUDA_HOME="/nowhere")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("bench/gpu.sh: needs the CUDA toolkit: there is no /nowhere/bin/nvcc")


def test_with_a_gpu_the_script_goes_through_all_steps_and_on_where_it_was(tmp_path: Path) -> None:
    root = stand_ins(tmp_path)
    broken = root / "bench/network.py"
    good = broken.read_text()
    (root / "fails").touch()
    broken.write_text("import os, sys\n" + good + "sys.exit(os.path.exists('fails'))\n")
    result = run_script(root, "some-card")
    assert result.returncode == 1
    assert "bench/gpu.sh: failed at: bench network; run it again to go on from there" in result.stderr
    assert re.findall("TESTED 1|COMPUTE-SANITIZER \\w+|MEASURED \\w+", result.stdout) == [
        *("TESTED 1", "COMPUTE-SANITIZER memcheck", "COMPUTE-SANITIZER racecheck"),
        *("MEASURED mixed_op", "MEASURED network"),
    ]
    assert not (root / "bench/results/some-card.md").exists()
    (root / "fails").unlink()
    result = run_script(root, "some-card")
    assert result.returncode == 0, result.stderr
    assert re.findall("TESTED|MEASURED \\w+", result.stdout) == [
        *("MEASURED network", "MEASURED search_step", "MEASURED child_eval"),
    ]
    table = (root / "bench/results/some-card.md").read_text()
    measured = ["mixed_op", "network", "search_step", "child_eval"]
    assert re.findall("MEASURED \\w+", table) == [f"MEASURED {name}" for name in measured]
    assert "TESTED" in run_script(root, "some-card", "--fresh").stdout
    assert "MEASURED mixed_op" in run_script(root, "other-card").stdout
    (root / "bench/search_step.py").write_text("print('MEASURED again')\n")
    assert "TESTED" in run_script(root, "some-card").stdout  # other sources, so everything anew


def test_the_script_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    result = run_script(stand_ins(tmp_path), "card", "--fast")
    assert result.returncode == 2
    assert "unknown argument --fast; expected --quick or --fresh, or --minutes N --out FOLDER" in result.stderr


def test_numbers_in_counts_are_plain_json(tmp_path: Path) -> None:
    prediction.save(tmp_path / "t.json", [traffic()], {})
    entry = json.loads((tmp_path / "t.json").read_text())["entries"][0]
    assert entry["kernels"][1] == {"name": "conv_forward", "launches": 2, "bytes": 3e6}


def test_the_table_of_a_search_step() -> None:
    alone = {"eager": Timing((0.2,)), "fused": Timing((0.05,))}
    whole = {"eager": Timing((0.3, 0.3, 0.3)), "fused": Timing((0.06, 0.06, 0.06))}
    eager, fused = search_step.rows(search_step.Size(), "float32", alone, whole)
    assert len(eager) == len(search_step.HEADERS)
    assert eager == ("eager", "float32", "200", "300", "0%", "5.00x", "97.5 min")
    assert fused == ("fused", "float32", "50.00", "60.00", "0%", "1.00x", "19.5 min")


def test_the_table_of_an_edge_holds_every_way_beside_the_fused_one() -> None:
    names = ("eager", "channels_last", "fused", "fused, graph")
    timings = {name: Timing((seconds,)) for name, seconds in zip(names, (8e-3, 4e-3, 1e-3, 5e-4), strict=True)}
    rows = cuda_bench.time_rows(timings, {"first": 9.0, "compiled": 6e-3, "fused": 2e-3})
    assert [len(row) for row in rows] == [len(cuda_bench.TIME_HEADERS)] * 5
    assert rows[0] == ("eager", "8.00", "0%", "8.00x", "16.00x")
    assert rows[-1] == ("torch.compile", "6.00", "", "3.00x", "")  # over the fused step of the same process


def test_the_table_of_a_population_has_a_cell_for_every_column() -> None:
    case = child_eval_cuda.cases_for(quick=False)[0]
    timings = {"loop": Timing((2.0,)), "batched": Timing((0.5,))}
    memory = {name: cuda.StepMemory(1_000_000, 3_000_000) for name in timings}
    errors = {"loop": 1e-5, "batched": 2e-6}
    launches = {"loop": 5000, "batched": 40}
    row = child_eval_cuda.table_row(case, "float32", True, 64, timings, launches, memory, errors)
    assert len(row) == len(child_eval_cuda.HEADERS)
    assert row[5:8] == ("32", "128", "4.00x")
