"""`UniformQuantizer`: the fake quantisation of activations that a network was trained with, on the grid it learned."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from normexport.nn.ops import call, uniform_quantize
from normexport.nn.running import RunningNorm
from normexport.norms import AffineParams


class UniformQuantizer(nn.Module):
    """Rounds to the nearest of 2^bits points from `low` to `low + span`, and cuts off what lies beyond; inference only.

    x and y of one shape, any floating type. Exported as QuantizeLinear and DequantizeLinear.

    Args:
        low, span: the range; span is over 0.
        bits: 2 to 16.
        dtype: of the buffers.
    """

    centre: Tensor
    step: Tensor

    def __init__(self, low: float, span: float, bits: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.bits = bits
        step = span / (2**bits - 1)
        self.register_buffer("centre", torch.tensor(low + 2 ** (bits - 1) * step, dtype=dtype))
        self.register_buffer("step", torch.tensor(step, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """x -> y like x."""
        y: Tensor = call(uniform_quantize, x, self.centre, self.step, self.bits)
        return y


class QuantizedRunningNorm(RunningNorm):
    """A `RunningNorm` of what a quantiser makes of its input."""

    def __init__(self, quantizer: nn.Module, params: AffineParams, kind: str, dtype: torch.dtype) -> None:
        super().__init__(params, kind, dtype)
        self.quantize_input = quantizer

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, *space) -> y like x."""
        return super().forward(self.quantize_input(x))


def quantized_layer(quantizer: nn.Module, layer: nn.Module) -> nn.Sequential:
    """`layer` of what `quantizer` makes of its input."""
    return nn.Sequential(OrderedDict(quantize_input=quantizer, layer=layer))
