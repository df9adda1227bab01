"""Everything that ``nasfast`` exports, as directives of autodoc, in the order of its ``__all__``.

What another page describes under its own module's name is shown, but a reference leads to that page.
"""

from __future__ import annotations

import inspect

import nasfast


def directives() -> str:
    """One directive for each public function and class."""
    parts = []
    for name in nasfast.__all__:
        value = getattr(nasfast, name)
        if not callable(value):
            continue  # the version
        directive = "autoclass" if inspect.isclass(value) else "autofunction"
        options = "   :no-index:\n" if value.__module__ != "nasfast.api" else ""
        members = "   :members:\n" if directive == "autoclass" else ""
        parts.append(f".. {directive}:: nasfast.{name}\n{members}{options}")
    return "```{eval-rst}\n" + "\n".join(parts) + "```"
