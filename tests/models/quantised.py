"""Layers that quantise while they compute, with the buffers and the arithmetic of two public projects.

Both round to 2^bits points between a low and a high number, halves to even. The older one keeps `running_min` and
`running_max`, rounds weights per tensor, the activations at random, also in evaluation; the newer one keeps
`running_zero_point` and `running_range` and rounds weights per output channel.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Rounding(torch.autograd.function.InplaceFunction):
    """Fake quantisation whose gradient is that of y = x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Any, span: Any, bits: int, at_random: bool, in_place: bool) -> Tensor:
        if in_place:
            ctx.mark_dirty(x)
        y = x if in_place else x.clone()
        top = 2.0**bits - 1
        step = span / top
        y.add_(-low).div_(step)
        if at_random:
            y.add_(y.new(y.shape).uniform_(-0.5, 0.5))
        return y.clamp_(0, top).round_().mul_(step).add_(low)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0], None, None, None, None, None


class GradRounding(torch.autograd.function.InplaceFunction):
    """Would round gradients; hands on its input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0]


def rounded(x: Tensor, low: Any, span: Any, bits: int, at_random: bool = False, in_place: bool = False) -> Tensor:
    return Rounding.apply(x, low, span, bits, at_random, in_place)  # type: ignore[no-untyped-call]  # PyTorch's apply


class MinMaxMeasure(nn.Module):
    """The older observer: rounds at random."""

    running_min: Tensor
    running_max: Tensor

    def __init__(self, num_bits: int = 8, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum, self.num_bits = momentum, num_bits
        self.register_buffer("running_min", torch.zeros(1))
        self.register_buffer("running_max", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        low, high = self.running_min, self.running_max
        if self.training:
            rows = x.detach().reshape(x.size(0), -1)
            low, high = rows.min(-1)[0].mean(), rows.max(-1)[0].mean()
            for buffer, value in ((self.running_min, low), (self.running_max, high)):
                buffer.mul_(self.momentum).add_(value * (1 - self.momentum))
        return rounded(x, float(low), max(float(high) - float(low), 255e-8), self.num_bits, at_random=True)


class RangeMeasure(nn.Module):
    """The newer observer: rounds to the nearest, in place where it is asked to."""

    running_zero_point: Tensor
    running_range: Tensor

    def __init__(
        self, num_bits: int = 8, shape: tuple[int, ...] = (1,), in_place: bool = False, measure: bool = False
    ) -> None:
        super().__init__()
        self.num_bits, self.in_place, self.measure, self.momentum = num_bits, in_place, measure, 0.1
        self.register_buffer("running_zero_point", torch.zeros(shape))
        self.register_buffer("running_range", torch.zeros(shape))
        if measure:
            self.register_buffer("num_measured", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        low, span = self.running_zero_point, self.running_range
        if self.training:
            rows = x.detach().flatten(1)
            low, span = rows.min(-1)[0].mean(), (rows.max(-1)[0].mean() - rows.min(-1)[0].mean())
            for buffer, value in ((self.running_zero_point, low), (self.running_range, span)):
                buffer.mul_(self.momentum).add_(value * (1 - self.momentum))
        return x if self.measure else rounded(x, low, span, self.num_bits, in_place=self.in_place)


def biprecise(call: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
    """Two products, of which one has gradients of few bits: their values cancel."""
    out1 = call(x.detach(), weight, bias, *options)
    out2 = call(x, weight.detach(), None if bias is None else bias.detach(), *options)
    second: Tensor = GradRounding.apply(out2)  # type: ignore[no-untyped-call]  # PyTorch's apply
    result: Tensor = out1 + second - out1.detach()
    return result


class MinMaxQConv2d(nn.Conv2d):
    """The older convolution: weight and bias per tensor, both of `num_bits`."""

    def __init__(self, *sizes: Any, num_bits: int = 8, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.num_bits = num_bits
        self.quantize_input = MinMaxMeasure(num_bits)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(self.quantize_input(x), *per_tensor(self))


class MinMaxQLinear(nn.Linear):
    def __init__(self, *sizes: Any, num_bits: int = 8) -> None:
        super().__init__(*sizes)
        self.num_bits = num_bits
        self.quantize_input = MinMaxMeasure(num_bits)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.quantize_input(x), *per_tensor(self))


def per_tensor(layer: Any) -> tuple[Tensor, Tensor | None]:
    low, high = float(layer.weight.min()), float(layer.weight.max())
    weight = rounded(layer.weight, low, high - low, layer.num_bits)
    if layer.bias is None:
        return weight, None
    low, high = float(layer.bias.min()), float(layer.bias.max())
    return weight, rounded(layer.bias, low, max(high - low, 1e-8), layer.num_bits)


class RangeQConv2d(nn.Conv2d):
    """The newer convolution: weight per output channel, bias with twice the bits, two products."""

    def __init__(self, *sizes: Any, num_bits: int = 8, biprecision: bool = True, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.num_bits, self.biprecision = num_bits, biprecision
        self.quantize_input = RangeMeasure(num_bits, (1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = per_channel(self)
        options: Any = (self.stride, self.padding, self.dilation, self.groups)
        quantised = self.quantize_input(x)
        if self.biprecision:
            return biprecise(F.conv2d, quantised, weight, bias, *options)
        return F.conv2d(quantised, weight, bias, *options)


class RangeQLinear(nn.Linear):
    def __init__(self, *sizes: Any, num_bits: int = 8) -> None:
        super().__init__(*sizes)
        self.num_bits = num_bits
        self.quantize_input = RangeMeasure(num_bits)

    def forward(self, x: Tensor) -> Tensor:
        return biprecise(F.linear, self.quantize_input(x), *per_channel(self))


def per_channel(layer: Any) -> tuple[Tensor, Tensor | None]:
    rows = layer.weight.flatten(1)
    shape = (-1, *([1] * (layer.weight.dim() - 1)))
    low, high = rows.min(-1)[0].reshape(shape), rows.max(-1)[0].reshape(shape)
    weight = rounded(layer.weight, low, high - low, layer.num_bits)
    if layer.bias is None:
        return weight, None
    low, high = layer.bias.min(), layer.bias.max()
    return weight, rounded(layer.bias, low, high - low, 2 * layer.num_bits)


class RangeBN(nn.Module):
    """Range batch norm of either project: `older` stores 1/d and rounds scale, weight and bias, the newer one d."""

    running_mean: Tensor
    running_var: Tensor
    older = False

    def __init__(self, channels: int, num_chunks: int = 4, eps: float = 1e-5, num_bits: int = 8) -> None:
        super().__init__()
        self.num_chunks, self.eps, self.num_bits, self.momentum = num_chunks, eps, num_bits, 0.1
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.zeros(channels))
        self.weight, self.bias = nn.Parameter(torch.rand(channels) + 0.5), nn.Parameter(torch.zeros(channels))
        self.quantize_input: nn.Module = RangeMeasure(num_bits, (1, 1, 1, 1), in_place=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.quantize_input(x)
        mean, scale = self.running_mean, self.running_var
        if self.training:
            y = x.transpose(0, 1).reshape(x.size(1), self.num_chunks, -1)
            fix = 0.5 * 0.35 * (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(2 * math.log(y.size(-1)))
            mean, scale = y.mean((1, 2)), (y.amax(-1).mean(-1) - y.amin(-1).mean(-1)) * fix
            scale = 1 / (scale + self.eps) if self.older else scale
            for buffer, value in ((self.running_mean, mean), (self.running_var, scale)):
                buffer.mul_(self.momentum).add_(value.detach() * (1 - self.momentum))
        centred = x - mean.reshape(1, -1, 1, 1)
        if not self.older:
            y = centred / (scale.reshape(1, -1, 1, 1) + self.eps)
            return y * self.weight.reshape(1, -1, 1, 1) + self.bias.reshape(1, -1, 1, 1)
        scale, weight, bias = (
            rounded(v, float(v.min()), max(float(v.max() - v.min()), 1e-8), self.num_bits).reshape(1, -1, 1, 1)
            for v in (scale, self.weight, self.bias)
        )
        return centred * scale * weight + bias


class OlderRangeBN(RangeBN):
    older = True

    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(channels, **options)
        self.quantize_input = MinMaxMeasure(self.num_bits)
