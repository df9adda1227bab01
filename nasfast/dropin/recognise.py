"""What a module is, read from its structure: candidate operations, and modules that hold a bank of them.

Class names play no part. A candidate is its sequence of leaf modules (convolutions, normalisations, pools, relus); a
leaf without parameters that PyTorch does not define is run on random input to see whether it is the identity or zero.
What is read here is a hypothesis: `nasfast.dropin.probe` is what decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn

from nasfast.dropin.alone import PROBE_SIZE, Unrecognised, effect_of, is_convolution, is_identity
from nasfast.nn.fused import norm_settings
from nasfast.nn.fused_contract import has_hooks

_CONTAINERS = (nn.ModuleList, nn.ModuleDict)
_KERNELS_SEPARABLE = (3, 5, 7)
_KERNELS_DILATED = (3, 5)


@dataclass(frozen=True)
class Candidate:
    """One candidate operation.

    `norm` is "batch", "affine" or "none" (pools only). `leaves` are its convolutions and normalisations in the order
    in which the fused kernels take their parameters. `stride` and `channels` are None where any would do.
    """

    module: nn.Module
    primitive: str
    norm: str
    stride: int | None
    channels: int | None
    leaves: tuple[nn.Module, ...] = ()


@dataclass(frozen=True)
class Bank:
    """A module and the candidate operations it holds, all on the same channels and with the same stride.

    `holder` is the list or dictionary that the candidates are in, or the module itself. `alike` names all in
    the module that look like one, where there are several.
    """

    name: str
    module: nn.Module
    holder: nn.Module
    candidates: tuple[Candidate, ...]
    channels: int
    stride: int
    alike: tuple[str, ...] = ()

    def leaves(self) -> list[nn.Module]:
        """Convolutions and normalisations of all candidates, in parameter order."""
        return [leaf for candidate in self.candidates for leaf in candidate.leaves]

    def norms(self) -> list[nn.BatchNorm2d]:
        return [leaf for leaf in self.leaves() if isinstance(leaf, nn.BatchNorm2d)]


def own_children(module: nn.Module) -> list[nn.Module]:
    """Direct children, one that is registered twice given twice."""
    return [child for child in module._modules.values() if child is not None]


def find_banks(model: nn.Module) -> tuple[list[Bank], dict[str, str]]:
    """Every module that holds a bank of candidates, and the reason for those that look like one but are none."""
    banks: list[Bank] = []
    left: dict[str, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, (*_CONTAINERS, nn.Sequential)):
            continue
        alike = {path: holder for path, holder in _containers(module, name) if _looks_like_bank(holder)}
        for holder in _possible_holders(module):
            try:
                bank = _read_bank(name, module, holder)
            except Unrecognised as reason:
                if len(alike) == 1 and holder in alike.values():
                    left[name] = str(reason)
                continue
            banks.append(replace(bank, alike=tuple(alike) if len(alike) > 1 else ()))
            left.pop(name, None)
            alike = alike if len(alike) > 1 else {}
            break
        if name not in left:
            left |= {path: _why_left(name, module, holder) for path, holder in alike.items()}
    return banks, left


def _containers(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Lists and dictionaries in a module, those in others of them too, by name."""
    for key, child in module._modules.items():
        if isinstance(child, _CONTAINERS):
            path = f"{name}.{key}" if name else key
            yield path, child
            yield from _containers(child, path)


def _why_left(name: str, module: nn.Module, holder: nn.Module) -> str:
    try:
        _read_bank(name, module, holder)
    except Unrecognised as reason:
        return str(reason)
    return (
        f"its candidates stand in a {type(holder).__name__} of {type(module).__name__}, whose forward adds up more: "
        "a module of their own, which holds and adds them up, would be fused"
    )


def _possible_holders(module: nn.Module) -> Iterator[nn.Module]:
    containers: list[nn.Module] = [child for child in own_children(module) if isinstance(child, _CONTAINERS)]
    for holder in containers or [module]:
        if len(own_children(holder)) > 1:
            yield holder


def _looks_like_bank(holder: nn.Module) -> bool:
    """Depthwise, dense and pooling operations side by side: worth a line in the report when they are not fused."""
    kinds = set()
    for child in own_children(holder):
        parts = list(child.modules())
        if any(isinstance(part, nn.Conv2d) and _is_depthwise(part) for part in parts):
            kinds.add("depthwise")
        elif any(isinstance(part, nn.Conv2d) for part in parts):
            kinds.add("dense")
        elif any(isinstance(part, nn.MaxPool2d | nn.AvgPool2d) for part in parts):
            kinds.add("pool")
    return len(kinds) > 1


