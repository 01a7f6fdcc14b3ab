"""Fake quantisers of torch.ao's quantisation-aware training, made `FakeQuantizer` with the integers that they hold.

A fake quantiser is a module with `scale`, `zero_point`, `fake_quant_enabled` and an observer; what it rounds, its
module's own code or a hook hands to it, so that only itself is replaced. Its numbers are those that training left: an
observer that is still on would move them at the next batch, and is off here. Each is compared with its own forward on
every integer that it has and some beyond.

    ConvBn, LinearBn, with s = gamma/sqrt(var + eps):
    y = s*(x*fq(W*s)/s + b - mean) + beta = x*fq(W*s) + s*(b - mean) + beta

Their norm is by definition in the weight that is rounded: they become the layer with weight W*s, on the same grid.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from normexport.checkpoint.replace_norms import Settled, has_hooks
from normexport.errors import CheckpointError
from normexport.nn.fake_quantizer import FakeQuantizer

_PACKAGES = ("torch.ao.", "torchao.")
_IN_WEIGHTS = "its BatchNorm is in the weights that are rounded, as its class computes it"
_OFF = "its fake quantisation is switched off, as it is in the file"
_ON = "its observer is still on; the range is the one in the file"
_REMEDY = "run some batches through it with its observers on, then save it again"
#: Beyond either end of the integers, in steps, where a fake quantiser is compared with what replaces it.
_BEYOND = 9


def fake_quantisers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Every fake quantiser of torch.ao in `model` with its path."""
    yield from ((path, module) for path, module in model.named_modules() if _is_fake_quantiser(module))


def give_room(model: nn.Module, tensors: dict[str, Tensor] | Any) -> None:
    """Let fake quantisers take ranges by channel: before they have seen a tensor, theirs are of one number."""
    for path, module in fake_quantisers(model):
        for name, buffer in list(module.named_buffers()):
            given = tensors.get(f"{path}.{name}".lstrip("."))
            if given is None or given.shape == buffer.shape or given.dim() > 1:
                continue
            owner = module.get_submodule(name.rpartition(".")[0])
            owner._buffers[name.rpartition(".")[2]] = torch.empty(given.shape, dtype=buffer.dtype)


def replace_fake_quantisers(settled: Settled) -> bool:
    """Replace all of `settled.model`, in place; whether there were any.

    Raises:
        CheckpointError: one has seen no data, or rounds otherwise than it says.
    """
    found = list(fake_quantisers(settled.model))
    for path, module in list(settled.model.named_modules()):
        if _is_fused(module):
            _take_in_norm(path, module)
            settled.remark(path, _IN_WEIGHTS)
    replaced = {id(module): _replacement(settled, path, module) for path, module in found}
    for module in list(settled.model.modules()):
        weight_quantiser = module._modules.get("weight_fake_quant")
        if weight_quantiser is not None and id(weight_quantiser) in replaced:
            _round_weight(settled.model, module, weight_quantiser)
    for _, module in found:
        settled.put(module, replaced[id(module)].eval())
    return bool(found)


def _is_fake_quantiser(module: nn.Module) -> bool:
    known = any(each.__module__.startswith(_PACKAGES) for each in type(module).__mro__[:-2])
    return known and "fake_quant_enabled" in module._buffers and hasattr(module, "zero_point")


def _replacement(settled: Settled, path: str, module: Any) -> nn.Module:
    if has_hooks(module):
        settled.doubt(path, "its hooks are left out with the fake quantiser that it is replaced by")
    if not bool(module.fake_quant_enabled[0]):
        settled.remark(path, _OFF)
        return nn.Identity()
    if bool(module._buffers.get("observer_enabled", torch.zeros(1))[0]):
        settled.remark(path, _ON)
    scale, zero = module.scale.detach().float(), module.zero_point.detach()
    observed = module._modules.get("activation_post_process")
    place = path or "the model"
    if not _has_seen(observed):
        raise CheckpointError(place, "has ranges of no data: its observer has seen none", _REMEDY)
    if not torch.isfinite(scale).all() or not bool((scale > 0).all()):
        raise CheckpointError(place, "has a scale that is no positive number", _REMEDY)
    if not torch.equal(zero, zero.round()):
        cause = "has zero points that are no integers"
        raise CheckpointError(place, cause, "give the float model with --unquantised, and calibrate on data")
    # The observer's ends are the ones that `forward` rounds to where the module has others.
    low, high = (int(getattr(observed, name, None) or getattr(module, name)) for name in ("quant_min", "quant_max"))
    axis = int(module.ch_axis) if bool(getattr(module, "is_per_channel", scale.numel() > 1)) else None
    found = FakeQuantizer(scale, zero, low, high, axis)
    if not _computes_alike(module, found):
        raise CheckpointError(place, "rounds otherwise than its scale and zero point say", "give its float weights")
    return found


