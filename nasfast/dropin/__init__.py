"""Swap fused forwards into the mixed operations and cells of somebody else's network, in place."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from nasfast.dropin.alone import Unrecognised
from nasfast.dropin.arguments import cell_argument_forms, mixed_arguments
from nasfast.dropin.cell import FusedCell
from nasfast.dropin.forward import install, installed, uninstall
from nasfast.dropin.mixed import FusedMixed
from nasfast.dropin.preprocess import FusedPreprocess
from nasfast.dropin.probe import difference, one_thread, untouched
from nasfast.dropin.recognise import find_banks, own_children
from nasfast.dropin.report import AccelerateReport
from nasfast.errors import ConfigError

__all__ = ["AccelerateReport", "accelerate", "restore"]

_FUSED_MODULES = ("nasfast.nn.fused", "nasfast.nn.fused_partial")
_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


def accelerate(model: nn.Module, *, verbose: bool = False, tolerance: float = 1e-4) -> AccelerateReport:
    """Run the mixed operations of `model`, the cells around them and their pre-processing on the fused kernels.

    A mixed operation is a module that holds candidate operations and adds their weighted results up; a cell is a
    module that holds mixed operations and adds their results up to nodes; pre-processing, relu with one or two
    pointwise convolutions and BatchNorm, stands beside the mixed operations. All are recognised by structure. A module
    is changed only after its fused forward gave the same outputs, gradients and statistics as its own on random
    input, in train and in eval mode. Parameters, buffers, names and state_dict stay the objects they are. Everything
    else runs as it was, and so does a fused module at a call that does not fit (another dtype, a hook or a candidate
    that was changed later). Under autocast to bfloat16 the kernels read images in bfloat16 and keep parameters and
    statistics in float32. Calls are fused there in the forms that were tried, which gave the dtype that the module's
    own forward gives; a module that reads an attribute that was changed since runs as it was.

    Results are channels_last. Where a network draws dropout masks on them, a seed gives other masks than on contiguous
    tensors: PyTorch fills a mask in the order of the memory.

    A network with a `new()` that builds another of its kind, as second-order DARTS wants, gives accelerated ones.
    Called again, this fuses what has changed since, such as a network that was widened. :func:`restore` undoes it, for
    second derivatives by autograd, which fused forwards have not.

    Args:
        verbose: print the report.
        tolerance: largest relative difference of outputs in the module's own dtype (float64 probes are stricter).

    Returns:
        What was fused, and what was left with the reason.

    Raises:
        ConfigError: `model` is no module, or `tolerance` is not positive.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"accelerate: model must be a torch.nn.Module, got {type(model).__name__}")
    if not tolerance > 0:
        raise ConfigError(f"accelerate: tolerance must be positive, got {tolerance}")
    for module in model.modules():
        plan = installed(module)
        if plan is not None and not plan.holds():
            uninstall(module)
    with one_thread():
        report = _fuse(model, tolerance)
    if report.fused and callable(getattr(model, "new", None)):
        _accelerate_new(model)
    if verbose:
        print(report)
    return report


