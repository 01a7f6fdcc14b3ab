"""Networks that `--model tests.cli.small_nets:...` builds, small enough to convert in a second."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from normexport.nn import L1BatchNorm2d, TopKBatchNorm2d, TopKInstanceNorm2d

SHAPE = "3x8x8"


class Small(nn.Module):
    """One norm that folds into its convolution, one whose input is read twice and that stays."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = L1BatchNorm2d(6)
        self.pre = TopKBatchNorm2d(6, k=3)
        self.head = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = x + torch.relu(self.pre(x))
        return self.head(x.mean((2, 3)))


def trained() -> Small:
    """With running statistics of a few batches."""
    torch.manual_seed(0)
    model = Small()
    for _ in range(3):
        model(torch.randn(8, 3, 8, 8) * 2 + 1)
    return model.eval()


def greedy() -> nn.Sequential:
    """A Top-k norm that asks for more elements than an 8x8 image has after its convolution (36)."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), TopKInstanceNorm2d(4, k=1000)).eval()


def number() -> int:
    """A factory that makes no model."""
    return 3


def failing() -> Small:
    """A factory that fails."""
    raise RuntimeError("no such variant")


class Masked(nn.Module):
    """A causal mask of -1e9 and a float32 softmax between two layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q, self.v = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        later = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        scores = (self.q(x) @ x.transpose(1, 2)).masked_fill(later, -1e9)
        return scores.float().softmax(2) @ self.v(x.float())
