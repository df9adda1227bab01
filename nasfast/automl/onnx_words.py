"""Free text as numbers, in operators of ONNX (see `nasfast.automl.text`).

Words are cut out by Tokenizer, which is an operator of onnxruntime's own. Its neighbour StringNormalizer makes letters
small; of its locales only "C" is there on every machine, which knows the letters of English: for others the words that
are looked for are listed in each form they can have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice, product

import numpy as np

from nasfast.automl.onnx_graph import ML, RUNTIME, Graph
from nasfast.automl.text import TextSource

_ANY_WORD = ["a"]
_MOST_FORMS = 64
_SHORTEST = 1e-12


def text_numbers(graph: Graph, text: str, source: TextSource, missing: Collection[str]) -> str:
    """float [N, 1 + D], NaN where there is no text.

    Args:
        text: Texts [N, 1].
        missing: Texts that stand for none.
    """
    g = graph
    # One row more than there are, so that there is a word at least.
    flat = g.node("Concat", g.node("Squeeze", text, g.constant([1])), g.constant(_ANY_WORD), axis=0)
    small = g.node("StringNormalizer", flat, case_change_action="LOWER", locale="C")
    words = g.node(
        "Tokenizer", small, domain=RUNTIME, tokenexp=r"[\p{L}\p{N}_]+", mark=0, pad_value="", mincharnum=1
    )  # [N + 1, most words]
    parts = [_count(g, words)]
    if source.directions.shape[1]:
        parts.append(_places(g, words, source))
    numbers = g.node("Concat", *parts, axis=1)
    numbers = g.node("Slice", numbers, g.constant([0]), g.constant([-1]), g.constant([0]))
    keys = sorted({"", *missing})
    absent = g.node("LabelEncoder", text, domain=ML, keys_strings=keys, values_int64s=[1] * len(keys), default_int64=0)
    return g.node("Where", g.node("Cast", absent, to=g.BOOL), g.constant(np.nan, np.float32), numbers)


def _count(g: Graph, words: str) -> str:
    there = g.node("Cast", g.node("Not", g.node("Equal", words, g.constant(""))), to=g.FLOAT)
    return g.node("ReduceSum", there, g.constant([1]), keepdims=1)


def _places(g: Graph, words: str, source: TextSource) -> str:
    """Along the directions: which words there are, weighed, with length 1."""
    count = len(source.words)
    places = {form: i for i, word in enumerate(source.words) for form in _forms(word)}
    places |= {word: i for i, word in enumerate(source.words)}
    found = g.node(
        "LabelEncoder",
        words,
        domain=ML,
        keys_strings=list(places),
        values_int64s=list(places.values()),
        default_int64=count,
    )
    rows = g.node("Shape", words, start=0, end=1)
    shape = g.node("Concat", rows, g.constant([count + 1]), axis=0)
    none = g.node("Expand", g.constant([[0]], np.float32), shape)
    ones = g.node("Expand", g.constant([[1]], np.float32), g.node("Shape", words))
    there = g.node("ScatterElements", none, found, ones, axis=1)
    # The last place is that of all other words.
    weights = np.append(source.rarity, np.float32(0))
    weighed = g.node("Mul", there, g.constant(weights, np.float32))
    length = g.node("ReduceL2", weighed, g.constant([1]), keepdims=1)
    unit = g.node("Div", weighed, g.node("Max", length, g.constant(_SHORTEST, np.float32)))
    directions = np.concatenate([source.directions, np.zeros((1, source.directions.shape[1]), np.float32)])
    return g.node("MatMul", unit, g.constant(directions, np.float32))


def _forms(word: str) -> Iterator[str]:
    """What a word can be when only the letters of English have been made small."""
    letters: list[Sequence[str]] = [
        (c,) if c.isascii() or len(c.upper()) > 1 else tuple(dict.fromkeys((c, c.upper()))) for c in word
    ]
    return map("".join, islice(product(*letters), _MOST_FORMS))
