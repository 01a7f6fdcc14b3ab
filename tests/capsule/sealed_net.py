"""A network with three kinds of output, small enough to be converted in seconds, and its capsule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from normexport.nn import L1BatchNorm2d


class Headed(nn.Module):
    """Scores, where a feature is largest, and how large the scores are: two floats and an integer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = L1BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.relu(self.norm(self.conv(x)))
        x = torch.tanh(self.second(x))
        scores = self.head(x.mean((2, 3)))
        return scores, x[:, 0].flatten(1).argmax(1), scores.square().sum(1)


def trained() -> Headed:
    """With running statistics of a few batches."""
    torch.manual_seed(3)
    model = Headed()
    for _ in range(3):
        model(torch.randn(8, 3, 8, 8) * 2 + 1)
    return model.eval()


def saved(model: nn.Module, path: Path) -> None:
    """As an exported program with a free batch."""
    batch = {0: torch.export.Dim("batch")}
    torch.export.save(torch.export.export(model, (torch.randn(2, 3, 8, 8),), dynamic_shapes=(batch,)), path)


def broken(source: Path, path: Path, weight: str, factor: float) -> Path:
    """An ONNX file with one output channel of the weight called `weight`... scaled; gives the path."""
    model = onnx.load(source)
    (tensor,) = [each for each in model.graph.initializer if each.name.startswith(weight) and len(each.dims) > 1]
    array = numpy_helper.to_array(tensor).copy()
    array[0] *= factor
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, path)
    return path


def write(path: Path, arrays: Mapping[str, Any]) -> Path:
    """The arrays as an .npz; gives the path."""
    np.savez(path, **arrays)
    return path
