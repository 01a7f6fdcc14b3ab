"""`FakeQuantizer`: the integers that a network was trained to be computed in."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from normexport.nn.ops import call, fake_quantize


class FakeQuantizer(nn.Module):
    """Rounds to the numbers that integers `low` to `high` stand for, and cuts off what lies beyond; inference only.

    x and y of one shape, any floating type: y = (clamp(round(x/scale) + zero_point, low, high) - zero_point)*scale.
    Exported as QuantizeLinear and DequantizeLinear.

    Args:
        scale, zero_point: () or (1,): one for all; (C,) with an axis: one for each channel. Integers in zero_point.
        low, high: the integers, ends included.
        axis: where the channels lie; None: one scale for all.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, scale: Tensor, zero_point: Tensor, low: int, high: int, axis: int | None = None) -> None:
        super().__init__()
        self.low, self.high, self.axis = low, high, axis
        shape = () if axis is None else (-1,)
        self.register_buffer("scale", scale.detach().clone().float().reshape(shape))
        self.register_buffer("zero_point", zero_point.detach().clone().to(torch.int64).reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        """x -> y like x."""
        axis = -1 if self.axis is None else self.axis % x.dim()
        y: Tensor = call(fake_quantize, x, self.scale, self.zero_point, self.low, self.high, axis)
        return y


class QuantizedWeight(nn.Module):
    """A layer whose weight a quantiser rounds first.

    Args:
        layer: with a parameter `weight`, called with one tensor.
        weight_quantizer: weight -> weight.
    """

    def __init__(self, layer: nn.Module, weight_quantizer: nn.Module) -> None:
        super().__init__()
        self.layer, self.weight_quantizer = layer, weight_quantizer

    def forward(self, x: Tensor) -> Tensor:
        """x -> y of the layer."""
        weight = self.weight_quantizer(self.layer.weight)
        y: Tensor = torch.func.functional_call(self.layer, {"weight": weight}, (x,))
        return y
