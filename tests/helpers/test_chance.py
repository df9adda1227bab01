"""No test draws what cannot be drawn again."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.helpers.chance import chance
from tests.helpers.paths import ROOT, TESTS

MAKERS = {"Random", "default_rng", "RandomState"}
GLOBAL = {"random", "np.random", "numpy.random"}
"""Modules whose functions draw from a generator that everything shares."""
NEVER = {"os.urandom", "uuid.uuid4", "random.SystemRandom", "SystemRandom"}


def unseeded(source: str) -> list[int]:
    """Lines that draw, or make a generator, without a seed."""
    tree = ast.parse(source)
    seeded = {
        node.func.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "manual_seed"
    }
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node not in seeded]
    shared = {module for call in calls if call.args and (module := _name_of(call).removesuffix(".seed")) in GLOBAL}
    return sorted(call.lineno for call in calls if _draws(call, shared))


def _name_of(call: ast.Call) -> str:
    return ast.unparse(call.func)


def _draws(call: ast.Call, shared: set[str]) -> bool:
    """`shared` are the modules whose own generator the file seeds."""
    name = _name_of(call)
    module, _, function = name.rpartition(".")
    if name in NEVER or name == "torch.Generator" or module == "secrets":
        return True
    if function in MAKERS:
        return not (call.args or call.keywords)
    return module in GLOBAL - shared and function not in ("Generator", "SeedSequence", "PCG64")


@pytest.mark.parametrize(
    "line",
    [
        "random.Random()",
        "Random()",
        "np.random.default_rng()",
        "default_rng()",
        "torch.Generator()",
        "torch.Generator('cpu')",
        "random.random()",
        "np.random.rand(3)",
        "random.seed()",
        "np.random.seed(3), random.random()",
        "os.urandom(2)",
        "secrets.token_hex()",
    ],
)
def test_an_unseeded_draw_is_found(line: str) -> None:
    assert unseeded(f"import x\n\nvalue = f({line})\n") == [3]


@pytest.mark.parametrize(
    "line",
    [
        "random.Random(0)",
        "np.random.default_rng(seed)",
        "default_rng(seed=0)",
        "torch.Generator().manual_seed(0)",
        "np.random.Generator(np.random.PCG64(0))",
        "draw.random()",
        "random.seed(3), random.random()",
        "np.random.seed(3), np.random.rand(2)",
    ],
)
def test_a_seeded_draw_is_not(line: str) -> None:
    assert unseeded(f"value = f({line})\n") == []


def test_no_test_draws_without_a_seed() -> None:
    files = sorted(TESTS.rglob("*.py"))
    assert len(files) > 80
    found = [f"{_name(path)}:{line}" for path in files for line in unseeded(path.read_text(encoding="utf-8"))]
    assert found == []


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_chance_says_its_seed_and_follows_from_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NASFAST_TEST_SEED", raising=False)
    assert chance().random() == chance().random()
    assert capsys.readouterr().out == "NASFAST_TEST_SEED=0\n" * 2
    monkeypatch.setenv("NASFAST_TEST_SEED", "7")
    other = chance().random()
    assert capsys.readouterr().out == "NASFAST_TEST_SEED=7\n"
    monkeypatch.delenv("NASFAST_TEST_SEED")
    assert other != chance().random()
