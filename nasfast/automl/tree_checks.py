"""Whether arrays from a file are trees: each index in its range, each child after its parent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasfast.errors import RunError

CODES = 256
"""Codes that a set of categories can hold: 0 to 255."""

Arrays = Mapping[str, NDArray[Any]]

_FORMS = {
    "feature": (np.int32, ("nodes",)),
    "threshold": (np.float64, ("nodes",)),
    "left": (np.int32, ("nodes",)),
    "right": (np.int32, ("nodes",)),
    "missing_left": (np.bool_, ("nodes",)),
    "category_set": (np.int32, ("nodes",)),
    "value": (np.float64, ("nodes", "width")),
    "category_sets": (np.uint8, ("sets", CODES // 8)),
    "offsets": (np.int64, ("trees + 1",)),
    "output": (np.int32, ("trees",)),
    "baseline": (np.float64, ("outputs",)),
    "features": (np.int64, (2,)),
}


def checked_arrays(arrays: Arrays, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays, if they are trees that can be walked: to an end, and without an index that is out of range.

    Raises:
        RunError: They are not.
    """
    if odd := sorted(set(names) ^ set(arrays)):
        raise RunError(f"trees: array {odd[0]!r} is {'missing' if odd[0] in names else 'not known'}")
    sizes = _sizes(arrays)
    if sizes["width"] < 1 or sizes["outputs"] < 1:
        raise RunError("trees: there must be at least one output")
    _check_offsets(arrays["offsets"], sizes["nodes"])
    _check_nodes(arrays, sizes)
    _check_outputs(arrays, sizes)
    return dict(arrays)


def _require(fits: bool | np.bool_, name: str, expected: str) -> None:
    if not fits:
        raise RunError(f"trees: {name} must be {expected}; the file is damaged")


def _sizes(arrays: Arrays) -> dict[str, int]:
    """Sizes by name, after every array was found to have its type and shape."""
    sizes: dict[str, int] = {"trees + 1": len(arrays["output"]) + 1 if arrays["output"].ndim else -1}
    for name, (kind, shape) in _FORMS.items():
        array = arrays[name]
        fits = array.dtype == kind and array.ndim == len(shape)
        for size, wanted in zip(array.shape, shape, strict=False):
            fits = fits and size == (sizes.setdefault(wanted, size) if isinstance(wanted, str) else wanted)
        if not fits:
            raise RunError(
                f"trees: {name} must be {np.dtype(kind)} {list(shape)}, got {array.dtype} {list(array.shape)}; "
                "the file is damaged"
            )
    return sizes


def _check_offsets(offsets: NDArray[np.int64], nodes: int) -> None:
    fits = offsets[0] == 0 and offsets[-1] == nodes and bool((np.diff(offsets) > 0).all())
    _require(fits, "offsets", f"rising from 0 to the {nodes} nodes")


def _check_nodes(arrays: Arrays, sizes: Mapping[str, int]) -> None:
    left, right, offsets = arrays["left"], arrays["right"], arrays["offsets"]
    numbers, codes = arrays["features"]
    _require(numbers >= 0 and codes >= 0, "features", "counts")
    leaf = left == -1
    node = np.arange(sizes["nodes"])
    end = np.repeat(offsets[1:], np.diff(offsets))
    for name, child in (("left", left), ("right", right)):
        _require(
            np.where(leaf, child == -1, (child > node) & (child < end)).all(), name, "a later node of the same tree"
        )
    root = np.isin(node, offsets[:-1])
    met = np.bincount(np.concatenate([left[~leaf], right[~leaf]]), minlength=sizes["nodes"])
    _require((met == ~root).all(), "left and right", "every node but a root once")
    feature, chosen = arrays["feature"], arrays["category_set"]
    _require(((feature >= 0) & (leaf | (feature < numbers + codes))).all(), "feature", f"below {numbers + codes}")
    _require(((chosen >= -1) & (chosen < sizes["sets"])).all(), "category_set", f"from -1 to {sizes['sets'] - 1}")
    _require((~leaf | (chosen < 0)).all(), "category_set", "-1 at leaves")
    _require(((chosen < 0) | (feature >= numbers)).all(), "category_set", "-1 at nodes that look at a number")
    _require(not np.isnan(arrays["threshold"]).any(), "threshold", "numbers")


def _check_outputs(arrays: Arrays, sizes: Mapping[str, int]) -> None:
    output, outputs = arrays["output"], sizes["outputs"]
    _require(((output >= 0) & (output <= outputs - sizes["width"])).all(), "output", f"one of {outputs} outputs")
    _require(np.isfinite(arrays["value"]).all(), "value", "finite")
    _require(np.isfinite(arrays["baseline"]).all(), "baseline", "finite")
