"""Small networks, with layers that are scale invariant and layers that are not, a problem, and a recording of none."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from normexport.nn import L2BatchNorm2d
from normexport.train import ChannelNorms


def convnet(norm: Any = L2BatchNorm2d, channels: int = 6) -> Any:
    """Two convolutions with norms, one with a bias that its norm takes off, and a Linear; float64."""
    return nn.Sequential(
        nn.Conv2d(2, channels, 3, bias=False), norm(channels), nn.ReLU(),
        nn.Conv2d(channels, channels, 3), norm(channels), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 2),
    ).double()  # fmt: skip


def stripes() -> tuple[Tensor, Tensor]:
    """Images (32, 2, 8, 8) float64 whose class is which of two stripes is brighter."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 2, 8, 8, generator=generator, dtype=torch.float64) + 5
    labels = torch.arange(32) % 2
    x[labels == 1, 0, :, :4] += 2
    x[labels == 0, 1, :, 4:] += 2
    return x, labels


def loss_of(model: nn.Module) -> Tensor:
    x, labels = stripes()
    return functional.cross_entropy(model(x), labels)


def groups(model: Any, decay: float) -> list[dict[str, Any]]:
    """The two convolutions' weights with a decay, and all other parameters without one."""
    hot = [model[0].weight, model[3].weight]
    rest = [each for each in model.parameters() if all(each is not weight for weight in hot)]
    return [{"params": hot, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]


def recording(steps: int, seed: int = 0, channels: int = 6, decay: float = 0.0) -> ChannelNorms:
    """Norms of the two convolutions as no run had them."""
    rows = np.random.default_rng(seed).uniform(0.3, 2, (steps, 2 * channels))
    return ChannelNorms("made up", {"0": channels, "3": channels}, rows, {"0": decay, "3": decay})


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
