"""Norms that are computed in float16 or bfloat16 throughout, as their formula reads, and norms that are only given it.

The convolutions stay float32, so that whatever goes wrong is the norm's doing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

#: Of a normal distribution: standard deviation over mean absolute deviation.
L1_CONSTANT = math.sqrt(math.pi / 2)


class FormulaNorm(nn.Module):
    """`weight * d / divisor + bias` with d = x - mean, every intermediate rounded to one type; (N, C, H, W) float32.

    The divisor is sqrt(mean(d*d) + eps) for "l2", and sqrt(pi/2)*mean|d| + eps for "l1". Means are summed in float32
    and rounded, as GPUs do it (on the CPU PyTorch's own `mean` rounds the sum, which is soon beyond float16): it is the
    elements of d*d that leave the range of the type. Statistics are those of the batch in evaluation too: running ones
    start at 1, and are nearer to that than to the truth for long where activations are far from it.
    """

    def __init__(self, channels: int, kind: str, eps: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.kind, self.eps, self.dtype = kind, eps, dtype
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, input: Tensor) -> Tensor:
        x = input.to(self.dtype)
        d = x - self._mean(x)
        statistic = self._mean(d * d if self.kind == "l2" else L1_CONSTANT * d.abs())
        divisor = (statistic + self.eps).sqrt() if self.kind == "l2" else statistic + self.eps
        weight, bias = (each.to(self.dtype).reshape(1, -1, 1, 1) for each in (self.weight, self.bias))
        y: Tensor = weight * (d / divisor) + bias
        return y.float()

    def _mean(self, elements: Tensor) -> Tensor:
        return elements.mean((0, 2, 3), keepdim=True, dtype=torch.float32).to(self.dtype)


class GivenNorm(nn.Module):
    """A norm whose input and output have a type, and whose statistics are its own matter."""

    def __init__(self, norm: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm, self.dtype = norm, dtype

    def forward(self, input: Tensor) -> Tensor:
        y: Tensor = self.norm(input.to(self.dtype))
        return y.float()
