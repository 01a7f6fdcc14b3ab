"""Fake quantisation as the two RangeBN projects observe it, written from their formulas."""

from __future__ import annotations

import torch
from torch import nn


def quantize(x: torch.Tensor, bits: int, low: float, high: float, stochastic: bool = False) -> torch.Tensor:
    """Fake quantisation to `bits` between `low` and `high`; `stochastic` adds uniform noise of one step."""
    step = max((high - low) / (2**bits - 1), 1e-8)
    levels = (x - low) / step
    if stochastic:
        levels = levels + torch.rand_like(levels) - 0.5
    return levels.clamp(0, 2**bits - 1).round() * step + low


class QuantMeasure(nn.Module):
    """quantized.pytorch's observer."""

    running_min: torch.Tensor
    running_max: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_min", torch.zeros(1))
        self.register_buffer("running_max", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            for buffer, value in ((self.running_min, x.amin()), (self.running_max, x.amax())):
                buffer.mul_(0.1).add_(value.detach() * 0.9)
        return quantize(x, 8, float(self.running_min), float(self.running_max))


class QuantMeasureRange(nn.Module):
    """convNet.pytorch's observer."""

    running_zero_point: torch.Tensor
    running_range: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_zero_point", torch.zeros(1, 1, 1, 1))
        self.register_buffer("running_range", torch.zeros(1, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            for buffer, value in ((self.running_zero_point, x.amin()), (self.running_range, x.amax() - x.amin())):
                buffer.mul_(0.1).add_(value.detach() * 0.9)
        low = float(self.running_zero_point)
        return quantize(x, 8, low, low + float(self.running_range))
