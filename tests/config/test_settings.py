"""Settings are declared once, in blocks that the kinds of search share; rules over them; values in their types."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import pytest

from nasfast.config.base import option
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.config.compare import CompareConfig
from nasfast.config.gradient import SearchConfig
from nasfast.config.oneshot import OneShotConfig
from nasfast.config.rules import RULES
from nasfast.config.settings import Settings
from nasfast.errors import ConfigError, SpaceError
from nasfast.utils.convert import Converter

KINDS = (SearchConfig, BlackBoxConfig, OneShotConfig, CompareConfig)


@dataclass(frozen=True)
class Block(Settings, panel="Block"):
    size: int = option(3, "How large.", 1, 9)
    name: str = option("a", "What it is called.", panel="Names")


@dataclass(frozen=True)
class Kind(Block, panel="Kind"):
    owner = "a kind"

    size: int = 5
    name: str = option(help="Who.")
    extra: float = option(0.5, "More.", 0)


def described(kind, name):
    field = next(f for f in fields(kind) if f.name == name)
    return (field.default, *(field.metadata[key] for key in ("help", "low", "high", "panel")))


def test_a_kind_changes_what_it_names_and_keeps_the_rest():
    assert described(Kind, "size") == (5, "How large.", 1, 9, "Block")
    assert described(Kind, "name") == ("a", "Who.", None, None, "Names")
    assert described(Kind, "extra") == (0.5, "More.", 0, None, "Kind")
    assert described(Block, "size") == (3, "How large.", 1, 9, "Block")
    assert [f.name for f in fields(Kind)] == ["size", "name", "extra"]
    assert Kind().size == 5
    with pytest.raises(ConfigError, match="--size must be 1 to 9, got 10"):
        Kind(size=10)
    with pytest.raises(ConfigError, match="--sizes does not go with a kind; it has --size, --name, --extra"):
        Kind.typed({"sizes": 3})


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_has_a_default_a_help_and_a_panel(kind):
    for f in fields(kind):
        assert f.default == getattr(kind, f.name)
        assert f.metadata["help"]
        assert f.metadata["panel"]


@pytest.mark.parametrize("config", [SearchConfig(), BlackBoxConfig(table="t"), OneShotConfig()], ids=type)
def test_defaults_break_no_rule_and_every_text_is_made(config):
    owners = [owner for owner in RULES if hasattr(config, owner)]
    assert owners
    for broken, text in (rule for owner in owners for rule in RULES[owner]):
        assert not broken(config)
        said = text.format(s=config)
        assert said
        assert not {"{", "}", "\n"} & set(said)


def test_every_rule_has_a_kind_of_search():
    for owner in RULES:
        assert any(hasattr(kind, owner) for kind in KINDS)


def test_a_path_stands_for_its_text():
    assert SearchConfig.of({"data": Path("images")}).data == "images"
    assert OneShotConfig.of({"data": Path("images")}).data == "images"


def test_types_are_checked_without_a_file_too():
    with pytest.raises(ConfigError, match="setting 'epochs' must be of type int, got '3'"):
        OneShotConfig(epochs="3")
    with pytest.raises(ConfigError, match="--rank-paths must be one of same, different, got 3"):
        OneShotConfig(rank_paths=3)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (bool, "false", False),
        (bool, "true", True),
        (int, "7", 7),
        (float, "7", 7.0),
        (str, "7", "7"),
        (int | None, "7", 7),
        (int | None, "null", None),
        (Literal["a", "b"], "b", "b"),
        (Sequence[float], "1,2.5", (1.0, 2.5)),
        (Sequence[tuple[int, int]], "24:1,40:2", ((24, 1), (40, 2))),
    ],
)
def test_texts_and_values_are_put_in_their_type(kind, text, value):
    for given in (text, value):
        found = Converter(texts=True)("x", kind, given)
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (int, True, "x must be of type int, got True"),
        (int, "7.5", "x must be of type int, got '7.5'"),
        (bool, "1", "x must be of type bool, got '1'"),
        (bool, 1, "x must be of type bool, got 1"),
        (Literal["a", "b"], "c", "x must be one of a, b, got 'c'"),
        (tuple[int, int], "1:2:3", "x must be two numbers joined by ':', got '1:2:3'"),
    ],
)
def test_values_of_another_type_are_named(kind, given, message):
    with pytest.raises(SpaceError) as caught:
        Converter(texts=True, error=SpaceError)("x", kind, given)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("given", "channels", "retrain_epochs"),
    [
        ({"data": "digits"}, 8, 20),
        ({"data": "cifar10"}, 16, 600),
        ({"data": "photos"}, 8, 60),
        ({"data": "photos", "strategy": "pcdarts"}, 8, 60),
        ({"data": "photos", "device": "cuda"}, 16, 600),
        ({"data": "photos", "space": "nasbench201"}, 16, 600),
        ({"data": "photos", "channels": 24, "retrain_epochs": 3}, 24, 3),
    ],
)
def test_networks_fit_the_images_and_the_device(given, channels, retrain_epochs):
    config = SearchConfig.of(given)
    assert (config.channels, config.retrain_epochs) == (channels, retrain_epochs)
