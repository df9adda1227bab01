"""Members from what was stored of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nasfast.automl.members.base import Arrays, Model
from nasfast.automl.members.boosting import Boosting
from nasfast.automl.members.constant import Constant
from nasfast.automl.members.linear import Linear
from nasfast.automl.members.network import Network
from nasfast.automl.task import Task
from nasfast.errors import RunError


def load_member(kind: str, arrays: Arrays, settings: Mapping[str, Any], task: Task) -> Model:
    """A member of a kind from its arrays and settings.

    Raises:
        RunError: They are not of such a member, or the kind is not known.
    """
    if kind == "constant":
        return Constant.from_arrays(arrays, settings, task.outputs)
    loaders: dict[str, Callable[[Arrays, Mapping[str, Any], Task], Model]]
    loaders = {"linear": Linear.from_arrays, "boosting": Boosting.from_arrays, "network": Network.from_arrays}
    if kind not in loaders:
        raise RunError(f"member of kind {kind!r} is not known: this model is of another nasfast")
    return loaders[kind](arrays, settings, task)
