"""Other texts of a category that mean the same, as `nasfast.tables` reads them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

_WHOLE = re.compile(r"-?\d+")
_SAME = (("0", "false", "False", "FALSE"), ("1", "true", "True", "TRUE"))


def same_texts(levels: Sequence[str], missing: Collection[str], truth: bool) -> dict[str, str]:
    """What other texts stand for: one of the levels, or "" for a missing value.

    Args:
        missing: Texts of a missing value, in small letters.
        truth: Whether 0 and false, 1 and true are the same.
    """
    found = {form: "" for text in missing for form in (text, text.upper(), text.capitalize(), text.title())}
    found |= dict.fromkeys(("NaN", "NaT"), "") if "nan" in missing else {}
    found |= {f"{level}.0": level for level in levels if _WHOLE.fullmatch(level)}
    if truth:
        for forms in _SAME:
            level = next((form for form in forms if form in levels), None)
            found |= dict.fromkeys(forms, level) if level is not None else {}
    return {text: level for text, level in found.items() if text not in levels}
