"""Colours and names shared by every drawing of the report.

A primitive is recognised by its family (the part of the name before the kernel size), so that a primitive the report
has never met still gets a colour and a place in the legend.
"""

from __future__ import annotations

import re

from markupsafe import Markup

# CSS class suffix -> (light, dark). Two shades within a family: the smaller kernel is the stronger one.
PRIMITIVE_COLOURS: dict[str, tuple[str, str]] = {
    "none": ("#9a958b", "#77736b"),
    "skip_connect": ("#2c8a57", "#57c088"),
    "max_pool_3x3": ("#b9531a", "#f08a4b"),
    "avg_pool_3x3": ("#dd9a2b", "#f2c264"),
    "sep_conv_3x3": ("#1f5fae", "#6aa8f5"),
    "sep_conv_5x5": ("#5c9be0", "#a3cbff"),
    "sep_conv_7x7": ("#9cc3ee", "#d0e4ff"),
    "dil_conv_3x3": ("#7f3a9e", "#c685e6"),
    "dil_conv_5x5": ("#b67bcf", "#e2b8f5"),
    "conv_7x1_1x7": ("#15807f", "#4fc4c2"),
    "nor_conv_1x1": ("#5c9be0", "#a3cbff"),
    "nor_conv_3x3": ("#1f5fae", "#6aa8f5"),
    "conv_3x3": ("#15807f", "#4fc4c2"),
    "conv_5x5": ("#56aeac", "#9be3e1"),
    "identity": ("#2c8a57", "#57c088"),
    "mb_e3_k3": ("#5c9be0", "#a3cbff"),
    "mb_e6_k5": ("#1f5fae", "#6aa8f5"),
}
OTHER_COLOUR = ("#6b675f", "#a8a49b")

FAMILIES: tuple[tuple[str, str], ...] = (
    ("sep_conv", "separable convolution"),
    ("dil_conv", "dilated convolution"),
    ("conv", "convolution"),
    ("nor_conv", "convolution"),
    ("mb", "inverted residual: expansion, kernel"),
    ("identity", "skip connection"),
    ("cell", "normal cell"),
    ("max_pool", "max pooling"),
    ("avg_pool", "average pooling"),
    ("skip", "skip connection"),
    ("none", "no connection"),
)


def css_name(primitive: str) -> str:
    """The CSS class of a primitive: letters, digits and dashes only."""
    if primitive not in PRIMITIVE_COLOURS:
        return "p-other"
    return "p-" + re.sub(r"[^a-z0-9]+", "-", primitive.lower())


def family_title(primitive: str) -> str:
    """What a primitive is, in words: ``sep_conv_3x3`` is a "separable convolution"."""
    for prefix, title in FAMILIES:
        if primitive.startswith(prefix):
            return title
    return "other"


def palette_css() -> Markup:
    """Style sheet of the colours in both schemes, and of classes that give an element its primitive's as ``--c``."""
    colours = {css_name(name): pair for name, pair in PRIMITIVE_COLOURS.items()} | {"p-other": OTHER_COLOUR}
    light, dark = (";".join(f"--{name}:{pair[k]}" for name, pair in colours.items()) for k in (0, 1))
    classes = "".join(f".{name}{{--c:var(--{name})}}" for name in colours)
    return Markup(f":root{{{light}}}\n@media(prefers-color-scheme:dark){{:root{{{dark}}}}}\n{classes}")


def state_label(index: int, states: int) -> str:
    """Name of state ``index`` of a cell as text: two inputs, then 0, 1, 2 ..., then the output."""
    if index == 0:
        return "c_{k-2}"
    if index == 1:
        return "c_{k-1}"
    return "c_{k}" if index == states - 1 else str(index - 2)