def _read_bank(name: str, module: nn.Module, holder: nn.Module) -> Bank:
    read: list[Candidate | nn.Module] = []
    for index, child in enumerate(own_children(holder)):
        try:
            read.append(_read_chain(child))
        except _OpaqueLeaf:
            read.append(child)
        except Unrecognised as reason:
            raise Unrecognised(f"candidate {index}: {reason}") from None
    known = [candidate for candidate in read if isinstance(candidate, Candidate)]
    channels = _common("channels", [candidate.channels for candidate in known])
    if channels is None or (len(known) == len(read) and len({candidate.primitive for candidate in known}) < 2):
        raise Unrecognised("its candidates have no channel count to tell")
    candidates = []
    for index, candidate in enumerate(read):
        if not isinstance(candidate, Candidate):
            try:
                candidate = _read_opaque(candidate, channels)
            except Unrecognised as reason:
                raise Unrecognised(f"candidate {index}: {reason}") from None
        candidates.append(candidate)
    stride = _common("strides", [candidate.stride for candidate in candidates]) or 1
    if sum(candidate.primitive == "skip_connect" for candidate in candidates) > 1:
        raise Unrecognised("it holds more than one skip connection")
    bank = Bank(name, module, holder, tuple(candidates), channels, stride)
    check_norms(bank)
    return bank


def _common(what: str, values: list[int | None]) -> int | None:
    found = {value for value in values if value is not None}
    if len(found) > 1:
        raise Unrecognised(f"its candidates have different {what}: {', '.join(map(str, sorted(found)))}")
    return next(iter(found), None)


def check_norms(bank: Bank) -> None:
    """Raise Unrecognised where one graph cannot normalise as all its candidates do."""
    leaves = bank.leaves()
    if len({id(leaf) for leaf in leaves}) < len(leaves):
        raise Unrecognised("two of its candidates share a module")
    settings = {norm_settings(norm)[1:] for norm in bank.norms()}
    if len(settings) > 1:
        raise Unrecognised("its batch normalisations differ in eps, momentum or the tracking of statistics")


class _OpaqueLeaf(Exception):
    """Leaves without parameters, and no others, that have to be run to be told."""


def _read_chain(module: nn.Module) -> Candidate:
    leaves = list(_flatten(module))
    kinds = ""
    steps: list[nn.Module] = []
    for leaf in leaves:
        kind = _leaf_kind(leaf)
        if kind != "-":
            kinds += kind
            steps.append(leaf)
    if set(kinds) == {"?"}:
        raise _OpaqueLeaf
    if "?" in kinds:
        convs = [leaf for leaf in steps if isinstance(leaf, nn.Conv2d)]
        channels = convs[0].in_channels if convs else PROBE_SIZE
        steps = [
            leaf for leaf, kind in zip(steps, kinds, strict=True) if kind != "?" or not is_identity(leaf, channels)
        ]
        kinds = kinds.replace("?", "")
    if kinds == "" and any(isinstance(leaf, nn.Identity) for leaf in leaves) and len(leaves) == 1:
        return Candidate(module, "skip_connect", "batch", 1, None)
    if kinds in ("p", "pb"):
        return _read_pool(module, steps)
    if kinds == "ccb":
        return _read_two_convolutions(module, steps)
    if kinds == "ccbccb":
        return _read_separable(module, steps)
    raise Unrecognised(f"{_describe(leaves)} has no fused form")


def _flatten(module: nn.Module) -> Iterator[nn.Module]:
    if has_hooks(module):
        raise Unrecognised(f"{type(module).__name__} has hooks")
    if "forward" in module.__dict__:
        raise Unrecognised(f"{type(module).__name__} has a forward of its own on the instance")
    children = own_children(module)
    if not children:
        yield module
        return
    if any(value is not None for value in (*module._parameters.values(), *module._buffers.values())):
        raise Unrecognised(f"{type(module).__name__} has parameters beside its children")
    for child in children:
        yield from _flatten(child)


