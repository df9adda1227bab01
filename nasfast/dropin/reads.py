"""What a module's own forward reads beside its arguments, its layers and its weights.

Its Python code is followed from ``forward`` on, through the methods and functions that it calls: attributes, globals,
closures. Their values are noted, and compared at every call: what was found out about a forward holds for as long as
it reads the same.
"""

from __future__ import annotations

import builtins
import copy
import dis
import sys
from collections.abc import Callable, Iterable, Iterator
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

_MISSING = object()
_BY_TEXT = ("getattr", "hasattr", "setattr")
_VALUES = (int, float, complex, bool, str, bytes, type(None))
_FOREIGN = ("torch", "torchvision", "numpy", "nasfast", *sys.stdlib_module_names)
"""Packages whose code is taken for settled."""

_OF_MODULES = frozenset(dir(nn.Module()))

Lookup = Callable[[], Any]


class Reads:
    """The values that a module's forward reads, as they were when this was made.

    Attributes:
        readable: Whether the forward is Python that could be followed; otherwise nothing can be said of it.
        branches: Whether it decides anything, be it by the values of its arguments.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._note()

    def _note(self) -> None:
        code = _Code(type(self.module))
        self.readable, self.branches = code.readable, code.branches
        self._own = {name: _stamp(_of_instance(self.module, name)) for name in code.of_instance(self.module)}
        self._shared = [(lookup, _stamp(lookup())) for lookup in code.lookups(self.module, self._own)]

    def same(self) -> bool:
        """Whether it would read the same now."""
        if "_own" not in self.__dict__:
            before = self.__dict__.pop("_before")
            self._note()
            self.readable = self.readable and before is not None and _equal(before, self._values())
        if not self.readable:
            return False
        own = all(_unchanged(_of_instance(self.module, name), stamp) for name, stamp in self._own.items())
        return own and all(_unchanged(lookup(), stamp) for lookup, stamp in self._shared)

    def anything(self) -> bool:
        """Whether it reads an attribute of the instance."""
        return any(stamp[0] is not _MISSING for stamp in self._own.values())

    def _values(self) -> dict[str, Any]:
        return {name: stamp[1] for name, stamp in self._own.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy: the module's, and the values that it has to find there."""
        values = self._values() if self.same() else None
        return {"module": self.module, "_before": values if values is None else copy.deepcopy(_comparable(values))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class _Code:
    """The names in the code of a class' forward, and of what it calls."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.readable, self.branches = True, False
        self.attributes: set[str] = set()
        self._globals: dict[tuple[int, str], tuple[dict[str, Any], str]] = {}
        self._cells: list[CellType] = []
        self._followed: set[int] = set()
        if not isinstance(getattr(kind, "forward", None), FunctionType):
            self.readable = False
        # Methods of its own are followed as soon as their names are seen.
        done: set[str] = set()
        seen = {"forward"}
        while seen:
            for name in seen:
                for value in _all_of_class(kind, name):
                    self._follow_value(value)
            done |= seen
            seen = self.attributes - done

    def of_instance(self, module: nn.Module) -> list[str]:
        """Attributes of an instance that matter: those that are there, and those that would hide one of the class."""
        return sorted(name for name in self.attributes if self._matters(name, module))

    def _matters(self, name: str, module: nn.Module) -> bool:
        if name in ("training", "forward") or name in module._modules or name.startswith("__"):
            return False
        if name in vars(module) or any(True for _ in _all_of_class(self.kind, name)):
            return name not in _OF_MODULES
        return name not in _OF_MODULES and not hasattr(Tensor, name)

    def lookups(self, module: nn.Module, names: Iterable[str]) -> Iterator[Lookup]:
        kind = type(module)
        for name in ("forward", *names):
            if _of_class(kind, name) is not _MISSING:
                yield lambda name=name: _of_class(kind, name)  # type: ignore[misc]
        holders = [value for name in names if _is_holder(value := vars(module).get(name))]
        for space, name in self._globals.values():
            yield lambda space=space, name=name: space.get(name, _MISSING)  # type: ignore[misc]
            if _is_holder(value := space.get(name)):
                holders.append(value)
        for cell in self._cells:
            yield lambda cell=cell: _contents(cell)  # type: ignore[misc]
            if _is_holder(value := _contents(cell)):
                holders.append(value)
        for holder in holders:
            for name in sorted(self.attributes & vars(holder).keys()):
                yield lambda holder=holder, name=name: vars(holder).get(name, _MISSING)  # type: ignore[misc]

    def _follow_value(self, value: Any) -> None:
        if isinstance(value, property):
            value = value.fget
        elif isinstance(value, (staticmethod, classmethod, MethodType)):
            value = value.__func__
        if isinstance(value, FunctionType):
            self._follow(value)

    def _follow(self, function: FunctionType) -> None:
        if id(function) in self._followed or _is_foreign(function.__module__):
            return
        self._followed.add(id(function))
        for code in _codes(function.__code__):
            self._read(code, function.__globals__)
        for cell in function.__closure__ or ():
            self._cells.append(cell)
            self._follow_value(_contents(cell))

    def _read(self, code: CodeType, space: dict[str, Any]) -> None:
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                name = str(step.argval)
                if name in ("eval", "exec", "globals", "vars", "locals"):
                    self.readable = False
                if name in _BY_TEXT:
                    self.attributes |= {c for c in code.co_consts if isinstance(c, str) and c.isidentifier()}
                if name in space or not hasattr(builtins, name):
                    self._globals[id(space), name] = space, name
                    self._follow_value(space.get(name))
            elif step.opname in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"):
                self.attributes.add(str(step.argval))
            elif step.opname.startswith("POP_JUMP") or "JUMP_IF" in step.opname:
                self.branches = True


def watched(modules: Iterable[nn.Module]) -> list[Reads]:
    """Of layers that PyTorch does not define: each that reads attributes of its own, and one of every other class."""
    found, kinds = [], set()
    for module in modules:
        if not _is_foreign(type(module).__module__):
            reads = Reads(module)
            if reads.anything() or not reads.readable or type(module) not in kinds:
                found.append(reads)
            kinds.add(type(module))
    return found


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A code object, and those of the functions and comprehensions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _is_foreign(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _FOREIGN


def _of_instance(module: nn.Module, name: str) -> Any:
    value = vars(module).get(name, _MISSING)
    return module._parameters.get(name, module._buffers.get(name, _MISSING)) if value is _MISSING else value


def _all_of_class(kind: type, name: str) -> Iterator[Any]:
    """What a class, and those that it is made from, have under a name; nothing of torch's own."""
    for base in kind.__mro__:
        if name in base.__dict__ and not _is_foreign(base.__module__):
            yield base.__dict__[name]


def _of_class(kind: type, name: str) -> Any:
    return next(_all_of_class(kind, name), _MISSING)


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


def _is_holder(value: Any) -> bool:
    """Whether attributes of it may be what is read: a namespace of options, an object of a class of the user's."""
    if isinstance(value, ModuleType):
        return not _is_foreign(value.__name__)
    if isinstance(value, (nn.Module, Tensor, FunctionType)) or not hasattr(value, "__dict__"):
        return False
    return not _is_foreign(value.__module__ if isinstance(value, type) else type(value).__module__) or (
        type(value).__name__ in ("Namespace", "SimpleNamespace")
    )


def _stamp(value: Any) -> tuple[Any, Any, Any]:
    """The object, its value where that can be compared, and the version of a tensor."""
    if isinstance(value, Tensor):
        return value, value, -1 if value.is_inference() else value._version
    if isinstance(value, (list, dict, set)):
        return value, copy.copy(value), None
    return value, value, None


def _unchanged(value: Any, stamp: tuple[Any, Any, Any]) -> bool:
    seen, noted, version = stamp
    if isinstance(value, Tensor):
        return value is seen and version != -1 and value._version == version
    if isinstance(value, _VALUES):
        return type(value) is type(noted) and value == noted
    if isinstance(value, (tuple, list, dict, set)):
        return type(value) is type(noted) and _same_items(value, noted)
    return value is seen


def _same_items(value: Any, noted: Any) -> bool:
    if isinstance(value, set):
        return bool(value == noted)
    if len(value) != len(noted):
        return False
    if isinstance(value, dict):
        return value.keys() == noted.keys() and _same_items(list(value.values()), list(noted.values()))
    return all(
        a is b or (isinstance(a, _VALUES) and type(a) is type(b) and a == b) for a, b in zip(value, noted, strict=True)
    )


def _comparable(values: dict[str, Any]) -> dict[str, Any]:
    """What a copy can be compared with: values, tensors and lists of these. Layers are watched elsewhere."""

    def known(value: Any) -> bool:
        if isinstance(value, (tuple, list)):
            return all(map(known, value))
        return isinstance(value, (Tensor, *_VALUES)) or value is _MISSING

    return {name: value if known(value) else None for name, value in values.items() if value is not _MISSING}


def _equal(before: dict[str, Any], values: dict[str, Any]) -> bool:
    now = _comparable(values)
    return before.keys() == now.keys() and all(_equal_value(before[name], now[name]) for name in before)


def _equal_value(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b.to(a.device))
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_equal_value, a, b))
    return type(a) is type(b) and bool(a == b)
