"""Ten kinds of networks that people export, four seeds each, as ONNX models with their norms unfolded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor, nn

import normexport
from normexport import nn as nxn


@dataclass(frozen=True)
class Network:
    """A network's name, its ONNX model, and the shapes of one sample as `--input` takes them."""

    name: str
    model: ir.Model
    inputs: tuple[str, ...]


def block(channels: int, width: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """Convolution, norm with statistics as after training, ReLU."""
    made = norm(width)
    for buffer in made.buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), made, nn.ReLU())


class Classifier(nn.Module):
    """Two blocks and a linear layer; the norms of a classifier of the kind that is asked for."""

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(block(3, 8, norm), block(8, 8, norm), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class TwoHeads(nn.Module):
    """Class scores and a value of 33.4 +- 1, from one body."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(block(3, 8, nxn.L1BatchNorm2d), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.scores, self.value = nn.Linear(8, 10), nn.Linear(8, 1)
        self.value.bias.data.fill_(33.4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.body(x)
        return self.scores(y), self.value(y)


class Detector(nn.Module):
    """Boxes in pixels and scores below 1 in one tensor (N, 8, places)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(block(3, 8, nxn.LinfBatchNorm2d), block(8, 8, nn.BatchNorm2d))
        self.boxes, self.scores = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return torch.cat([640 * self.boxes(y).sigmoid(), self.scores(y).sigmoid()], 1).flatten(2)


class Segmentation(nn.Module):
    """The class of each pixel (int64), and the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = block(3, 8, nxn.RangeBatchNorm2d), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.head(self.body(x))
        return y.argmax(1), y


class Attention(nn.Module):
    """One causal block over tokens; the mask is -inf."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.qkv = nn.Embedding(50, 16), nn.Linear(16, 48)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 50)
        self.register_buffer("mask", torch.full((12, 12), float("-inf")).triu(1))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        weights = (q @ k.transpose(1, 2) / 4 + self.mask).softmax(-1)
        return self.head(x + weights @ v)


class UNet(nn.Module):
    """Down, up by interpolation, and a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.low = block(3, 8, nn.BatchNorm2d), block(8, 8, nxn.TopKBatchNorm2d)
        self.last = nn.Conv2d(16, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        low = nn.functional.interpolate(self.low(nn.functional.max_pool2d(first, 2)), scale_factor=2.0)
        return self.last(torch.cat([first, low], 1))


class Tagger(nn.Module):
    """A bidirectional GRU over a sequence of features."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(6, 8, bidirectional=True, batch_first=True), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


class Residual(nn.Module):
    """Four residual blocks, and the gradient-free gate of a squeeze-and-excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 8, nn.BatchNorm2d)
        self.blocks = nn.ModuleList(block(8, 8, nxn.L1BatchNorm2d) for _ in range(4))
        self.gate, self.head = nn.Conv2d(8, 8, 1), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for each in self.blocks:
            y = each(x)
            x = x + y * self.gate(y.mean((2, 3), keepdim=True)).sigmoid()
        return self.head(x.mean((2, 3)))


class Table(nn.Module):
    """Columns and categories, a norm on the columns, two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.category, self.norm = nn.Embedding(20, 4), nxn.L1BatchNorm1d(6)
        self.norm.running_mean.copy_(torch.randn(6) * 10)
        self.layers = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, columns: Tensor, category: Tensor) -> Tensor:
        return self.layers(torch.cat([self.norm(columns), self.category(category[:, 0])], 1))


IMAGE = ("3x16x16",)
KINDS: Mapping[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "classifier": (lambda: Classifier(nxn.L1BatchNorm2d), IMAGE),
    "batch norm": (lambda: Classifier(nn.BatchNorm2d), IMAGE),
    "two heads": (TwoHeads, IMAGE),
    "detector": (Detector, IMAGE),
    "segmentation": (Segmentation, IMAGE),
    "attention": (Attention, ("tokens=12:int64",)),
    "u-net": (UNet, IMAGE),
    "tagger": (Tagger, ("9x6",)),
    "residual": (Residual, IMAGE),
    "table": (Table, ("columns=6", "category=1:int64")),
}


def network(kind: str, seed: int) -> Network:
    """One network with random weights, exported."""
    make, inputs = KINDS[kind]
    torch.manual_seed(seed)
    with torch.no_grad():
        model = make().eval()
    return Network(f"{kind} {seed}", normexport.export(model, inputs).model, inputs)