def restore(model: nn.Module) -> int:
    """Give every module of `model` the forward that it had before :func:`accelerate`.

    Returns:
        How many fused forwards there were.

    Raises:
        ConfigError: `model` is no module.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"restore: model must be a torch.nn.Module, got {type(model).__name__}")
    fused = [module for module in model.modules() if installed(module) is not None]
    for module in fused:
        uninstall(module)
    for module in model.modules():
        if isinstance(module.__dict__.get("new"), _AcceleratedNew):
            del module.__dict__["new"]
    return len(fused)


def _fuse(model: nn.Module, tolerance: float) -> AccelerateReport:
    """Cells first; then the mixed operations that no fused cell covers; then what stands beside them."""
    report = AccelerateReport()
    plans, left = _plan_banks(model)
    report.mixed = len(plans) + len(left)
    covered: set[int] = set()
    beside: dict[str, nn.Module] = {}
    for name, module, mixed in _possible_cells(model, plans):
        beside |= _beside_mixed(name, module, mixed)
        if "forward" in module.__dict__:
            left[name] = "as a cell: it has a forward of its own on the instance"
            continue
        try:
            cell = _fuse_cell(name, module, mixed, tolerance)
        except Unrecognised as refusal:
            left[name] = f"as a cell: {refusal}"
            continue
        install(cell)
        covered |= {id(plan.module) for plan in mixed}
        report.fused_mixed += len(mixed)
        report.fused.append((name, cell.kind))
    for plan in plans:
        if id(plan.module) in covered:
            continue
        reason = difference(plan, mixed_arguments(plan), tolerance)
        if reason is not None:
            left[plan.bank.name] = reason
            continue
        install(plan)
        report.fused_mixed += 1
        report.fused.append((plan.bank.name, plan.kind))
    for name, module in beside.items():
        if name in left or installed(module) is not None:
            continue
        try:
            preprocess = _fuse_preprocessing(module, tolerance)
        except Unrecognised as refusal:
            left[name] = f"as pre-processing: {refusal}"
            continue
        install(preprocess)
        report.fused.append((name, preprocess.kind))
    report.left = sorted(left.items())
    return report


def _fuse_preprocessing(module: nn.Module, tolerance: float) -> FusedPreprocess:
    """A fused forward that was found equal. Raises Unrecognised with the reason where there is none."""
    with untouched(module):
        plan = FusedPreprocess(module)
    found = difference(plan, plan.arguments(), tolerance)
    if found is not None:
        raise Unrecognised(found)
    return plan


def _beside_mixed(name: str, cell: nn.Module, mixed: Sequence[FusedMixed]) -> Iterator[tuple[str, nn.Module]]:
    """What a cell or a container in it holds beside mixed operations, if it has convolutions."""
    inside = {id(part) for plan in mixed for part in plan.module.modules()}
    for key, child in cell._modules.items():
        if child is None or id(child) in inside:
            continue
        own_name = f"{name}.{key}" if name else key
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from _beside_mixed(own_name, child, mixed)
        elif any(isinstance(part, nn.Conv2d) and id(part) not in inside for part in child.modules()):
            yield own_name, child


def _plan_banks(model: nn.Module) -> tuple[list[FusedMixed], dict[str, str]]:
    banks, left = find_banks(model)
    done = _fused_already(model)
    left = {name: reason for name, reason in left.items() if id(model.get_submodule(name)) not in done}
    plans = []
    for bank in banks:
        if id(bank.module) in done:
            continue
        try:
            with untouched(bank.module):
                plans.append(FusedMixed(bank))
        except Unrecognised as reason:
            if not bank.alike:
                left[bank.name] = str(reason)
            continue
        for other in bank.alike:  # the forward that was understood has no use for the others
            left.pop(other, None)
    return plans, left


def _fused_already(model: nn.Module) -> set[int]:
    """Modules that are fused, and everything in them: accelerated before, or built so by nasfast."""

    def fused(module: nn.Module) -> bool:
        own = any(base.__module__ in _FUSED_MODULES for base in type(module).__mro__)
        return own or installed(module) is not None

    return {id(part) for module in model.modules() if fused(module) for part in module.modules()}


def _possible_cells(model: nn.Module, plans: Sequence[FusedMixed]) -> Iterator[tuple[str, nn.Module, list[FusedMixed]]]:
    """Modules that hold two or more mixed operations, directly or in containers, in the order of registration."""
    by_module = {id(plan.module): plan for plan in plans}
    for name, module in model.named_modules():
        if isinstance(module, _CONTAINERS) or id(module) in by_module:
            continue
        held = [by_module[id(part)] for part in _direct_parts(module) if id(part) in by_module]
        if len(held) > 1:
            yield name, module, held


def _direct_parts(module: nn.Module) -> Iterator[nn.Module]:
    for child in own_children(module):
        if isinstance(child, _CONTAINERS):
            yield from _direct_parts(child)
        else:
            yield child


def _fuse_cell(name: str, module: nn.Module, mixed: list[FusedMixed], tolerance: float) -> FusedCell:
    """A fused forward that was found equal. Raises Unrecognised with the reason where there is none."""
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0)).detach()
    reason = Unrecognised("its forward could not be called with states and weights")
    for make in cell_argument_forms(module, mixed):
        with untouched(module):
            try:
                cell = FusedCell(name, module, mixed, make(like))
            except Unrecognised as error:
                reason = error
                continue
            except Exception:
                continue
        found = difference(cell, make, tolerance)
        if found is not None:
            raise Unrecognised(found)
        return cell
    raise reason


class _AcceleratedNew:
    """Stands for `new` of an accelerated network: what it builds has the same forwards fused, without new probes."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        twin = type(self.model).new(self.model, *args, **kwargs)  # type: ignore[attr-defined]
        if isinstance(twin, nn.Module):
            _transfer(self.model, twin)
        return twin


def _accelerate_new(model: nn.Module) -> None:
    if "new" not in model.__dict__:
        model.__dict__["new"] = _AcceleratedNew(model)


def _transfer(model: nn.Module, twin: nn.Module) -> None:
    """Give `twin` the fused forwards of `model`, if the two have one structure."""
    ours, theirs = list(model.named_modules()), list(twin.named_modules())
    if [_signature(*item) for item in ours] != [_signature(*item) for item in theirs]:
        return
    counterpart: dict[int, Any] = {id(own): other for (_, own), (_, other) in zip(ours, theirs, strict=True)}
    for _, own in ours:
        plan = installed(own)
        other = counterpart[id(own)]
        if plan is not None and "forward" not in other.__dict__:
            # A plan refers to modules and to nothing else that differs: its copy with the twin's modules is the twin's.
            install(copy.deepcopy(plan, dict(counterpart)))
    _accelerate_new(twin)


def _signature(name: str, module: nn.Module) -> tuple[Any, ...]:
    return name, type(module), module.extra_repr()
