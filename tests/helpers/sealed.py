"""Files of a run written by a test, with the checksum that nasfast asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasfast.utils.sealed import sealed


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """An object of JSON; a checksum that it has already, as of a file that was read, is made anew."""
    path.write_text(json.dumps(sealed(content)))
