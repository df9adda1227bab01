"""What fused code takes for granted of the modules it computes in place of, and whether that still holds.

A fused module never calls its candidates: it reads their weights. A layer that is replaced, hooked or set up otherwise
later on would go unseen, so what the kernels stand for is noted once and compared at every call. A cell has about 600
modules below it; the comparison takes some 100 us of Python there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby, repeat
from operator import contains, itemgetter
from typing import Any

from torch import nn

_PLAIN = (int, float, bool, str, tuple, type(None))
_CONV_SETTINGS = ("stride", "padding", "dilation", "groups", "padding_mode")
_WITHOUT_SETTINGS = (nn.BatchNorm2d, nn.ReLU, nn.Identity, nn.Sequential, nn.ModuleList, nn.ModuleDict)

Named = tuple[str, nn.Module]
Look = tuple[str, type, tuple[Any, ...]]


def walk(name: str, module: nn.Module) -> Iterator[Named]:
    """`module` and everything below it in order of registration; what is registered twice comes twice.

    What computes a parametrized weight is no layer of the network, and left out.
    """
    yield name, module
    for key, child in module._modules.items():
        if child is not None and key != "parametrizations":
            yield from walk(f"{name}.{key}" if name else key, child)


def is_parametrized(module: nn.Module) -> bool:
    return "parametrizations" in module._modules


def hooks_of(module: nn.Module) -> tuple[dict[Any, Any], ...]:
    """The dictionaries of everything that listens to this module's calls."""
    return (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )


def has_hooks(module: nn.Module) -> bool:
    return any(hooks_of(module))


class Structure:
    """The layers below some modules: their places, classes, settings, and that nothing listens to them.

    Settings of BatchNorm are no part of it (see `nasfast.nn.fused.NormSettings`), nor are parameters and buffers: they
    are read at every call.

    Args:
        holders: modules whose children have to stay, and which may otherwise be anything.
        roots: modules, by name, that have to stay what they are, with all below.
        heard: further modules that may have no hooks and no forward on the instance.
    """

    def __init__(self, holders: Sequence[nn.Module], roots: Sequence[Named], heard: Sequence[nn.Module] = ()) -> None:
        self.holders = list(holders)
        parts = [part for name, root in roots for part in walk(name, root)]
        self.look: list[Look] = [_look_of(*part) for part in parts]
        self._parts = [module for _, module in parts]
        self._names = [name for name, _ in parts]
        self._types = [type(module) for module in self._parts]
        self._heard = [*self._parts, *heard]
        self._holding = [m for m in (*holders, *self._parts) if m._modules and not is_parametrized(m)]
        self._children = [child for module in self._holding for child in module._modules.values()]
        self._set_up = [(module, names) for module in self._parts if (names := _settings_of(module))]
        self._note_dictionaries()
        self._values = self._settings_now()

    def _note_dictionaries(self) -> None:
        """Kept for speed. A copy of this object notes those of the modules' copies, which are others."""
        self._modules = [module._modules for module in self._holding]
        self._hooks = [hooks for module in self._heard for hooks in hooks_of(module)]
        self._dicts = [module.__dict__ for module in self._heard]
        self._getters = [
            (itemgetter(*names), [module.__dict__ for module, _ in group])
            for names, group in groupby(sorted(self._set_up, key=itemgetter(1)), key=itemgetter(1))
        ]

    def _settings_now(self) -> list[Any]:
        return list(chain.from_iterable(map(get, dicts) for get, dicts in self._getters))

    def __getstate__(self) -> dict[str, Any]:
        derived = ("_modules", "_hooks", "_dicts", "_getters")
        return {name: value for name, value in self.__dict__.items() if name not in derived}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def holds(self) -> bool:
        """Whether everything is as it was noted."""
        if "_hooks" not in self.__dict__:
            self._note_dictionaries()
        if list(chain.from_iterable(map(dict.values, self._modules))) != self._children:
            return False
        if any(self._hooks) or any(map(contains, self._dicts, repeat("forward"))):
            return False
        if list(map(type, self._parts)) != self._types:
            return False
        try:
            return self._settings_now() == self._values
        except KeyError:
            return False

    def listened_to(self) -> str | None:
        """The name of a layer that has hooks, or another forward on the instance."""
        for name, module in zip(self._names, self._parts, strict=True):
            if has_hooks(module) or "forward" in module.__dict__:
                return name
        return None


def first_difference(now: Sequence[Look], then: Sequence[Look]) -> tuple[str, str, str] | None:
    """(name, what it is now, what it was) of the first layer that differs."""
    for own, other in zip(now, then, strict=False):
        if own != other:
            return other[0], _shown(own), _shown(other)
    if len(now) != len(then):
        longer = max(now, then, key=len)[min(len(now), len(then))]
        return longer[0], *((_shown(longer), "nothing") if len(now) > len(then) else ("nothing", _shown(longer)))
    return None


def _shown(look: Look) -> str:
    return f"{look[1].__name__}({', '.join(f'{name}={value}' for name, value in look[2])}) at {look[0]}"


def _look_of(name: str, module: nn.Module) -> Look:
    kind = type(module).__bases__[0] if is_parametrized(module) else type(module)
    settings = [(key, module.__dict__[key]) for key in _settings_of(module)]
    if isinstance(module, nn.Conv2d):
        settings += [(key, getattr(module, key)) for key in ("in_channels", "out_channels", "kernel_size")]
        settings.append(("bias", module.bias is not None))
    if isinstance(module, nn.BatchNorm2d):
        settings += [("num_features", module.num_features), ("affine", module.weight is not None)]
    return name, kind, tuple(settings)


def _settings_of(module: nn.Module) -> tuple[str, ...]:
    """Names of the plain attributes that decide what the module computes."""
    if isinstance(module, _WITHOUT_SETTINGS):
        return ()
    if isinstance(module, nn.Conv2d):
        return _CONV_SETTINGS
    return tuple(
        name
        for name, value in module.__dict__.items()
        if isinstance(value, _PLAIN) and name != "training" and not name.startswith("_")
    )
