"""Roles in docstrings (:class:, :func:, :meth: and so on) name something that is there."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for path in (ROOT / "nasfast").rglob("*.py") if path.name != "__main__.py")
ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`(?:[^`<]*<)?~?([\w.]+)>?`")
OPTIONAL = {"nasfast.search.workers.ray_pool": "ray"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def docstrings(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, str]]:
    """Every text that stands alone in a module, a class or a function, with the class that it belongs to."""
    for node in body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield owner, node.value.value
        elif isinstance(node, ast.ClassDef):
            yield from docstrings(node.body, f"{owner}.{node.name}" if owner else node.name)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from docstrings(node.body[:1], owner)


def follow(start: Any, names: list[str]) -> bool:
    """Whether there is such an attribute of an attribute. Fields without a default count."""
    for name in names:
        if not hasattr(start, name):
            kinds = getattr(start, "__mro__", ())
            return name == names[-1] and any(name in vars(kind).get("__annotations__", {}) for kind in kinds)
        start = getattr(start, name)
    return True


def is_there(target: str, module: ModuleType, owner: str) -> bool:
    if target.startswith("."):  # Sphinx looks for any name that ends so; here it is one of the same package
        target = module.__name__.rpartition(".")[0] + target
    names = target.split(".")
    if names[0] == "nasfast":
        for length in range(len(names), 0, -1):
            try:
                found = importlib.import_module(".".join(names[:length]))
            except ModuleNotFoundError:
                continue
            return follow(found, names[length:])
    if owner and follow(module, [*owner.split("."), *names]):
        return True
    return follow(module, names)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_roles_name_what_is_there(path):
    found = [(o, t) for o, text in docstrings(ast.parse(path.read_text()).body) for t in ROLE.findall(text)]
    if not found:
        return
    if module_name(path) in OPTIONAL:
        pytest.importorskip(OPTIONAL[module_name(path)])
    module = importlib.import_module(module_name(path))
    missing = [target for owner, target in found if not is_there(target, module, owner)]
    assert missing == [], f"{path.name}: {missing}"


def test_a_role_that_names_nothing_is_noticed():
    errors = importlib.import_module("nasfast.errors")
    assert is_there("nasfast.errors.ConfigError", errors, "")
    assert is_there("ConfigError", errors, "")
    assert is_there(".errors.ConfigError", errors, "")
    assert not is_there(".errors.NoSuchError", errors, "")
    assert not is_there("nasfast.errors.NoSuchError", errors, "")
    assert not is_there("no_such_function", errors, "ConfigError")
