"""Parts of dates from texts, in operators of ONNX."""

from __future__ import annotations

import numpy as np

from nasfast.automl.onnx_graph import Graph

FORM = "YYYY-MM-DD, or with the time: YYYY-MM-DD HH:MM[:SS[.f]], T in place of the blank"
"""Texts that are read, of the years 1000 to 2999; any other is a missing date."""

_YEAR = r"[12]\d{3}"
_LEAP_YEAR = r"(?:[12]\d(?:0[48]|[2468][048]|[13579][26])|(?:1[26]|2[048])00)"
_LONG, _SHORT = r"(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])", r"(?:0[469]|11)-(?:0[1-9]|[12]\d|30)"
_DAY = rf"(?:{_YEAR}-(?:{_LONG}|{_SHORT}|02-(?:0[1-9]|1\d|2[0-8]))|{_LEAP_YEAR}-02-29)"
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?"
PATTERN = rf"{_DAY}(?:[ T]{_TIME})?"
"""Of dates that exist, in the years that `nasfast.tables` reads."""

_ANY_DATE = [["1970-01-01"]]
_DAYS_BEFORE_1970 = 719_468 + 146_097  # from 1 March of the year -400, from which days are counted below


class Dates:
    """Parts of one column of dates.

    Args:
        text: Texts [N, 1] of the form :data:`FORM`.
    """

    def __init__(self, graph: Graph, text: str) -> None:
        self._graph = graph
        self._known = graph.node("RegexFullMatch", text, pattern=PATTERN)
        texts = graph.node("Where", self._known, text, graph.constant(_ANY_DATE))
        # One row more than there are: where nothing is split there would be no parts to take.
        texts = graph.node("Concat", texts, graph.constant(_ANY_DATE), axis=0)
        halves = self._split(self._join(texts, graph.constant("T")), "T")
        spaced = self._join(self._join(self._piece(halves, 0), graph.constant(" ")), self._piece(halves, 1))
        # Split at blanks, however many: the first piece is the day, the second the time or, without one, this 00:00.
        pieces = self._split(self._join(spaced, graph.constant(" 00:00")), "")
        day = self._split(self._piece(pieces, 0), "-")
        self._year, self._month, self._day = (self._whole(day, i) for i in range(3))
        self._hour = self._whole(self._split(self._piece(pieces, 1), ":"), 0)

    def part(self, name: str) -> str:
        """One number a row, float [N, 1], NaN where there is no date.

        Args:
            name: "days" since 1970, "month", "weekday" (Monday is 0) or "hour".
        """
        makers = {
            "days": self._days,
            "month": lambda: self._month,
            "weekday": self._weekday,
            "hour": lambda: self._hour,
        }
        g = self._graph
        rows = g.node("Slice", makers[name](), g.constant([0]), g.constant([-1]), g.constant([0]))
        return g.node("Where", self._known, g.node("Cast", rows, to=g.FLOAT), g.constant(np.nan, np.float32))

    def _join(self, texts: str, others: str) -> str:
        return self._graph.node("StringConcat", texts, others)

    def _split(self, texts: str, at: str) -> str:
        return self._graph.node("StringSplit", texts, delimiter=at, outputs=2)

    def _piece(self, pieces: str, number: int) -> str:
        return self._graph.node("Gather", pieces, self._graph.constant(number), axis=-1)

    def _whole(self, pieces: str, number: int) -> str:
        return self._graph.node("Cast", self._piece(pieces, number), to=self._graph.INT64)

    def _weekday(self) -> str:
        """1 January 1970 was a Thursday."""
        g = self._graph
        return g.node("Mod", g.node("Add", self._days(), g.constant(3)), g.constant(7))

    def _days(self) -> str:
        """Years begin in March here, so that a leap day is the last of its year, and lie in the positive."""
        g = self._graph

        def times(a: str, factor: int) -> str:
            return g.node("Mul", a, g.constant(factor))

        def over(a: str, divisor: int) -> str:
            return g.node("Div", a, g.constant(divisor))

        early = g.node("Cast", g.node("LessOrEqual", self._month, g.constant(2)), to=g.INT64)
        year = g.node("Sub", g.node("Add", self._year, g.constant(400)), early)
        month = g.node("Mod", g.node("Add", self._month, g.constant(9)), g.constant(12))
        before_month = over(g.node("Add", times(month, 153), g.constant(2)), 5)
        leap_days = g.node("Add", g.node("Sub", over(year, 4), over(year, 100)), over(year, 400))
        whole = g.node("Add", g.node("Add", times(year, 365), leap_days), before_month)
        return g.node("Add", g.node("Add", whole, self._day), g.constant(-1 - _DAYS_BEFORE_1970))
