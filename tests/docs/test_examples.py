"""The examples, the quickstarts of the README and the Python of the pages for developers, run as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nasfast.compat.darts import Network

ROOT = Path(__file__).resolve().parents[2]
DEVELOP = ("adding-a-space", "adding-a-strategy", "adding-an-estimator")
SMALL = "--epochs 1 --channels 4 --layers 2"
SMALL_SEARCH = (
    f"{SMALL} --steps 2 --batch-size 256 --warmup-epochs 0 --retrain-epochs 1 --retrain-channels 4 --retrain-layers 2"
)


def run(folder: Path, *arguments: str) -> str:
    """What a Python program prints. It sees this checkout's nasfast, writes into ``folder``, and runs on one thread."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def blocks(page: Path, language: str = "python") -> list[str]:
    """The fenced code of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def quickstart(title: str, language: str = "python") -> str:
    """The code under one of the README's headings."""
    text = (ROOT / "README.md").read_text()
    part = text.split(f"## Quickstart: {title}\n")[1].split("\n## ")[0]
    found = re.search(rf"^```{language}\n(.*?)^```$", part, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def test_no_example_is_longer_than_40_lines():
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "examples").glob("*.py")}
    assert len(lengths) == 4
    assert max(lengths.values()) <= 40, lengths


def test_drop_in(tmp_path):
    out = run(tmp_path, str(ROOT / "examples" / "drop_in.py"))
    assert "2 fused, 0 left as they were" in out
    difference = re.search(r"difference of the outputs: (\S+)", out)
    assert difference is not None
    assert float(difference[1]) < 1e-5
    losses = [float(value) for value in re.findall(r"loss (\S+)", out)]
    assert losses[0] > losses[-1]


def test_search_from_python(tmp_path):
    out = run(tmp_path, str(ROOT / "examples" / "search_from_python.py"), "--epochs", "1")
    folder = tmp_path / "runs" / "from-python"
    assert (folder / "report.html").is_file()
    assert (folder / "model-derived.pt2").is_file()
    accuracy = re.search(r"test accuracy (\S+),", out)
    assert accuracy is not None
    assert 0 < float(accuracy[1]) <= 1


def test_own_space(tmp_path):
    out = run(tmp_path, str(ROOT / "examples" / "own_space.py"), "--evaluations", "5")
    assert re.search(r"best +width=\d+ first=\w+ second=\w+ third=\w+ \{'score'", out)
    assert (tmp_path / "runs" / "own-space" / "report.html").is_file()


def test_children(tmp_path):
    out = run(tmp_path, str(ROOT / "examples" / "children.py"))
    counts = re.search(r"(\d+) cells, (\d+) of (\d+) operations computed", out)
    assert counts is not None
    cells, computed, asked = map(int, counts.groups())
    assert cells == 500
    assert 0 < computed < asked


def test_quickstart_of_a_search_network(capsys):
    torch.manual_seed(0)
    model = Network(4, 10, 2, None, steps=2, multiplier=2, fused=False)
    exec(quickstart("a search network that you have"), {"model": model})
    assert " fused, 0 left as they were" in capsys.readouterr().out


@pytest.mark.timeout(900)  # five processes, each of which loads torch, on a machine that may be busy
def test_quickstart_of_the_command(tmp_path):
    small = {"search": SMALL_SEARCH, "retrain": SMALL}
    ran = []
    for line in quickstart("the command", "").splitlines():
        words = shlex.split(line.split("#")[0])
        assert words[0] == "nasfast"
        run(tmp_path, "-m", *words, *shlex.split(small.get(words[1], "")))
        ran.append(words[1])
    assert ran == ["search", "retrain", "evaluate", "export", "report"]
    assert (tmp_path / "runs" / "mine" / "model-longer.onnx").is_file()


def test_quickstart_of_python(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(quickstart("Python"), {})
    assert "'score'" in capsys.readouterr().out
    assert (tmp_path / "runs" / "evolution" / "report.html").is_file()


@pytest.mark.parametrize("page", DEVELOP)
def test_pages_for_developers(page, tmp_path):
    script = tmp_path / "page.py"
    script.write_text("\n\n".join(blocks(ROOT / "docs" / "develop" / f"{page}.md")))
    assert run(tmp_path, str(script))
