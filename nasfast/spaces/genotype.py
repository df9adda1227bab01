"""A genotype: the normal and the reduction cell of a network of the DARTS family, and its text forms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasfast.errors import GenotypeError
from nasfast.kernels.primitives import ALL_PRIMITIVES, INPUTS_PER_NODE
from nasfast.spaces.genotype_text import FIELDS, find_printed, is_index, is_printed, read_fields, several
from nasfast.utils.sealed import CHECKSUM, fits, sealed
from nasfast.utils.suggest import did_you_mean
from nasfast.utils.texts import parse_json, read_text

FORMAT_NAME = "nasfast.genotype"
FORMAT_VERSION = 1

Edge = tuple[str, int]


@dataclass(frozen=True)
class Genotype:
    """Two cells, each a list of (primitive, source state), two per node, and the states that are concatenated.

    States 0 and 1 are the cell's inputs; node i is state 2 + i and reads from earlier states only. A normal cell may
    concatenate its inputs too, a reduction cell halves them and may not. `str` gives the form that published genotypes
    are printed in, `parse` reads it back.

    Raises:
        GenotypeError: an unknown primitive, a source that is not earlier, an odd number of inputs, a bad concat.
    """

    normal: tuple[Edge, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Edge, ...]
    reduce_concat: tuple[int, ...]

    def __post_init__(self) -> None:
        for cell in ("normal", "reduce"):
            edges = _check_edges(cell, getattr(self, cell))
            object.__setattr__(self, cell, edges)
            name = f"{cell}_concat"
            states = INPUTS_PER_NODE + len(edges) // INPUTS_PER_NODE
            # The inputs of a reduction cell are twice as large as what its nodes give.
            first = INPUTS_PER_NODE if cell == "reduce" else 0
            object.__setattr__(self, name, _check_concat(name, getattr(self, name), range(first, states)))

    @property
    def steps(self) -> int:
        """Number of nodes of the normal cell."""
        return len(self.normal) // INPUTS_PER_NODE

    def __str__(self) -> str:
        parts = []
        for cell in ("normal", "reduce"):
            parts.append(f"{cell}={list(getattr(self, cell))!r}")
            parts.append(f"{cell}_concat={concat_form(getattr(self, f'{cell}_concat'))!r}")
        return f"Genotype({', '.join(parts)})"

    @classmethod
    def of(cls, value: Any) -> Genotype:
        """From any object with the four attributes, such as the public code's named tuple, or a mapping of them."""
        get = value.get if isinstance(value, dict) else lambda name: getattr(value, name, None)
        fields: dict[str, Any] = {name: get(name) for name in FIELDS}
        for name, content in fields.items():
            if content is None:
                raise GenotypeError(f"genotype: {name} is missing; expected {', '.join(FIELDS)}")
        return cls(**fields)

    @classmethod
    def parse(cls, text: str) -> Genotype:
        """Read the printed form `Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), ...)`.

        It may stand in a log or a Python file. Reads literals and `range(...)` only; nothing is evaluated.

        Raises:
            GenotypeError: There is none, or there are several that differ.
        """
        found = find_printed(text)
        if len({cls._form(one.source) for one in found}) > 1:
            raise several(found)
        return cls.of(read_fields(found[0].source))

    @classmethod
    def _form(cls, source: str) -> str:
        """What is the same for equal genotypes, however they are written; of a wrong one, its text."""
        try:
            return str(cls.of(read_fields(source)))
        except GenotypeError:
            return source

    def to_json(self) -> str:
        """One JSON object with the format's name and version, and a checksum."""
        content: dict[str, Any] = {"format": FORMAT_NAME, "version": FORMAT_VERSION}
        content |= {name: [list(v) if isinstance(v, tuple) else v for v in getattr(self, name)] for name in FIELDS}
        return json.dumps(sealed(content), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Genotype:
        """Read `to_json`'s form, or an object with the four fields alone; a checksum that is there must fit."""
        content = parse_json(text, "genotype: the text", "a JSON object", GenotypeError)
        if not isinstance(content, dict):
            raise GenotypeError(f"genotype: expected a JSON object, got {type(content).__name__}")
        if content.get("format", FORMAT_NAME) != FORMAT_NAME:
            raise GenotypeError(f"genotype: expected format {FORMAT_NAME!r}, got {content['format']!r}")
        if CHECKSUM in content and not fits(content):
            raise GenotypeError(
                "genotype: its checksum does not fit; restore it from a copy, or leave it out if the file was edited"
            )
        if content.get("version", FORMAT_VERSION) != FORMAT_VERSION:
            raise GenotypeError(f"genotype: expected version {FORMAT_VERSION}, got {content['version']!r}")
        return cls.of(content)

    def save(self, path: str | Path) -> None:
        """Write `to_json` to `path`, all or nothing."""
        from nasfast.utils.files import atomic_write

        atomic_write(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Genotype:
        """Read a genotype from a file that holds its JSON or its printed form."""
        text = read_text(path, "a genotype, printed or as JSON", GenotypeError)
        try:
            return cls.parse(text) if is_printed(text) else cls.from_json(text)
        except GenotypeError as error:
            raise GenotypeError(f"{path}: {error}") from None


def concat_form(concat: Sequence[int]) -> range | list[int]:
    """The states to concatenate as public genotypes hold them: a range where they are consecutive, else a list."""
    states = list(concat)
    if states == list(range(states[0], states[0] + len(states))):
        return range(states[0], states[0] + len(states))
    return states


def _check_edges(cell: str, value: Any) -> tuple[Edge, ...]:
    edges = _flatten(cell, value)
    if not edges or len(edges) % INPUTS_PER_NODE:
        raise GenotypeError(f"genotype: {cell} must have {INPUTS_PER_NODE} inputs per node, got {len(edges)} in all")
    checked = []
    for position, edge in enumerate(edges):
        where = f"genotype: {cell}[{position}]"
        if not isinstance(edge, (list, tuple)) or len(edge) != 2:
            raise GenotypeError(f"{where} must be a (primitive, source) pair, got {edge!r}")
        name, source = edge
        if name not in ALL_PRIMITIVES:
            known = ", ".join(ALL_PRIMITIVES)
            close = did_you_mean(name, ALL_PRIMITIVES)
            raise GenotypeError(f"{where}: unknown primitive {name!r}; expected one of {known}{close}")
        state = INPUTS_PER_NODE + position // INPUTS_PER_NODE
        if not is_index(source) or not 0 <= source < state:
            raise GenotypeError(f"{where}: the source of state {state} must be 0 to {state - 1}, got {source!r}")
        checked.append((str(name), int(source)))
    return tuple(checked)


def _flatten(cell: str, value: Any) -> list[Any]:
    """Accept the flat form and the one with a list per node."""
    if not isinstance(value, (list, tuple)):
        raise GenotypeError(f"genotype: {cell} must be a list of (primitive, source) pairs, got {value!r}")
    nested = [isinstance(node, (list, tuple)) and bool(node) and isinstance(node[0], (list, tuple)) for node in value]
    if not any(nested):
        return list(value)
    for index, node in enumerate(value):
        if not nested[index] or len(node) != INPUTS_PER_NODE:
            raise GenotypeError(f"genotype: {cell} node {index} must have {INPUTS_PER_NODE} inputs, got {node!r}")
    return [edge for node in value for edge in node]


def _check_concat(name: str, value: Any, states: range) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple, range)) or not value:
        raise GenotypeError(f"genotype: {name} must be a list of states, got {value!r}")
    for state in value:
        if not is_index(state) or state not in states:
            nodes = "nodes, which are " if states.start else ""
            raise GenotypeError(
                f"genotype: {name} must hold {nodes}states {states.start} to {states.stop - 1}, got {state!r}"
            )
    if len(set(value)) != len(value):
        raise GenotypeError(f"genotype: {name} names a state twice: {list(value)!r}")
    return tuple(int(state) for state in value)
