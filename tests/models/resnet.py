"""ResNets to export, written here because torchvision cannot be imported on every CPU build of torch.

Bottleneck v1.5 (the stride sits on the 3x3 convolution; Goyal et al. 2017, as in torchvision) with
torchvision's module names, so that tests can speak of `layer1.0.downsample.1`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]

EXPANSION = 4
RESNET50_CONVS = 53
RESNET50_ADDS = 16


class Bottleneck(nn.Module):
    """1x1, 3x3 (strided), 1x1 convolutions without bias, each followed by a norm, around a shortcut."""

    def __init__(self, inplanes: int, planes: int, stride: int, norm: Norm) -> None:
        super().__init__()
        outplanes = planes * EXPANSION
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = norm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = norm(planes)
        self.conv3 = nn.Conv2d(planes, outplanes, 1, bias=False)
        self.bn3 = norm(outplanes)
        self.relu = nn.ReLU()
        self.downsample: nn.Module | None = None
        if stride != 1 or inplanes != outplanes:
            shortcut = nn.Conv2d(inplanes, outplanes, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, norm(outplanes))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inplanes, H, W) -> (N, 4*planes, H/stride, W/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + shortcut)


class ResNet(nn.Module):
    """(N, 3, H, W) -> (N, num_classes); `blocks` bottlenecks in each of four stages."""

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, blocks: Sequence[int], norm: Norm, num_classes: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inplanes = width
        for stage, count in enumerate(blocks):
            planes, layer = width * 2**stage, nn.Sequential()
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                layer.append(Bottleneck(inplanes, planes, stride, norm))
                inplanes = planes * EXPANSION
            self.add_module(f"layer{stage + 1}", layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inplanes, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        y = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            y = stage(y)
        return self.fc(torch.flatten(self.avgpool(y), 1))


def resnet50(norm: Norm = nn.BatchNorm2d, num_classes: int = 1000, width: int = 64) -> ResNet:
    """53 convolutions without bias, 53 norms, 16 residual adds; width 64 is the published network."""
    return ResNet((3, 4, 6, 3), norm, num_classes, width)


def resnet_tiny(norm: Norm = nn.BatchNorm2d, num_classes: int = 10, width: int = 8) -> ResNet:
    """The same shape of network in 17 convolutions of 8 to 256 channels: one bottleneck per stage."""
    return ResNet((1, 1, 1, 1), norm, num_classes, width)


# What a name holds, whatever class holds it. `mean` is a shift as the lp_norm layers' parameter and a centre
# as a buffer; `running_var` is a variance, a divisor or a multiplier: near 1 all of them are plausible.
CENTRE = {"running_mean", "mean"}
SPREAD = {"running_var", "running_scale", "running_mad", "running_maxdev", "inv_scale"}
GAMMA = {"weight", "scale"}
BETA = {"bias", "mean"}


def randomise_statistics(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every norm with running statistics those of a trained one, in place; returns `model`.

    Centres and shifts are N(0, 0.1), spreads U(0.5, 1.5), gammas U(0.2, 0.8) with one in ten negative
    (trained networks have them), so that the signal of a deep residual network neither dies nor explodes.
    A norm is a module that has a `running_mean`, or `inv_scale`, buffer of its own.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        for module in model.modules():
            buffers = dict(module.named_buffers(recurse=False))
            if not {"running_mean", "inv_scale"} & set(buffers):
                continue
            for name, value in buffers.items():
                if name in CENTRE:
                    value.copy_(0.1 * torch.randn(value.shape, generator=generator, dtype=torch.float64))
                elif name in SPREAD:
                    value.copy_(uniform(value, 0.5, 1.5))
            affine = {**buffers, **dict(module.named_parameters(recurse=False))}
            for name, value in affine.items():
                if name in GAMMA:
                    sign = torch.where(uniform(value, 0.0, 1.0) < 0.1, -1.0, 1.0)
                    value.copy_(sign * uniform(value, 0.2, 0.8))
                elif name in BETA and not (name in CENTRE and name in buffers):
                    value.copy_(0.1 * torch.randn(value.shape, generator=generator, dtype=torch.float64))
    return model
