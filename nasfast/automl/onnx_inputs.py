"""From the columns of a table to the two tensors that every member reads (see `nasfast.automl.prepare`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasfast.automl.onnx_dates import FORM, Dates
from nasfast.automl.onnx_graph import ML, Graph
from nasfast.automl.onnx_texts import missing_texts, same_texts
from nasfast.automl.onnx_words import text_numbers
from nasfast.automl.prepare import FIRST_LEVEL, MISSING, UNSEEN, Preparation
from nasfast.errors import ExportError
from nasfast.tables import Schema


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


def add_inputs(graph: Graph, preparation: Preparation, schema: Schema) -> Features:
    """Inputs for the columns that are used, each [N, 1], and what turns them into features.

    Numbers are float with NaN where there is none (infinite ones are taken as such), all others are texts, empty where
    there is none. What stands for another value or a missing one in the schema does so here.

    Raises:
        ExportError: No column is used.
    """
    inputs = _Inputs(graph)
    dates: dict[str, Dates] = {}
    numbers, codes, count = [], [], len(preparation.numbers)
    for number in preparation.numbers:
        if not number.part:
            given = inputs.add(number.column, np.float32, "a number; NaN where there is none")
            numbers.append(_number(graph, given, schema[number.column].sentinels))
            continue
        if number.column not in dates:
            given = inputs.add(number.column, np.str_, f"a date, {FORM}; empty where there is none")
            dates[number.column] = Dates(graph, given)
        numbers.append(dates[number.column].part(number.part))
    for words in preparation.texts:
        given = inputs.add(words.column, np.str_, "a text, in UTF-8; empty where there is none")
        numbers.append(text_numbers(graph, given, words, missing_texts(schema[words.column])))
        count += len(words.names)
    for category in preparation.codes:
        given = inputs.add(
            category.column, np.str_, "a category as a text, without blanks around it; empty where there is none"
        )
        codes.append(_codes(graph, given, category.levels, same_texts(category.levels, schema[category.column])))
    if not numbers and not codes:
        raise ExportError("ONNX export: the model uses no column")
    return Features(
        graph.node("Concat", *numbers, axis=1) if numbers else "",
        graph.node("Concat", *codes, axis=1) if codes else "",
        count,
        tuple(FIRST_LEVEL + len(category.levels) for category in preparation.codes),
        tuple(inputs.described),
    )


class _Inputs:
    """Inputs and what is said of them."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.described: list[dict[str, Any]] = []

    def add(self, column: str, kind: type[np.generic], takes: str) -> str:
        name = self._graph.input(column, kind)
        type_name = "text" if kind is np.str_ else "float"
        self.described.append({"column": column, "input": name, "type": type_name, "takes": takes})
        return name


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
