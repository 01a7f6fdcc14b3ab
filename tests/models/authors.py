"""Small networks with the layouts of the models that these norms and quantised layers were published with.

Every builder takes what makes a convolution (in, out, kernel, options), a norm (channels) and a Linear (in, out).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Make = Callable[..., Any]


class Residual(nn.Module):
    """Two or three convolutions with norms around a shortcut; grouped in ResNeXt."""

    def __init__(self, conv: Make, norm: Make, inside: int, planes: int, stride: int, groups: int, deep: bool) -> None:
        super().__init__()
        middle, outside = planes, planes * 2 if deep else planes
        self.conv1, self.bn1 = (
            conv(inside, middle, 1 if deep else 3, padding=0 if deep else 1, bias=False),
            norm(middle),
        )
        self.conv2 = conv(middle, middle, 3, stride=stride, padding=1, groups=groups, bias=False)
        self.bn2 = norm(middle)
        self.conv3 = conv(middle, outside, 1, bias=False) if deep else None
        self.bn3 = norm(outside) if deep else None
        self.relu = nn.ReLU(inplace=True)
        changes = stride != 1 or inside != outside
        shortcut = [conv(inside, outside, 1, stride=stride, bias=False), norm(outside)] if changes else []
        self.downsample = nn.Sequential(*shortcut) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.conv3 is not None and self.bn3 is not None:
            y = self.bn3(self.conv3(self.relu(y)))
        y += residual
        return self.relu(y)


class Head(nn.Module):
    """Features, their mean over space, a Linear."""

    def __init__(self, features: nn.Module, fc: nn.Module) -> None:
        super().__init__()
        self.features, self.avgpool, self.fc = features, nn.AdaptiveAvgPool2d(1), fc

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(torch.flatten(self.avgpool(self.features(x)), 1))
        return y


def _stem(conv: Make, norm: Make, channels: int = 8) -> list[nn.Module]:
    return [conv(3, channels, 3, padding=1, bias=False), norm(channels), nn.ReLU(inplace=True)]


def resnet(conv: Make, norm: Make, linear: Make) -> nn.Module:
    blocks = [Residual(conv, norm, 8, 8, 1, 1, False), Residual(conv, norm, 8, 16, 2, 1, False)]
    return Head(nn.Sequential(*_stem(conv, norm), *blocks), linear(16, 10))


def bottlenecks(conv: Make, norm: Make, linear: Make) -> nn.Module:
    blocks = [Residual(conv, norm, 8, 8, 1, 1, True), Residual(conv, norm, 16, 8, 2, 1, True)]
    return Head(nn.Sequential(*_stem(conv, norm), *blocks), linear(16, 10))


def resnext(conv: Make, norm: Make, linear: Make) -> nn.Module:
    blocks = [Residual(conv, norm, 8, 8, 1, 4, True), Residual(conv, norm, 16, 16, 2, 4, True)]
    return Head(nn.Sequential(*_stem(conv, norm), *blocks), linear(32, 10))


def vgg(conv: Make, norm: Make, linear: Make) -> nn.Module:
    """Convolutions with biases, max-pooling, a classifier of two layers."""
    layers = [conv(3, 8, 3, padding=1), norm(8), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    layers += [conv(8, 16, 3, padding=1), norm(16), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    classifier = [linear(16 * 9, 24), nn.ReLU(inplace=True), nn.Dropout(), linear(24, 10)]
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(3), nn.Flatten(), *classifier)


def mobilenet(conv: Make, norm: Make, linear: Make) -> nn.Module:
    """Depthwise and pointwise convolutions."""
    layers = _stem(conv, norm)
    for inside, outside, stride in ((8, 16, 1), (16, 16, 2)):
        layers += [conv(inside, inside, 3, stride=stride, padding=1, groups=inside, bias=False), norm(inside)]
        layers += [nn.ReLU6(inplace=True), conv(inside, outside, 1, bias=False), norm(outside), nn.ReLU6(inplace=True)]
    return Head(nn.Sequential(*layers), linear(16, 10))


class Dense(nn.Module):
    """Norm, ReLU and convolution, whose output goes on beside its input."""

    def __init__(self, conv: Make, norm: Make, inside: int, growth: int) -> None:
        super().__init__()
        self.norm, self.relu, self.conv = norm(inside), nn.ReLU(), conv(inside, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(self.relu(self.norm(x)))], 1)


def densenet(conv: Make, norm: Make, linear: Make) -> nn.Module:
    transition = [norm(16), nn.ReLU(), conv(16, 8, 1, bias=False), nn.AvgPool2d(2)]
    blocks = [Dense(conv, norm, 8, 4), Dense(conv, norm, 12, 4), *transition, Dense(conv, norm, 8, 4)]
    return Head(nn.Sequential(*_stem(conv, norm), *blocks, norm(12), nn.ReLU()), linear(12, 10))


class Inception(nn.Module):
    """Four branches side by side, one of them pooled."""

    def __init__(self, conv: Make, norm: Make, inside: int) -> None:
        super().__init__()

        def block(first: int, last: int, kernel: int) -> list[nn.Module]:
            return [conv(first, last, kernel, padding=kernel // 2, bias=False), norm(last), nn.ReLU(inplace=True)]

        self.one = nn.Sequential(*block(inside, 4, 1))
        self.three = nn.Sequential(*block(inside, 4, 1), *block(4, 4, 3))
        self.five = nn.Sequential(*block(inside, 4, 1), *block(4, 4, 5))
        self.pooled = nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), *block(inside, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pooled(x)], 1)


def inception(conv: Make, norm: Make, linear: Make) -> nn.Module:
    blocks = [Inception(conv, norm, 8), nn.MaxPool2d(2), Inception(conv, norm, 16)]
    return Head(nn.Sequential(*_stem(conv, norm), *blocks), linear(16, 10))


NETWORKS: dict[str, Make] = {
    each.__name__: each for each in (resnet, bottlenecks, resnext, vgg, mobilenet, densenet, inception)
}


def trained(network: nn.Module, seed: int = 0) -> nn.Module:
    """A few steps forward in training, from which norms and observers take their statistics, then evaluation."""
    torch.manual_seed(seed)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(8, 3, 12, 12) + 0.3)
    return network.eval()