def _leaf_kind(leaf: nn.Module) -> str:
    """c convolution, b normalisation, p pool, - nothing to compute here, ? unknown without parameters."""
    if type(leaf) is nn.Conv2d or is_convolution(leaf):
        assert isinstance(leaf, nn.Conv2d)
        if leaf.bias is not None:
            raise Unrecognised("a convolution with bias has no fused form")
        if leaf.padding_mode != "zeros" or isinstance(leaf.padding, str):
            raise Unrecognised(f"a convolution with padding {leaf.padding!r}, {leaf.padding_mode} has no fused form")
        return "c"
    if type(leaf) is nn.BatchNorm2d:
        return "b"
    if type(leaf) in (nn.MaxPool2d, nn.AvgPool2d):
        return "p"
    if type(leaf) in (nn.ReLU, nn.Identity):
        return "-"
    if any(True for _ in leaf.parameters()) or any(True for _ in leaf.buffers()):
        raise Unrecognised(f"{type(leaf).__name__} has no fused form")
    return "?"


def _describe(leaves: list[nn.Module]) -> str:
    def one(leaf: nn.Module) -> str:
        if isinstance(leaf, nn.Conv2d):
            height, width = leaf.kernel_size
            return f"{'depthwise' if _is_depthwise(leaf) else 'dense'} {height}x{width} convolution"
        return type(leaf).__name__

    return " + ".join(one(leaf) for leaf in leaves)


def _is_depthwise(conv: nn.Conv2d) -> bool:
    return conv.groups == conv.in_channels == conv.out_channels and max(conv.kernel_size) > 1


