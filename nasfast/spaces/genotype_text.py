"""Genotypes as they are printed, wherever they stand: in a line of a log, in a Python file, among comments.

Only literals and ``range(...)`` are read; nothing is evaluated.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nasfast.errors import GenotypeError
from nasfast.utils.texts import MARK

FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")

_BEGIN = re.compile(r"(?<!class )(?<!def )\bGenotype\s*\(")
_NAME = re.compile(r"(\w+)\s*(?::\s*[\w.]+\s*)?=\s*(?:\w+\.)*$")
_TOKENS = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|#[^\n]*|[()\[\]{}]")
_AFTER = re.compile(r"[\s,;)\]}'\"]*(?:#.*)?")
_SHOWN = 3
_BEFORE = 200  # characters that a name is looked for in


@dataclass(frozen=True)
class PrintedGenotype:
    """A call ``Genotype(...)`` in a text.

    Attributes:
        source: From the name to the closing parenthesis.
        place: Where it stands, and what it is called there, for errors.
    """

    source: str
    place: str


def is_printed(text: str) -> bool:
    """Whether a text is to be read as a printed genotype, rather than as JSON."""
    return not text.lstrip(MARK + " \t\r\n").startswith("{")


def find_printed(text: str) -> list[PrintedGenotype]:
    """All printed genotypes of a text, in their order; those on lines that are comments do not count.

    Raises:
        GenotypeError: There is none, one does not end, or more stands behind one in its line.
    """
    text = text.removeprefix(MARK)
    found, commented, end = [], False, 0
    for match in _BEGIN.finditer(text):
        if match.start() < end:
            continue
        before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        if before.lstrip().startswith("#"):
            commented = True
            continue
        line = text.count("\n", 0, match.start()) + 1
        end = _end_of_call(text, match.end(), line)
        name = _NAME.search(before[-_BEFORE:])
        found.append(
            PrintedGenotype(text[match.start() : end], f"{name[1]} in line {line}" if name else f"line {line}")
        )
    if not found and commented:
        raise GenotypeError("genotype: it stands in a comment; take out the # before it")
    if not found:
        raise _not_printed(text)
    return found


def several(found: Sequence[PrintedGenotype]) -> GenotypeError:
    """What to raise where genotypes differ and one is expected."""
    places = [one.place for one in found]
    if len(places) > _SHOWN:
        places = [*places[: _SHOWN - 1], "...", places[-1]]
    return GenotypeError(
        f"genotype: expected one, got {len(found)} that are not the same ({', '.join(places)}); leave only the one "
        "that is meant"
    )


def read_fields(source: str) -> dict[str, Any]:
    """Values by field of a printed genotype.

    Raises:
        GenotypeError: It is no such call, or a field is unknown, given twice or no literal.
    """
    try:
        call = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _not_printed(source) from None
    if not isinstance(call, ast.Call) or len(call.args) > len(FIELDS):
        raise _not_printed(source)
    given = [*zip(FIELDS, call.args, strict=False), *((keyword.arg, keyword.value) for keyword in call.keywords)]
    fields: dict[str, Any] = {}
    for name, node in given:
        if name not in FIELDS:
            raise GenotypeError(f"genotype: unknown field {name or '**'!r}; expected {', '.join(FIELDS)}")
        if name in fields:
            raise GenotypeError(f"genotype: {name} is given twice")
        fields[name] = _literal(name, node)
    return fields


def is_index(value: Any) -> bool:
    """Whether it is a whole number, which a truth value is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _end_of_call(text: str, start: int, line: int) -> int:
    depth = 1
    for token in _TOKENS.finditer(text, start):
        mark = token[0]
        if mark[0] in "'\"#":
            continue
        depth += 1 if mark in "([{" else -1
        if depth == 0:
            rest = text[token.end() :].partition("\n")[0]
            if not _AFTER.fullmatch(rest):
                raise GenotypeError(f"genotype: what stands behind it in its line is not read: {_short(rest)}")
            return token.end()
    raise GenotypeError(f"genotype: the one in line {line} does not end, its last parenthesis is missing")


def _literal(name: str, node: ast.expr) -> Any:
    try:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
            bounds = [ast.literal_eval(argument) for argument in node.args]
            if all(is_index(bound) and abs(bound) < 1000 for bound in bounds):
                return range(*bounds)
        elif isinstance(node, ast.Call):
            (argument,) = node.args
            if isinstance(node.func, ast.Name) and node.func.id in ("list", "tuple"):
                return list(_literal(name, argument))
        else:
            return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError):
        pass
    raise GenotypeError(f"genotype: {name} must be a literal list or range, got {_short(ast.unparse(node))}")


def _not_printed(text: str) -> GenotypeError:
    if not text.strip():
        return GenotypeError("genotype: the text is empty; expected Genotype(normal=[...], normal_concat=..., ...)")
    return GenotypeError(f"genotype: expected Genotype(normal=[...], normal_concat=..., ...), got {_short(text)}")


def _short(text: str) -> str:
    shown = " ".join(text.split())
    return repr(shown if len(shown) <= 60 else shown[:57] + "...")
