"""Genotypes: text forms, validation, derivation rules, random draws."""

import json
from collections import namedtuple

import pytest
import torch

from nasfast.errors import GenotypeError, NasfastError
from nasfast.spaces import PRIMITIVES, Genotype, count_skips, derive_genotype, random_genotype
from tests.helpers.paths import GOLDEN

PUBLISHED = json.loads((GOLDEN / "published_genotypes.json").read_text())["genotypes"]
CONCAT = (2, 3, 4, 5)
CELL = tuple(("skip_connect", source) for _ in range(4) for source in (0, 1))


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_genotypes_survive_every_form(name, tmp_path):
    genotype = Genotype.parse(PUBLISHED[name])
    assert Genotype.parse(str(genotype)) == genotype
    assert Genotype.from_json(genotype.to_json()) == genotype
    genotype.save(tmp_path / "genotype.json")
    assert Genotype.load(tmp_path / "genotype.json") == genotype
    (tmp_path / "printed.txt").write_text(str(genotype))
    assert Genotype.load(tmp_path / "printed.txt") == genotype


def test_printed_form_is_the_public_one():
    public = namedtuple("Genotype", "normal normal_concat reduce reduce_concat")
    value = public([*CELL], range(2, 6), [*CELL], [3, 5])
    assert str(Genotype.of(value)) == repr(value)


def test_a_list_per_node_is_read():
    nested = [[list(edge) for edge in CELL[i : i + 2]] for i in range(0, 8, 2)]
    given = {"normal": nested, "normal_concat": [2, 3, 4, 5], "reduce": nested, "reduce_concat": [2, 3, 4, 5]}
    assert Genotype.from_json(json.dumps(given)).normal == CELL


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normal": (("sep_conv_9x9", 0), *CELL[1:])}, "unknown primitive 'sep_conv_9x9'"),
        ({"normal": (("skip_connect", 2), *CELL[1:])}, "source of state 2 must be 0 to 1, got 2"),
        ({"normal": (("skip_connect", True), *CELL[1:])}, "must be 0 to 1, got True"),
        ({"reduce": CELL[:-1]}, "2 inputs per node, got 7"),
        ({"reduce": ()}, "got 0 in all"),
        ({"reduce": (("skip_connect",), CELL[0])}, "pair"),
        ({"normal_concat": (2, 6)}, "states 0 to 5, got 6"),
        ({"normal_concat": (2, 2)}, "twice"),
        ({"reduce_concat": ()}, "list of states"),
    ],
)
def test_malformed_genotypes_are_refused(changes, message):
    fields = {"normal": CELL, "normal_concat": CONCAT, "reduce": CELL, "reduce_concat": CONCAT} | changes
    with pytest.raises(GenotypeError, match=message) as caught:
        Genotype(**fields)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, NasfastError)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('false')",
        "Genotype(normal=__import__('os').listdir('.'), normal_concat=[2], reduce=[], reduce_concat=[2])",
        "Genotype(normal=[], normal_concat=range(10**9), reduce=[], reduce_concat=[2])",
        "Genotype(normal=[('skip_connect', 0)",
        "",
        "Genotype()",
        "Genotype(1, 2, 3, 4, 5)",
        "Genotype(weights=[])",
    ],
)
def test_text_that_is_no_genotype_is_refused_and_never_run(text):
    with pytest.raises(GenotypeError, match="genotype"):
        Genotype.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "JSON object"),
        ("{}", "normal is missing"),
        ('{"version": 99}', "version 1, got 99"),
        ('{"format": "other"}', "'nasfast.genotype', got 'other'"),
    ],
)
def test_bad_json_is_refused(text, message):
    with pytest.raises(GenotypeError, match=message):
        Genotype.from_json(text)


def test_load_names_the_file(tmp_path):
    with pytest.raises(GenotypeError, match=r"missing\.json: cannot read"):
        Genotype.load(tmp_path / "missing.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(GenotypeError, match=r"bad\.json: genotype: normal is missing"):
        Genotype.load(tmp_path / "bad.json")


def one_hot(rows: list[tuple[int, float]], columns: int) -> torch.Tensor:
    weights = torch.zeros(len(rows), columns)
    for edge, (column, value) in enumerate(rows):
        weights[edge, column] = value
    return weights


def test_derivation_keeps_the_two_heaviest_sources_and_ignores_none():
    weights = one_hot([(3, 0.1), (4, 0.2), (0, 0.9), (7, 0.3), (5, 0.25)], 8)
    genotype = derive_genotype(weights, weights, steps=2, multiplier=2)
    assert genotype.normal == (
        ("sep_conv_3x3", 1),
        ("skip_connect", 0),
        ("dil_conv_5x5", 1),
        ("sep_conv_5x5", 2),
    )
    assert genotype.normal_concat == (2, 3)


def test_ties_go_to_the_earlier_operation_and_the_lower_source():
    genotype = derive_genotype(torch.full((14, 8), 0.125), torch.full((14, 8), 0.125))
    assert genotype.normal == (("max_pool_3x3", 0), ("max_pool_3x3", 1)) * 4


def test_edge_weights_decide_between_sources():
    weights = one_hot([(3, 0.5), (4, 0.5), (3, 0.5), (4, 0.5), (5, 0.5)], 8)
    edges = torch.tensor([0.5, 0.5, 0.1, 0.2, 0.7])
    genotype = derive_genotype(weights, weights, 2, 2, edge_weights_normal=edges, edge_weights_reduce=1 - edges)
    assert genotype.normal[2:] == (("sep_conv_5x5", 2), ("sep_conv_3x3", 1))
    assert genotype.reduce[2:] == (("skip_connect", 0), ("sep_conv_3x3", 1))


@pytest.mark.parametrize(
    ("weights", "message"),
    [(torch.zeros(13, 8), r"must be \[14, 8\], got \[13, 8\]"), (torch.full((14, 8), torch.nan), "diverged")],
)
def test_weights_that_give_no_cell_are_refused(weights, message):
    with pytest.raises(GenotypeError, match=message):
        derive_genotype(weights, torch.zeros(14, 8))


def test_random_genotypes_are_reproducible_valid_and_different():
    drawn = [random_genotype(torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert drawn[3] == random_genotype(torch.Generator().manual_seed(3))
    assert len(set(drawn)) == 20
    names = {name for genotype in drawn for name, _ in genotype.normal + genotype.reduce}
    assert names == set(PRIMITIVES) - {"none"}
    for genotype in drawn:
        assert all(genotype.normal[i][1] != genotype.normal[i + 1][1] for i in range(0, 8, 2))


def test_count_skips():
    genotype = Genotype(CELL, CONCAT, (("sep_conv_3x3", 0),) * 7 + (("skip_connect", 1),), CONCAT)
    assert count_skips(genotype) == (8, 1)
