"""Norms as people write them for themselves: BatchNorm's names, and a statistic of their own under `running_var`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def wide(vector: Tensor, x: Tensor) -> Tensor:
    return vector.reshape(1, -1, *([1] * (x.dim() - 2)))


class OwnNorm(nn.Module):
    """`running_var` is an average of what training divides by, mean |x - mu| here."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor | None

    def __init__(self, channels: int, eps: float = 1e-5, counts: bool = False) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0) if counts else None)

    def statistic(self, d: Tensor) -> Tensor:
        return d.abs().mean(1)

    def divided(self, d: Tensor, statistic: Tensor) -> Tensor:
        return d / (statistic + self.eps)

    def forward(self, x: Tensor) -> Tensor:
        mean, statistic = self.running_mean, self.running_var
        if self.training:
            mean = x.mean([0, *range(2, x.dim())])
            statistic = self.statistic((x - wide(mean, x)).transpose(0, 1).flatten(1))
            with torch.no_grad():
                self.running_mean.lerp_(mean, 0.1)
                self.running_var.lerp_(statistic, 0.1)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked += 1
        return self.divided(x - wide(mean, x), wide(statistic, x)) * wide(self.weight, x) + wide(self.bias, x)


class Counting(OwnNorm):
    """With BatchNorm's counter."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, counts=True)


class OwnMax(Counting):
    def statistic(self, d: Tensor) -> Tensor:
        return d.abs().amax(1)


class OwnTop(OwnNorm):
    k = 5

    def statistic(self, d: Tensor) -> Tensor:
        return d.abs().topk(self.k, 1).values.mean(1)


class OwnRange(Counting):
    def statistic(self, d: Tensor) -> Tensor:
        return d.amax(1) - d.amin(1)


class Variance(Counting):
    """A BatchNorm written anew."""

    def statistic(self, d: Tensor) -> Tensor:
        return d.square().mean(1)

    def divided(self, d: Tensor, statistic: Tensor) -> Tensor:
        return d / (statistic + self.eps).sqrt()


class Inheriting(nn.BatchNorm2d):
    """A subclass of BatchNorm that overrides its forward: the file's notes are those of BatchNorm."""

    statistic = OwnNorm.statistic
    divided = OwnNorm.divided
    forward = OwnNorm.forward  # type: ignore[assignment]  # the same attributes, another class


class Odd(Counting):
    """Of no dialect: the larger of statistic and epsilon, doubled."""

    def divided(self, d: Tensor, statistic: Tensor) -> Tensor:
        return d / (2 * statistic).clamp_min(self.eps)


class OddlyTrained(OwnNorm):
    """Averages what is no norm's statistic."""

    def statistic(self, d: Tensor) -> Tensor:
        return d.abs().sqrt().mean(1)


class Unrunnable(OwnNorm):
    """Its training can't be run alone."""

    def statistic(self, d: Tensor) -> Tensor:
        raise RuntimeError("needs its process group")


#: Class, kind by its training, dialect by its evaluation; dialect None where its own forward is kept.
OWN: list[tuple[Any, str, str | None]] = [
    (OwnNorm, "l1", "own-divisor"),
    (Counting, "l1", "own-divisor"),
    (OwnMax, "linf", "own-divisor"),
    (OwnTop, "topk", "own-divisor"),
    (OwnRange, "range", "own-divisor"),
    (Variance, "batchnorm", "batchnorm"),
    (Inheriting, "l1", "own-divisor"),
    (Odd, "", None),
    (OddlyTrained, "unknown", "own-divisor"),
    (Unrunnable, "unknown", "own-divisor"),
]
