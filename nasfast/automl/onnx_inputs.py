"""From the columns of a table to the two tensors that every member reads (see `nasfast.automl.prepare`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from nasfast.automl.onnx_dates import FORM, Dates
from nasfast.automl.onnx_graph import ML, Graph
from nasfast.automl.prepare import FIRST_LEVEL, MISSING, UNSEEN, CodeSource, NumberSource
from nasfast.errors import ExportError

NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Features:
    """What members read.

    Attributes:
        numbers: Tensor float [N, number_count] with NaN where there is none; "" if there are no numbers.
        codes: Tensor int64 [N, len(code_counts)]: 0 missing, 1 unseen, 2 the first level; "" if there are none.
        code_counts: How many codes each category has.
        inputs: Of each column: its name, the name of the input, its type, and what it takes.
    """

    numbers: str
    codes: str
    number_count: int
    code_counts: tuple[int, ...]
    inputs: tuple[dict[str, Any], ...]


def add_inputs(
    graph: Graph,
    numbers: Sequence[NumberSource],
    categories: Sequence[CodeSource],
    sentinels: Mapping[str, Sequence[float]] = NONE,
    same: Mapping[str, Mapping[str, str]] = NONE,
) -> Features:
    """Inputs for the columns, each [N, 1], and what turns them into features.

    Numbers are float with NaN where there is none (infinite ones are taken as such), categories texts with "" where
    there is none, dates texts with "" where there is none.

    Args:
        sentinels: By column: numbers that stand for a missing one.
        same: By column: texts of a category that stand for one of its levels, or for "".

    Raises:
        ExportError: There is no column.
    """
    if not numbers and not categories:
        raise ExportError("ONNX export: the model uses no column")
    inputs: list[dict[str, Any]] = []

    def new_input(column: str, kind: type[np.generic], takes: str) -> str:
        name = graph.input(column, kind)
        inputs.append({"column": column, "input": name, "type": "text" if kind is np.str_ else "float", "takes": takes})
        return name

    dates: dict[str, Dates] = {}
    made = []
    for source in numbers:
        if not source.part:
            number = new_input(source.column, np.float32, "a number; NaN where there is none")
            made.append(_number(graph, number, sentinels.get(source.column, ())))
            continue
        if source.column not in dates:
            text = new_input(source.column, np.str_, f"a date, {FORM}; empty where there is none")
            dates[source.column] = Dates(graph, text)
        made.append(dates[source.column].part(source.part))
    codes = []
    for category in categories:
        text = new_input(category.column, np.str_, "a category as a text; empty where there is none")
        codes.append(_codes(graph, text, category.levels, same.get(category.column, NONE)))
    return Features(
        graph.node("Concat", *made, axis=1) if made else "",
        graph.node("Concat", *codes, axis=1) if codes else "",
        len(made),
        tuple(FIRST_LEVEL + len(category.levels) for category in categories),
        tuple(inputs),
    )


def _number(graph: Graph, number: str, sentinels: Sequence[float]) -> str:
    absent = graph.node("IsInf", number)
    for value in sentinels:
        absent = graph.node("Or", absent, graph.node("Equal", number, graph.constant(value, np.float32)))
    return graph.node("Where", absent, graph.constant(np.nan, np.float32), number)


def _codes(graph: Graph, text: str, levels: Sequence[str], same: Mapping[str, str]) -> str:
    codes = {"": MISSING, **{level: FIRST_LEVEL + i for i, level in enumerate(levels)}}
    codes = {other: codes[level] for other, level in same.items()} | codes
    return graph.node(
        "LabelEncoder",
        text,
        domain=ML,
        keys_strings=list(codes),
        values_int64s=list(codes.values()),
        default_int64=UNSEEN,
    )
