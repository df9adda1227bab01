"""Texts for parsers: right ones, ones that are nearly right, and any at all."""

from __future__ import annotations

from hypothesis import strategies as st

PIECES = (*"(),=:.|-0 9", "1e999", "nan", "\n", "\0")

Texts = st.SearchStrategy[str]


@st.composite
def _edited(draw: st.DrawFn, right: Texts) -> str:
    """A right text with a few characters taken out, put in or doubled."""
    text = draw(right)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 3)))
        between = draw(st.one_of(st.text(max_size=3), st.just(text[start:end] * 2), st.sampled_from(PIECES)))
        text = text[:start] + between + text[end:]
    return text


def near(right: Texts) -> Texts:
    """Mostly texts that are nearly right, some that are, some that are anything."""
    return st.one_of(_edited(right), _edited(right), right, st.text(max_size=30))
