"""Layers of others that quantise while they compute: their grids read from buffers, their weights from their own code.

An observer is a module without children that keeps the range of its input, as `running_min` and `running_max` or as
`running_zero_point` and `running_range`, one number each, and rounds to 2^num_bits points of it. A quantised layer is a
subclass of a convolution or Linear that owns one. What replaces them is compared with their own forward in float64, its
noise off (stochastic rounding takes the nearest); what differs keeps its own forward.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from normexport.checkpoint.without_noise import WithoutNoise
from normexport.nn.uniform_quantizer import UniformQuantizer, quantized_layer

#: Both sides are float64; a layer that computes twice and subtracts (two precisions of gradients) rounds a little.
_TOLERANCE = 1e-9
_LAYERS: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CALLS = (F.linear, F.conv1d, F.conv2d, F.conv3d)
_RANGES = (("running_min", "running_max"), ("running_zero_point", "running_range"))


def is_observer(module: nn.Module) -> bool:
    """Whether a module keeps one range of its input, and nothing else that it computes with."""
    return not module._modules and not module._parameters and _range_of(module) is not None


def observers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every observer of `model` with its path."""
    yield from ((path, module) for path, module in model.named_modules() if is_observer(module))


def quantizer_of(
    observer: nn.Module, dtype: torch.dtype = torch.float32, unquantised: bool = False
) -> nn.Module | None:
    """What computes the same: a quantiser, or nothing where it only measures; None where it does something else.

    With `unquantised` nothing stands for a quantiser too.
    """
    span = _range_of(observer)
    if span is None or not is_observer(observer):
        return None
    low, width = span
    bits = getattr(observer, "num_bits", 8)
    if type(bits) is not int or not 2 <= bits <= 16:
        return None
    x = low + (width or 1.0) * torch.linspace(-0.3, 1.3, 240, dtype=torch.float64)
    for shape in ((4, 3, 4, 5), (4, 60), (4, 3, 20), (2, 3, 2, 4, 5)):
        own = _run(observer, x.reshape(shape))
        if own is None or own.shape != torch.Size(shape):
            continue
        if torch.equal(own, x.reshape(shape)):
            return nn.Identity()
        exact = UniformQuantizer(low, width, bits, torch.float64)(x.reshape(shape)) if width > 0 else None
        is_same = exact is not None and bool((own - exact).abs().max() <= _TOLERANCE * (width + abs(low)))
        if not is_same:
            return None
        return nn.Identity() if unquantised else UniformQuantizer(low, width, bits, dtype)
    return None


def plain_layer(module: nn.Module) -> nn.Module | None:
    """The torch layer that a quantised one is behind its observer, with the weight and bias that it computes with.

    None where it owns no observer, or computes something else.
    """
    base = next((kind for kind in _LAYERS if isinstance(module, kind)), None)
    child = _only_observer(module)
    if base is None or child is None or type(module).forward is base.forward:
        return None
    x = _input_of(module)
    seen = _Seen()
    with seen:
        own = _run(module, x, without=child)
    if own is None or seen.weight is None:
        return None
    layer = _like(module, base, seen.weight, seen.bias)
    for sample in (x, 40 * x.flip(0)):
        expected = _run(module, sample, without=child)
        got = layer(sample)
        if expected is None or not torch.allclose(got, expected, rtol=0, atol=_TOLERANCE * float(got.abs().max())):
            return None
    return layer.to(module_dtype(module)).eval().requires_grad_(False)


def unquantised_layer(module: nn.Module) -> nn.Module | None:
    """The torch layer with the weights as they are stored; None as for `plain_layer`."""
    layer = plain_layer(module)
    if layer is None:
        return None
    for name, value in module._parameters.items():
        if value is not None:
            layer.get_parameter(name).copy_(value)
    return layer


def replacement(module: nn.Module, keeps: bool) -> nn.Module | None:
    """What stands for a quantised layer: quantiser and plain layer, or without `keeps` the unquantised layer alone."""
    child = _only_observer(module)
    if child is None:
        return None
    if not keeps:
        return unquantised_layer(module)
    quantizer, layer = quantizer_of(module.get_submodule(child), module_dtype(module)), plain_layer(module)
    return None if quantizer is None or layer is None else quantized_layer(quantizer, layer)


def module_dtype(module: nn.Module) -> torch.dtype:
    """The type of a module's first parameter, float32 where it has none."""
    return next((value.dtype for value in module.parameters()), torch.float32)


def _only_observer(module: nn.Module) -> str | None:
    """The name of the child that observes, where there is no other child."""
    names = list(module._modules)
    child = module._modules[names[0]] if len(names) == 1 else None
    return names[0] if child is not None and is_observer(child) else None


def _range_of(module: nn.Module) -> tuple[float, float] | None:
    for low, high in _RANGES:
        first, second = module._buffers.get(low), module._buffers.get(high)
        if first is not None and second is not None and first.numel() == second.numel() == 1:
            start, end = float(first), float(second)
            return start, end - start if high == "running_max" else end
    return None


class _Seen(TorchFunctionMode):
    """The weight and bias of the calls of a convolution or Linear; None where there is none, or they differ."""

    weight: Tensor | None = None
    bias: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _CALLS:
            given = {**dict(zip(("input", "weight", "bias"), args, strict=False)), **(kwargs or {})}
            self.weight = given["weight"].detach().clone()
            bias = given.get("bias")
            self.bias = None if bias is None else bias.detach().clone()
        return func(*args, **(kwargs or {}))


def _run(module: nn.Module, x: Tensor, without: str = "") -> Tensor | None:
    """What a float64 copy computes in evaluation, its noise off, without its observer; None where it does not run."""
    try:
        with torch.no_grad():
            probe = copy.deepcopy(module).double().eval()
            if without:
                probe._modules[without] = nn.Identity()
            with WithoutNoise():
                result = probe(x.clone())
    except Exception:  # a layer's own code can raise anything
        return None
    return result if isinstance(result, Tensor) else None


def _input_of(module: nn.Module) -> Tensor:
    """Two samples that a layer takes, just large enough for two positions of a kernel."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(module, nn.Linear):
        return torch.randn((2, module.in_features), generator=generator, dtype=torch.float64)
    assert isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    sizes = module.kernel_size, module.dilation, module.stride
    space = ((size - 1) * spread + 1 + step for size, spread, step in zip(*sizes, strict=True))
    return torch.randn((2, module.in_channels, *space), generator=generator, dtype=torch.float64)


def _like(module: Any, base: type[nn.Module], weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A layer of torch's own class with the options of `module`, float64."""
    if base is nn.Linear:
        layer: Any = nn.Linear(module.in_features, module.out_features, bias is not None)
    else:
        options = ("stride", "padding", "dilation", "groups", "padding_mode")
        named = {name: getattr(module, name) for name in options}
        layer = cast(Any, base)(
            module.in_channels, module.out_channels, module.kernel_size, bias=bias is not None, **named
        )
    layer.double().eval().requires_grad_(False)
    layer.weight.copy_(weight.reshape(layer.weight.shape))
    if bias is not None:
        layer.bias.copy_(bias.reshape(layer.bias.shape))
    return cast(nn.Module, layer)
