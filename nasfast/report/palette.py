"""Colours and names shared by every drawing of the report.

A primitive is recognised by its family (the part of the name before the kernel size), so that a primitive the report
has never met still gets a colour and a place in the legend.
"""

from __future__ import annotations

import re
from html import escape

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


def colour_rules(scheme: str) -> str:
    """CSS custom properties ``--p-...`` of one colour scheme, ``light`` or ``dark``."""
    column = 0 if scheme == "light" else 1
    rules = [f"--{css_name(name)}:{pair[column]}" for name, pair in PRIMITIVE_COLOURS.items()]
    rules.append(f"--p-other:{OTHER_COLOUR[column]}")
    return ";".join(rules)


def primitive_classes() -> str:
    """CSS that lets an element carry its primitive's colour as ``--c``."""
    names = [css_name(name) for name in PRIMITIVE_COLOURS] + ["p-other"]
    return "".join(f".{name}{{--c:var(--{name})}}" for name in names)


def state_label(index: int, states: int) -> str:
    """Name of state ``index`` of a cell as SVG/HTML-free text: two inputs, then 0, 1, 2 ..., then the output."""
    if index == 0:
        return "c_{k-2}"
    if index == 1:
        return "c_{k-1}"
    return "c_{k}" if index == states - 1 else str(index - 2)


def state_html(index: int, states: int) -> str:
    """The same name for HTML, with a real subscript."""
    label = state_label(index, states)
    if not label.startswith("c_"):
        return escape(label)
    return f"<i>c</i><sub>{escape(label[3:-1].replace('-', '−'))}</sub>"
