"""The pages under docs/: their commands have options that exist, and their tables come from the results."""

import importlib
import json
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

from nasfast.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = {name: app.get_command(click.Context(app), name) for name in app.list_commands(click.Context(app))}


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    """docs/_ext/result_tables.py."""
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    try:
        return importlib.import_module("result_tables")
    finally:
        sys.path.pop(0)


def commands(page: Path) -> list[list[str]]:
    """Every call of nasfast in the page's fenced code, as words."""
    found = []
    for block in re.findall(r"^```(?:text)?\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            call = re.search(r"(?:^|-m )nasfast (.*)", re.sub(r"\s#.*", "", line))
            if call is not None:
                found.append(shlex.split(call[1].replace("[", "").replace("]", "")))
    return found


def test_there_are_commands_to_check():
    assert sum(len(commands(page)) for page in PAGES) > 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_options_exist(page):
    for name, *words in commands(page):
        assert name in COMMANDS, f"{page.name}: nasfast {name}"
        known = {option for p in COMMANDS[name].params for option in (*p.opts, *p.secondary_opts)} | {"--help"}
        for word in words:
            if word.startswith("--"):
                assert word.split("=")[0] in known, f"{page.name}: nasfast {name} {word}"


def test_every_file_of_results_is_on_a_page():
    text = "\n".join(page.read_text() for page in PAGES)
    for path in (ROOT / "bench" / "results").glob("*.json"):
        assert f"{{measured-on}} {path.stem}\n" in text, f"{path.name} is on no page"


def test_every_table_is_on_a_page(tables):
    text = "\n".join(page.read_text() for page in PAGES)
    assert [name for name in tables.TABLES if f"{{made}} {name}\n" not in text] == []


def test_tables_follow_their_file(tables, monkeypatch, tmp_path):
    content = json.loads((tables.RESULTS / "network.json").read_text())
    training = content["steps"]["training"]
    before = tables.network_steps()
    assert f"{1e3 * training['eager']['median_seconds']:,.0f} ms" in before
    training["eager"]["median_seconds"] *= 2
    (tmp_path / "network.json").write_text(json.dumps(content))
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    tables.load.cache_clear()
    try:
        after = tables.network_steps()
    finally:
        tables.load.cache_clear()
    assert f"{1e3 * training['eager']['median_seconds']:,.0f} ms" in after


def test_rows_have_as_many_cells_as_their_header(tables):
    for name, make in tables.TABLES.items():
        lines = make().splitlines()
        assert len(lines) > 2, name
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, name
