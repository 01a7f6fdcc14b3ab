"""Evaluation-only norm layers that compute what the original training projects' layers compute.

Each keeps its running statistics under the keys and in the meaning of its project and applies them with
the same elementwise operations, on views of shape (1, C, 1, 1), so that an export of these modules has the
nodes that an export of the original layer has.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def per_channel(value: Tensor) -> Tensor:
    """(C,) -> (1, C, 1, 1), which broadcasts along axis 1 of (N, C, H, W)."""
    return value.view(1, -1, 1, 1)


class NaiveL1BatchNorm2d(nn.Module):
    """norm_matters, lp_norm.py: y = (x - running_mean) * running_var * scale + mean.

    `running_var` (C,) is the average of 1/d, a multiplier; `scale` is gamma and `mean` is beta.
    Exports as Sub, Mul, Mul, Add.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(num_features))
        self.scale = nn.Parameter(torch.ones(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.zeros(num_features))

    def forward(self, x: Tensor) -> Tensor:
        normal = (x - per_channel(self.running_mean)) * per_channel(self.running_var)
        return normal * per_channel(self.scale) + per_channel(self.mean)


class NaiveScaleL1BatchNorm2d(nn.Module):
    """norm_matters, mean_bn.py, L1BatchNorm: y = (x - running_mean) / running_scale * weight + bias.

    `running_scale` (C,) is a divisor, used without an epsilon. Exports as Sub, Div, Mul, Add.
    """

    running_mean: Tensor
    running_scale: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_scale", torch.zeros(num_features))

    def forward(self, x: Tensor) -> Tensor:
        normal = (x - per_channel(self.running_mean)) / per_channel(self.running_scale)
        return normal * per_channel(self.weight) + per_channel(self.bias)


class NaiveMeanBN(nn.Module):
    """norm_matters, mean_bn.py, MeanBN: y = x - running_mean + bias. Exports as Sub, Add."""

    running_mean: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))

    def forward(self, x: Tensor) -> Tensor:
        return x - per_channel(self.running_mean) + per_channel(self.bias)