def _has_seen(observer: nn.Module | None) -> bool:
    """Whether an observer that keeps a range has one; those of fixed ranges keep none."""
    low = None if observer is None else observer._buffers.get("min_val")
    return low is None or (low.numel() > 0 and bool(torch.isfinite(low).all()))


def _computes_alike(module: nn.Module, ours: FakeQuantizer) -> bool:
    """Whether both give the same numbers, a third of a step off every integer."""
    own: Any = copy.deepcopy(module).float().eval()
    if "observer_enabled" in own._buffers:
        own.disable_observer()
    levels = torch.arange(ours.low - _BEYOND, ours.high + _BEYOND + 1, dtype=torch.float32)
    scale, zero = ours.scale.reshape(-1, 1), ours.zero_point.reshape(-1, 1)
    x = (levels + 0.3 - zero) * scale
    if ours.axis is not None:
        x = x.reshape(*[-1 if each == ours.axis else 1 for each in range(max(ours.axis + 1, 1))], len(levels))
    with torch.no_grad():
        return torch.allclose(own(x), ours(x), rtol=1e-6, atol=0.0)


def _is_fused(module: nn.Module) -> bool:
    """Whether it is a ConvBn or LinearBn of torch.ao: a layer that owns the norm behind it."""
    return type(module) in _unfused() and isinstance(module._modules.get("bn"), nn.modules.batchnorm._BatchNorm)


def _unfused() -> dict[type[nn.Module], type[nn.Module]]:
    """The classes of layers that own their norm, each with that of the same layer without."""
    from torch.ao.nn import qat
    from torch.ao.nn.intrinsic import qat as fused

    pairs: dict[Any, Any] = {
        fused.ConvBn1d: qat.Conv1d,
        fused.ConvBn2d: qat.Conv2d,
        fused.ConvBn3d: qat.Conv3d,
        fused.ConvBnReLU1d: getattr(fused, "ConvReLU1d", None),
        fused.ConvBnReLU2d: fused.ConvReLU2d,
        fused.ConvBnReLU3d: fused.ConvReLU3d,
        fused.LinearBn1d: qat.Linear,
    }
    return {before: after for before, after in pairs.items() if after is not None}


def _take_in_norm(path: str, module: Any) -> None:
    """Make a ConvBn the layer whose weight its own code rounds, in place."""
    norm = module.bn
    if norm.running_var is None:
        raise CheckpointError(path, "has a BatchNorm without running statistics", "train it with them")
    std = torch.sqrt(norm.running_var + norm.eps)
    scale = norm.weight / std
    with torch.no_grad():
        weight = module.weight * scale.reshape(-1, *[1] * (module.weight.dim() - 1))
        before = torch.zeros_like(norm.bias) if module.bias is None else module.bias
        shift = (before.double() - norm.running_mean.double()) * scale.double() + norm.bias.double()
    del module._modules["bn"]
    module.__class__ = _unfused()[type(module)]
    module.weight = nn.Parameter(weight, requires_grad=False)
    module.bias = nn.Parameter(shift.to(weight.dtype), requires_grad=False)


def _round_weight(model: nn.Module, module: Any, quantiser: Any) -> None:
    """Let a weight be what its fake quantiser makes of it in float32, as in training: ours leaves that as it is.

    Where W/scale comes near a half, float64 would choose the other integer. A weight that others read stays.
    """
    weight = module._parameters.get("weight")
    readers = [each for each in model.modules() if any(value is weight for value in each._parameters.values())]
    is_off = not bool(quantiser.fake_quant_enabled[0])
    if is_off or weight is None or len(readers) != 1 or weight.dtype != torch.float32:
        return
    own = copy.deepcopy(quantiser).eval()
    own.disable_observer()
    with torch.no_grad():
        module.weight = nn.Parameter(own(weight), requires_grad=False)