def _geometry(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """(kernel, stride, dilation, padding) of a square convolution."""
    values = []
    for pair in (conv.kernel_size, conv.stride, conv.dilation, conv.padding):
        if isinstance(pair, str) or pair[0] != pair[1]:
            raise Unrecognised(f"a {conv.kernel_size} convolution here has no fused form")
        values.append(int(pair[0]))
    return values[0], values[1], values[2], values[3]


def _as_conv(module: nn.Module) -> nn.Conv2d:
    assert isinstance(module, nn.Conv2d)
    return module


def _norm_kind(norm: nn.Module, channels: int) -> str:
    assert isinstance(norm, nn.BatchNorm2d)
    if norm.num_features != channels:
        raise Unrecognised(f"a normalisation of {norm.num_features} channels behind {channels}")
    return "affine" if norm.affine else "batch"


def _read_pool(module: nn.Module, steps: list[nn.Module]) -> Candidate:
    pool = steps[0]
    assert isinstance(pool, (nn.MaxPool2d, nn.AvgPool2d))
    kernel, stride, padding = (_square(value) for value in (pool.kernel_size, pool.stride, pool.padding))
    if kernel != 3 or padding != 1 or stride not in (1, 2) or pool.ceil_mode:
        raise Unrecognised(f"a {kernel}x{kernel} pool of stride {stride}, padding {padding} has no fused form")
    if isinstance(pool, nn.MaxPool2d):
        primitive = "max_pool_3x3"
        usual = _square(pool.dilation) == 1 and not pool.return_indices
    else:
        primitive = "avg_pool_3x3"
        usual = not pool.count_include_pad and pool.divisor_override is None
    if not usual:
        raise Unrecognised(f"{pool} has no fused form")
    if len(steps) == 1:
        return Candidate(module, primitive, "none", stride, None)
    norm = steps[1]
    assert isinstance(norm, nn.BatchNorm2d)
    kind = _norm_kind(norm, norm.num_features)
    return Candidate(module, primitive, kind, stride, norm.num_features, (norm,))


def _square(value: int | tuple[int, ...]) -> int:
    if isinstance(value, int):
        return value
    if len(set(value)) != 1:
        raise Unrecognised(f"a pool of {value} has no fused form")
    return int(value[0])


def _read_two_convolutions(module: nn.Module, steps: list[nn.Module]) -> Candidate:
    first, second, norm = _as_conv(steps[0]), _as_conv(steps[1]), steps[2]
    channels = first.in_channels
    leaves = (first, second, norm)
    kind = _norm_kind(norm, channels)
    if first.kernel_size == (1, 7) and second.kernel_size == (7, 1):
        stride = first.stride[1]
        expected = (first.stride, second.stride, first.padding, second.padding)
        if expected != ((1, stride), (stride, 1), (0, 3), (3, 0)) or not _is_dense(first, second, channels):
            raise Unrecognised("this pair of 1x7 and 7x1 convolutions has no fused form")
        return Candidate(module, "conv_7x1_1x7", kind, _stride(stride), channels, leaves)
    if first.kernel_size == second.kernel_size == (1, 1):
        halves = first.out_channels == second.out_channels == channels // 2 and second.in_channels == channels
        if not halves or _geometry(first)[1:] != (2, 1, 0) or _geometry(second)[1:] != (2, 1, 0):
            raise Unrecognised("this pair of 1x1 convolutions has no fused form")
        return Candidate(module, "skip_connect", kind, 2, channels, leaves)
    kernel, stride, dilation, padding = _geometry(first)
    if not _is_depthwise(first) or not _is_pointwise(second, channels):
        raise Unrecognised(f"{_describe([first, second])} has no fused form")
    if kernel not in _KERNELS_DILATED or dilation != 2 or padding != kernel - 1:
        raise Unrecognised(f"a single depthwise {kernel}x{kernel} convolution of dilation {dilation} has no fused form")
    return Candidate(module, f"dil_conv_{kernel}x{kernel}", kind, _stride(stride), channels, leaves)


def _read_separable(module: nn.Module, steps: list[nn.Module]) -> Candidate:
    first, second = _as_conv(steps[0]), _as_conv(steps[3])
    channels = first.in_channels
    kernel, stride, dilation, padding = _geometry(first)
    fits = (
        _is_depthwise(first)
        and _is_depthwise(second)
        and kernel in _KERNELS_SEPARABLE
        and (dilation, padding) == (1, kernel // 2)
        and _geometry(second) == (kernel, 1, 1, padding)
        and second.in_channels == channels
        and _is_pointwise(_as_conv(steps[1]), channels)
        and _is_pointwise(_as_conv(steps[4]), channels)
    )
    if not fits:
        raise Unrecognised(f"{_describe(steps)} has no fused form")
    kinds = {_norm_kind(norm, channels) for norm in (steps[2], steps[5])}
    if len(kinds) > 1:
        raise Unrecognised("a separable convolution with one affine normalisation has no fused form")
    return Candidate(module, f"sep_conv_{kernel}x{kernel}", kinds.pop(), _stride(stride), channels, tuple(steps))


def _stride(stride: int) -> int:
    if stride not in (1, 2):
        raise Unrecognised(f"stride {stride} has no fused form")
    return stride


def _is_pointwise(conv: nn.Conv2d, channels: int) -> bool:
    return _is_dense(conv, conv, channels) and conv.kernel_size == (1, 1) and _geometry(conv) == (1, 1, 1, 0)


def _is_dense(first: nn.Conv2d, second: nn.Conv2d, channels: int) -> bool:
    return all(
        conv.groups == 1 and conv.in_channels == conv.out_channels == channels and set(conv.dilation) == {1}
        for conv in (first, second)
    )


def _read_opaque(module: nn.Module, channels: int) -> Candidate:
    """Run a leaf that PyTorch does not define: it may be the identity, or zero of either stride."""
    name = next(type(leaf).__name__ for leaf in _flatten(module) if _leaf_kind(leaf) == "?")
    reading = effect_of(module, name, channels)
    if reading is None:
        raise Unrecognised(f"{name} has no fused form")
    return Candidate(module, reading[0], "batch", reading[1], None)


def read_skip(module: nn.Module, channels: int, stride: int) -> Candidate | None:
    """The skip connection that a module is, identity or factorized reduction; None where it is none of this size."""
    try:
        try:
            candidate = _read_chain(module)
        except _OpaqueLeaf:
            candidate = _read_opaque(module, channels)
    except Unrecognised:
        return None
    fits = candidate.channels in (None, channels) and (candidate.stride or 1) == stride
    return candidate if candidate.primitive == "skip_connect" and fits else None


def read_preprocessing(module: nn.Module) -> list[nn.Module]:
    """Its convolutions, one or two pointwise ones, and its normalisation.

    Raises:
        Unrecognised: it is no such sequence; the message says why.
    """
    steps = [leaf for child in own_children(module) for leaf in _flatten(child) if _leaf_kind(leaf) != "-"]
    if "".join(map(_leaf_kind, steps)) not in ("cb", "ccb"):
        raise Unrecognised(f"{_describe(steps)} has no fused form")
    convs = [_as_conv(step) for step in steps[:-1]]
    sources = {conv.in_channels for conv in convs}
    geometry = {(*_geometry(conv), conv.groups) for conv in convs}
    if len(sources) > 1 or geometry != {(1, len(convs), 1, 0, 1)}:
        raise Unrecognised(f"{_describe(steps)} of this stride has no fused form")
    _norm_kind(steps[-1], sum(conv.out_channels for conv in convs))
    return steps
