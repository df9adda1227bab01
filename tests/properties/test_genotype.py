"""Genotypes: every one survives its text forms, and every text is one or a GenotypeError."""

from __future__ import annotations

import json
import warnings
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nasfast.errors import GenotypeError
from nasfast.kernels.primitives import ALL_PRIMITIVES
from nasfast.spaces.genotype import Genotype
from tests.helpers.texts import near


@st.composite
def cells(draw: st.DrawFn, first: int) -> tuple[list[tuple[str, int]], list[int]]:
    """A cell that concatenates states from ``first`` on."""
    nodes = draw(st.integers(1, 4))
    edges = [
        (draw(st.sampled_from(ALL_PRIMITIVES)), draw(st.integers(0, 1 + node))) for node in range(nodes) for _ in "ab"
    ]
    return edges, draw(st.lists(st.integers(first, nodes + 1), min_size=1, unique=True))


genotypes = st.tuples(cells(0), cells(2)).map(lambda pair: Genotype(*pair[0], *pair[1]))


@given(genotypes)
def test_every_genotype_survives_its_text_forms(genotype: Genotype) -> None:
    assert Genotype.parse(str(genotype)) == genotype
    assert Genotype.from_json(genotype.to_json()) == genotype
    assert Genotype.of(genotype) == genotype
    assert str(Genotype.parse(str(genotype))) == str(genotype)


around = st.sampled_from(["", "DARTS_V2 = ", "03/26 11:01:12 AM genotype = ", "x = genotypes.", "# don't\n", "\ufeff"])
behind = st.sampled_from(
    ["", "\n", "  # it's it", "\n03/26 11:01:13 AM tensor([[0.1, 0.2]])", ";", "\n# Genotype(normal=[])"]
)


@given(genotypes, around, behind, st.booleans())
def test_every_printed_genotype_is_found_in_a_text(genotype: Genotype, before: str, after: str, lines: bool) -> None:
    printed = str(genotype)
    if lines:
        printed = printed.replace(", (", ",  # one (more\n    (").replace("(normal=", "(\n  normal=")
    assert Genotype.parse(before + printed + after) == genotype


def _read(read: Any, text: str) -> None:
    try:
        with warnings.catch_warnings(action="ignore"):  # of Python's parser, about the text
            found = read(text)
    except GenotypeError:
        return
    assert Genotype.parse(str(found)) == found


values = st.recursive(
    st.one_of(
        st.integers(-3, 7), st.text(max_size=3), st.none(), st.floats(), st.sampled_from(ALL_PRIMITIVES), st.booleans()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner, inner), st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=12,
)
calls = st.one_of(
    values.map(repr),
    st.lists(values, max_size=3).map(lambda found: f"range({', '.join(map(repr, found))})"),
    st.lists(values, max_size=2).map(lambda found: f"list({', '.join(map(repr, found))})"),
)
FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
names = st.sampled_from(["", "", *(f"{name}=" for name in FIELDS), "*", "**", "other="])
built = st.lists(st.tuples(names, calls).map("".join), max_size=5).map(lambda parts: f"Genotype({', '.join(parts)})")


whole = st.tuples(calls, calls, calls, calls).map(lambda parts: f"Genotype({', '.join(parts)})")


@given(st.one_of(near(genotypes.map(str)), built, whole))
def test_any_printed_text_is_a_genotype_or_an_error(text: str) -> None:
    _read(Genotype.parse, text)


@settings(max_examples=400)
@given(
    st.one_of(
        near(genotypes.map(Genotype.to_json)),
        values.map(json.dumps),
        st.dictionaries(st.sampled_from([*FIELDS, "format", "version"]), values).map(json.dumps),
        st.fixed_dictionaries(dict.fromkeys(FIELDS, values)).map(json.dumps),
    )
)
def test_any_json_is_a_genotype_or_an_error(text: str) -> None:
    _read(Genotype.from_json, text)
