"""Give layers under weight norm their plain weight, so that the exported graph has nothing to recompute."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _WeightNorm

from normexport.checkpoint.finite import require_finite
from normexport.checkpoint.records import WeightNormRecord
from normexport.checkpoint.state import State
from normexport.checkpoint.weight_norm import StoredWeight, stored_weights
from normexport.errors import CheckpointError
from normexport.nn import BoundedWeightNorm

#: Layouts whose layers take p from their constructor; the others always use 2 (p only sets their first norm).
_WITH_P = ("norm-matters-bwn", "quantized-bwn")
#: The formula against the layer's own arithmetic in its own precision: a few hundred roundings of a sum.
_ROUNDINGS = 256


def resolve_weight_norms(model: nn.Module) -> tuple[list[WeightNormRecord], list[str]]:
    """Make every weight of `model` plain in place, but for normexport's own parametrization, which is exported.

    Returns:
        What was found, and notes on weights that stay as their layer computes them.

    Raises:
        CheckpointError: a layer computes another weight than its layout says.
    """
    records: list[WeightNormRecord] = []
    notes: list[str] = []
    for path, module in list(model.named_modules()):
        records.extend(_resolve_parametrized(module, path))
        for stored in stored_weights(State(_own_tensors(module))):
            if _resolve_hooked(module, stored, path):
                records.append(replace(_with_hook_options(module, stored), at=_at(path)).record())
                _make_plain(module, _with_hook_options(module, stored))
            else:
                notes.append(f"{_at(path)}{stored.name}: stored as {stored.layout.name}, computed by its own forward")
    return records, notes


def _at(path: str) -> str:
    return f"{path}." if path else ""


def _own_tensors(module: nn.Module) -> dict[str, Tensor]:
    own = {**module._parameters, **module._buffers}
    return {name: value for name, value in own.items() if value is not None}


def _resolve_parametrized(module: nn.Module, path: str) -> Iterator[WeightNormRecord]:
    if not parametrize.is_parametrized(module):
        return
    lists = module.parametrizations
    assert isinstance(lists, nn.ModuleDict)
    for name, found in list(lists.items()):
        steps = list(found.children())
        if len(steps) == 1 and isinstance(steps[0], BoundedWeightNorm):
            yield WeightNormRecord(_at(path) + name, "normexport-bwn", steps[0].axis, float(steps[0].p))
        elif len(steps) == 1 and isinstance(steps[0], _WeightNorm):
            yield WeightNormRecord(_at(path) + name, "torch-parametrized-weight-norm", int(steps[0].dim), 2.0)
            weight = getattr(module, name).detach()
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
            _set_plain(module, name, weight)


def _hooks(module: nn.Module, name: str) -> list[int]:
    """Ids of the pre-forward hooks that write `module.<name>`, found by letting each of them do it once."""
    return [key for key in module._forward_pre_hooks if _written_by(module, name, key) is not None]


def _written_by(module: nn.Module, name: str, key: int) -> Tensor | None:
    """What hook `key` sets the weight to, None if it does not set it; the module is left as it was.

    convNet's hook also rescales v in place, in evaluation too, so parameters are put back.
    """
    before = {each: value.detach().clone() for each, value in _own_tensors(module).items()}
    unwritten = object()
    held = module.__dict__.get(name, unwritten)
    module.__dict__[name] = unwritten
    with torch.no_grad():
        with contextlib.suppress(Exception):  # a hook of another purpose, which needs real inputs
            module._forward_pre_hooks[key](module, (None,))
        for each, value in _own_tensors(module).items():
            value.copy_(before[each])
    written = module.__dict__.get(name, unwritten)
    if held is unwritten:
        module.__dict__.pop(name, None)
    else:
        module.__dict__[name] = held
    return written.detach() if isinstance(written, Tensor) else None


def _with_hook_options(module: nn.Module, stored: StoredWeight) -> StoredWeight:
    """`stored` with the axis and p that the hook object carries."""
    for key in _hooks(module, stored.name):
        hook = module._forward_pre_hooks[key]
        if stored.layout.name in _WITH_P and isinstance(getattr(hook, "p", None), (int, float)):
            stored = replace(stored, p=float(hook.p))  # type: ignore[attr-defined]  # getattr above found it
        if hasattr(hook, "dim"):
            whole = hook.dim is None or (hook.dim == -1 and stored.layout.name == "torch-weight-norm")
            stored = replace(stored, axis=-1 if whole else int(hook.dim) % stored.v.dim())
    return stored


def _resolve_hooked(module: nn.Module, stored: StoredWeight, path: str) -> bool:
    """Whether hooks compute this weight, and as the layout says; False where the layer's forward does it."""
    hooks = _hooks(module, stored.name)
    if not hooks:
        return False
    stored = _with_hook_options(module, stored)
    computed, expected = _written_by(module, stored.name, hooks[-1]), stored.weight()
    assert computed is not None
    require_finite({_at(path) + stored.name: expected})  # a slice of v that is all zero has no direction
    tolerance = _ROUNDINGS * torch.finfo(computed.dtype).eps
    error, size = (float(each.abs().max()) for each in (computed.to(torch.float64) - expected, expected))
    if not error <= tolerance * size:
        relative = error / size if size else error
        raise CheckpointError(
            f"{_at(path)}{stored.name}",
            f"its layer computes another weight than {stored.layout.name} means (relative error {relative:.1e})",
            "resolve the weight before saving, or save with torch.export.save",
        )
    return True


def _make_plain(module: nn.Module, stored: StoredWeight) -> None:
    weight = stored.weight().to(stored.v.dtype)
    for key in _hooks(module, stored.name):
        del module._forward_pre_hooks[key]
    for own in stored.stored_keys():
        module._parameters.pop(own, None)
        module._buffers.pop(own, None)
    _set_plain(module, stored.name, weight)


def _set_plain(module: nn.Module, name: str, weight: Tensor) -> None:
    for place in (module.__dict__, module._parameters, module._buffers):
        place.pop(name, None)
    module.register_parameter(name, nn.Parameter(weight, requires_grad=False))
