"""Norms with running statistics as PyTorch code spells them, each of four channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

C = 4


class _Buffers(nn.Module):
    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean"):
            self.register_buffer(name, torch.randn(C))
        self.register_buffer("running_var", torch.rand(C) + 0.5)

    def row(self, name: str) -> Tensor:
        value: Tensor = getattr(self, name)
        return value.reshape(1, -1, 1, 1)


class Frozen(_Buffers):
    """As torchvision's FrozenBatchNorm2d."""

    def forward(self, x: Tensor) -> Tensor:
        scale = self.row("weight") * (self.row("running_var") + 1e-5).rsqrt()
        return x * scale + (self.row("bias") - self.row("running_mean") * scale)


class Renormalised(_Buffers):
    """Batch renormalisation at inference."""

    def forward(self, x: Tensor) -> Tensor:
        y = (x - self.running_mean[None, :, None, None]) / torch.sqrt(self.running_var[None, :, None, None] + 1e-5)
        return torch.addcmul(self.row("bias"), y, self.row("weight"))


class Addcdiv(_Buffers):
    def forward(self, x: Tensor) -> Tensor:
        return torch.addcdiv(self.row("bias"), x - self.row("running_mean"), self.row("running_var").sqrt(), value=0.5)


class Chunked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parameters_in_one = nn.Parameter(torch.rand(4 * C) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        mean, variance, gamma, beta = (part.view(1, -1, 1, 1) for part in self.parameters_in_one.chunk(4))
        return (x - mean) / variance.sqrt() * gamma + beta


class Stacked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stack = nn.Parameter(torch.rand(4, C) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        mean, variance, gamma, beta = (row[:, None, None] for row in self.stack.unbind(0))
        return (x - mean) * variance.clamp(min=1e-3).rsqrt() * gamma + beta


class ActNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.log_scale, self.shift = nn.Parameter(torch.randn(1, C, 1, 1)), nn.Parameter(torch.randn(1, C, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.shift) * torch.exp(self.log_scale)


class OfPixels(nn.Module):
    """BatchNorm1d of all pixels as rows of a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(C)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y: Tensor = self.norm(x.permute(0, 2, 3, 1).reshape(-1, c))
        return y.view(n, h, w, c).permute(0, 3, 1, 2)


class InFloat32(_Buffers):
    """x.float(), statistics expanded to x, and back to its type."""

    def forward(self, x: Tensor) -> Tensor:
        y = (x.to(self.weight.dtype) - self.row("running_mean").expand_as(x)) / (self.row("running_var") + 1e-5)
        return (y * self.row("weight") + self.row("bias")).type_as(x)


class OfRows(_Buffers):
    def forward(self, x: Tensor) -> Tensor:
        n, c = x.shape[:2]
        y = x.reshape(n, c, -1) - self.running_mean[:, None]
        return (y * torch.pow(self.running_var[:, None] + 1e-5, -0.5)).view_as(x)


class ChannelsLast(_Buffers):
    def forward(self, x: Tensor) -> Tensor:
        y = (x.movedim(1, -1) - self.running_mean) / torch.sqrt(self.running_var)
        return (y * torch.sigmoid(self.weight) + self.bias).movedim(-1, 1)


class LayerScale(_Buffers):
    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,c->nchw", x, self.weight) + self.bias[:, None, None]


class Functional(_Buffers):
    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.1, 1e-3)


class StandardisedByBatchNorm(nn.Conv2d):
    """As timm's StdConv2d."""

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.reshape(1, self.out_channels, -1)
        weight = functional.batch_norm(rows, None, None, training=True, momentum=0.0, eps=1e-6)
        return functional.conv2d(x, weight.reshape_as(self.weight), self.bias)


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        centred = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        weight = centred / (centred.flatten(1).std(dim=1).view(-1, 1, 1, 1) + 1e-5)
        return functional.conv2d(x, weight, self.bias)


NORMS: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm": lambda: nn.BatchNorm2d(C),
    "BatchNorm without scale and shift": lambda: nn.BatchNorm2d(C, affine=False),
    "InstanceNorm": lambda: nn.InstanceNorm2d(C, affine=True, track_running_stats=True),
    "Frozen": Frozen,
    "Renormalised": Renormalised,
    "Addcdiv": Addcdiv,
    "Chunked": Chunked,
    "Stacked": Stacked,
    "ActNorm": ActNorm,
    "OfPixels": OfPixels,
    "InFloat32": InFloat32,
    "OfRows": OfRows,
    "ChannelsLast": ChannelsLast,
    "LayerScale": LayerScale,
    "Functional": Functional,
    "BatchNorm behind a standardised convolution": lambda: nn.BatchNorm2d(C),
    "BatchNorm behind StdConv": lambda: nn.BatchNorm2d(C),
    "BatchNorm behind weight norm": lambda: nn.BatchNorm2d(C),
}
_CONVOLUTIONS: dict[str, Callable[[], Any]] = {
    "BatchNorm behind a standardised convolution": lambda: Standardised(2, C, 3),
    "BatchNorm behind StdConv": lambda: StandardisedByBatchNorm(2, C, 3),
    "BatchNorm behind weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(2, C, 3)),
}


def convolution(name: str) -> nn.Module:
    """The convolution before the norm of this name."""
    made: nn.Module = _CONVOLUTIONS.get(name, lambda: nn.Conv2d(2, C, 3))()
    return made


def fill(module: nn.Module) -> None:
    """Let running statistics and parameters of PyTorch's own norms be those of a trained network."""
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d)):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            if part.affine:
                part.weight.data.normal_()
                part.bias.data.normal_()
