"""Networks that half precision is hard on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from normexport import onnx_export
from normexport.folding import fold
from normexport.nn import L1BatchNorm2d, L1InstanceNorm2d
from normexport.onnx_export import InputSpec

SPEC = InputSpec("input", (3, 12, 12))


def images(count: int = 20, seed: int = 0) -> np.ndarray:
    """Samples of SPEC, normal numbers."""
    return np.random.default_rng(seed).normal(size=(count, *SPEC.shape)).astype(np.float32)


class Stressed(nn.Module):
    """`tiny` has one channel with a running scale of 1e-7: its folded weights overflow float16."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.tiny = L1BatchNorm2d(8, eps=1e-8)
        self.second = nn.Conv2d(8, 8, 3)
        self.norm = L1BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.tiny(self.first(x)))
        x = torch.relu(self.norm(self.second(x)))
        return self.head(x.mean((2, 3)))


def stressed() -> Stressed:
    """Trained statistics but for channel 5 of `tiny`."""
    torch.manual_seed(0)
    model = Stressed()
    for _ in range(3):
        model(torch.randn(8, *SPEC.shape))
    with torch.no_grad():
        for name, buffer in model.tiny.named_buffers():
            if name == "running_scale":
                buffer[5] = 1e-7
    return model.eval()


class Growing(nn.Module):
    """Weights that fit, activations that do not: `grow` multiplies by some 10,000, `shrink` divides again."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.grow = nn.Conv2d(4, 4, 1)
        self.shrink = nn.Conv2d(4, 4, 1)
        self.head = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.shrink(self.grow(self.first(x)))))


def growing() -> Growing:
    torch.manual_seed(1)
    model = Growing()
    with torch.no_grad():
        model.grow.weight.mul_(5e4)
        model.shrink.weight.mul_(1e-2)
    return model.eval()


def live(offset: float = 100.0) -> nn.Sequential:
    """64 channels whose tensors have means of `offset`, normed with the statistics of each sample."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(3, 64, 3), L1InstanceNorm2d(64, affine=True), nn.ReLU(), nn.Conv2d(64, 4, 3))
    conv: Any = model[0]
    with torch.no_grad():
        conv.bias.fill_(offset)
    return model.eval()


def centred() -> nn.Sequential:
    return live(0.0)


@cache
def folded(make: Callable[[], nn.Module]) -> tuple[ir.Model, tuple[onnx_export.Layer, ...]]:
    """(folded float32 ONNX model, layers) of the model that `make` makes."""
    exported = onnx_export.export(make(), (SPEC,))
    return fold(exported.model).model, exported.layers
