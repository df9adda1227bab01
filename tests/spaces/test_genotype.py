"""Genotypes: text forms, validation, derivation rules, random draws."""

import json
from collections import namedtuple

import pytest
import torch

from nasfast.errors import GenotypeError, NasfastError
from nasfast.spaces import PRIMITIVES, Genotype, count_skips, derive_genotype, random_genotype
from nasfast.spaces.genotype_network import DerivedNetwork
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
        ({"normal": (("sep_conv_33", 0), *CELL[1:])}, r"did you mean sep_conv_3x3\?"),
        ({"normal": (({}, 0), *CELL[1:])}, "unknown primitive {}"),
        ({"reduce_concat": (1, 2, 3, 4)}, "reduce_concat must hold nodes, which are states 2 to 5, got 1"),
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
        ("{", "not valid JSON"),
        ("", "is empty"),
        ("[" * 100_000, "nested too deep"),
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
    with pytest.raises(GenotypeError, match=r"cannot read .*missing\.json: No such file"):
        Genotype.load(tmp_path / "missing.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(GenotypeError, match=r"bad\.json: genotype: normal is missing"):
        Genotype.load(tmp_path / "bad.json")


def test_a_normal_cell_may_concatenate_its_inputs():
    genotype = Genotype(CELL, (0, 1, 5), CELL, CONCAT)
    network = DerivedNetwork(2, 3, 4, False, genotype)
    logits, _ = network(torch.zeros(2, 3, 8, 8))
    assert logits.shape == (2, 3)


PRINTED = str(Genotype(CELL, CONCAT, CELL, CONCAT))
OTHER = str(Genotype(CELL, (2, 3), CELL, CONCAT))
NESTED = f"""
# Genotype(normal=[('none', 0)]) was worse
DARTS_V2 = Genotype(
    # ours (it's the second order
    normal={[list(CELL[i : i + 2]) for i in range(0, 8, 2)]},
    normal_concat=[2, 3, 4, 5],
    reduce={[list(CELL[i : i + 2]) for i in range(0, 8, 2)]},  # halves )
    reduce_concat=(2, 3, 4, 5),
)
"""
LOG = f"""03/26 11:01:11 AM epoch 49 lr 1.015e-03
03/26 11:01:12 AM genotype = {PRINTED}
03/26 11:01:13 AM tensor([[0.1, 0.2]], device='cuda:0')
"""


@pytest.mark.parametrize(
    "text",
    [
        f"DARTS = {PRINTED}",
        f"best: Genotype = genotypes.{PRINTED}  # from the log\n",
        NESTED,
        LOG,
        LOG + NESTED,
        f"from collections import namedtuple\nGenotype = namedtuple('Genotype', 'normal reduce')\n\nA = {PRINTED}\n",
        f"class Genotype(NamedTuple):\n    normal: list\n\nA = {PRINTED}\n",
        PRINTED.replace("range(2, 6)", "tuple(range(2, 6))"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_genotypes_are_read_from_the_files_that_people_have(text, encoding, tmp_path):
    (tmp_path / "genotypes.py").write_text(text, encoding=encoding)
    assert Genotype.load(tmp_path / "genotypes.py") == Genotype.parse(PRINTED)
    assert Genotype.parse(text) == Genotype.parse(PRINTED)


def test_json_with_a_byte_order_mark_is_read(tmp_path):
    genotype = Genotype.parse(PRINTED)
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "genotype.json").write_text(genotype.to_json(), encoding=encoding)
        assert Genotype.load(tmp_path / "genotype.json") == genotype
    assert Genotype.from_json("\ufeff" + genotype.to_json()) == genotype


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"A = {PRINTED}\nB = {OTHER}\n", r"expected one, got 2 that are not the same \(A in line 1, B in line 2\)"),
        (f"{PRINTED}\n{PRINTED[:60]}\n", "the one in line 2 does not end"),
        (
            f"{OTHER}\n" * 4 + PRINTED,
            r"got 5 that are not the same \(line 1, line 2, \.\.\., line 5\); leave only the one",
        ),
        (f"A = {PRINTED}\nB = Genotype(normal=[])", "got 2 that are not the same"),
        (f"# {PRINTED}", "stands in a comment"),
        (f"{PRINTED} @lr=0.1", "what stands behind it in its line is not read: '@lr=0.1'"),
        (f"log\n{PRINTED[:-9]}", "the one in line 2 does not end"),
        (PRINTED.replace("reduce_concat", "normal_concat"), "normal_concat is given twice"),
        (PRINTED.replace("normal=", "").replace("reduce=", "normal="), "normal is given twice"),
        (PRINTED.replace(")], normal", ")], **x, normal"), "unknown field '\\*\\*'"),
        ("DARTS = namedtuple('Genotype', 'normal')", r"expected Genotype\(normal"),
        (" \n", "is empty"),
    ],
)
def test_a_text_without_one_clear_genotype_is_refused(text, message):
    with pytest.raises(GenotypeError, match=message) as caught:
        Genotype.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty: expected a genotype"), (b"\xef\xbb\xbf", "is empty"), (b"\xff\xfe\x00", "not a text file"),
     (b"\x80abc", "not a text file: expected a genotype")],
)  # fmt: skip
def test_a_file_that_is_no_text_is_refused(content, message, tmp_path):
    (tmp_path / "genotype.json").write_bytes(content)
    with pytest.raises(GenotypeError, match=rf"genotype\.json {message}|genotype\.json is {message}"):
        Genotype.load(tmp_path / "genotype.json")


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
