"""Live norms as people write them in PyTorch: every kind and scope in several spellings, with its formula in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

EPSILON = 1e-3
K, CHUNKS, GROUPS = 6, 8, 2
SQRT_HALF_PI = math.sqrt(math.pi / 2)


def extreme(n: int) -> float:
    """(1 + sqrt(pi ln 4)) / sqrt(8 ln n)."""
    return (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(8 * math.log(n))


class RawNorm(nn.Module):
    """A norm of one kind over the batch, each sample, groups or layers, in one of `SPELLINGS`, on (N, C, H, W).

    Groups are computed in (N, GROUPS, C/GROUPS, H, W); a layer is (C, H, W), with a weight for each of its elements.
    """

    def __init__(self, kind: str, scope: str, spelling: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.kind, self.scope, self.spelling = kind, scope, spelling
        generator = torch.Generator().manual_seed(len(kind + spelling))
        sizes = shape if scope == "layer" else shape[:1]
        self.weight = nn.Parameter(torch.rand(sizes, generator=generator) + 0.5)
        self.bias = nn.Parameter(torch.randn(sizes, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        if self.scope != "group":
            return SPELLINGS[self.spelling](self, x)
        n, c, h, w = x.shape
        return SPELLINGS[self.spelling](self, x.reshape(n, GROUPS, c // GROUPS, h, w)).reshape(x.shape)

    @property
    def axes(self) -> tuple[int, ...]:
        return {"batch": (0, 2, 3), "instance": (2, 3), "group": (2, 3, 4), "layer": (1, 2, 3)}[self.scope]

    def count(self, x: Tensor) -> int:
        return math.prod(x.shape[axis] for axis in self.axes)

    def constant(self, n: int) -> float:
        """The kind's own constant for n elements."""
        if self.kind == "l1":
            return SQRT_HALF_PI
        if self.kind == "l2":
            return 1.0
        return extreme(n) if self.kind in ("linf", "topk") else 0.35 * extreme(n // CHUNKS)

    def raw(self, d: Tensor, size: Callable[[Tensor], Tensor] = torch.abs) -> Tensor:
        """The statistic without its constant, of the shape that divides; `size` is how |d| is written."""
        if self.kind == "l1":
            return size(d).mean(self.axes, keepdim=True)
        if self.kind == "l2":
            return (d * d).mean(self.axes, keepdim=True).sqrt()
        if self.kind == "linf":
            return size(d).amax(self.axes, keepdim=True)
        rows = self.rows(d)
        if self.kind == "topk":
            stat = size(rows).topk(K, dim=1)[0].mean(1)
        else:
            cut = rows.reshape(rows.shape[0], CHUNKS, -1)
            stat = cut.amax(-1).mean(-1) - cut.amin(-1).mean(-1)
        return self.spread(stat, d)

    def rows(self, x: Tensor) -> Tensor:
        """One row per statistic."""
        n, c = x.shape[:2]
        if self.scope == "layer":
            return x.reshape(n, -1)
        return x.transpose(0, 1).reshape(c, -1) if self.scope == "batch" else x.reshape(n * c, -1)

    def spread(self, stat: Tensor, x: Tensor) -> Tensor:
        """One number per row, in a shape that x can be divided by."""
        n, c = x.shape[:2]
        if self.scope == "layer":
            return stat.reshape(n, 1, 1, 1)
        return stat.reshape(1 if self.scope == "batch" else n, c, *[1] * (x.dim() - 2))

    def columns(self) -> tuple[Tensor, Tensor]:
        if self.scope == "layer":
            return self.weight, self.bias
        shape = (1, GROUPS, -1, 1, 1) if self.scope == "group" else (1, -1, 1, 1)
        return self.weight.view(shape), self.bias.view(shape)


def plain(norm: RawNorm, x: Tensor) -> Tensor:
    weight, bias = norm.columns()
    d = x - x.mean(norm.axes, keepdim=True)
    return weight * d / (norm.constant(norm.count(x)) * norm.raw(d) + EPSILON) + bias


def reciprocal(norm: RawNorm, x: Tensor) -> Tensor:
    weight, bias = norm.columns()
    d = x - x.mean(norm.axes, keepdim=True)
    return bias + d * (torch.reciprocal(EPSILON + norm.raw(d) * norm.constant(norm.count(x))) * weight)


def affine(norm: RawNorm, x: Tensor) -> Tensor:
    """x*a + (bias - mean*a)."""
    weight, bias = norm.columns()
    mean = x.sum(norm.axes, keepdim=True) / norm.count(x)
    a = weight / (norm.constant(norm.count(x)) * norm.raw(x - mean) + EPSILON)
    return x * a + (bias - mean * a)


def flattened(norm: RawNorm, x: Tensor) -> Tensor:
    """In rows, one per statistic, and back."""
    weight, bias = norm.columns()
    rows = norm.rows(x)
    d = rows - rows.mean(1, keepdim=True)
    divisor = norm.constant(norm.count(x)) * norm.raw(x - norm.spread(rows.mean(1), x)).reshape(-1, 1) + EPSILON
    z = d / divisor
    y = z.reshape(x.transpose(0, 1).shape).transpose(0, 1) if norm.scope == "batch" else z.reshape(x.shape)
    return y * weight + bias


def rooted(norm: RawNorm, x: Tensor) -> Tensor:
    """|d| as the root of its square, statistics without kept axes."""
    weight, bias = norm.columns()
    mean = norm.spread(norm.rows(x).mean(1), x)
    d = x.sub(mean)
    divisor = norm.raw(d, lambda each: torch.sqrt(each * each)) * norm.constant(norm.count(x)) + EPSILON
    return (d / divisor).mul(weight).add(bias)


def mirrored(norm: RawNorm, x: Tensor) -> Tensor:
    """|d| as the larger of d and -d, and everything the other way round."""
    weight, bias = norm.columns()
    d = x.mean(norm.axes, keepdim=True) - x
    divisor = EPSILON - norm.raw(d, lambda each: torch.maximum(each, -each)) * -norm.constant(norm.count(x))
    return bias - d / divisor * weight


def merged(norm: RawNorm, x: Tensor) -> Tensor:
    """The constant merged into scale and epsilon."""
    weight, bias = norm.columns()
    constant = norm.constant(norm.count(x))
    d = x - x.mean(norm.axes, keepdim=True)
    return d * (weight / constant) / (norm.raw(d) + EPSILON / constant) + bias


def chosen(norm: RawNorm, x: Tensor) -> Tensor:
    """|d| by its sign, computed in float64 on the way."""
    weight, bias = norm.columns()
    wide = x.double()
    d = wide - wide.mean(norm.axes, keepdim=True)
    size = norm.raw(d, lambda each: torch.where(each < 0, -each, each))
    return (weight * (d / (size * norm.constant(norm.count(x)) + EPSILON)).float()) + bias


SPELLINGS: dict[str, Callable[[RawNorm, Tensor], Tensor]] = {
    each.__name__: each for each in (plain, reciprocal, affine, flattened, rooted, mirrored, merged, chosen)
}


class RawNet(nn.Module):
    """One norm after another, a nonlinearity between them."""

    def __init__(self, kind: str, scope: str, shape: tuple[int, ...] = (4, 8, 4)) -> None:
        super().__init__()
        self.norms = nn.ModuleDict({name: RawNorm(kind, scope, name, shape) for name in SPELLINGS})

    def forward(self, x: Tensor) -> Tensor:
        for norm in self.norms.values():
            x = torch.sin(norm(x)) * 3 + x
        return x


def formula(norm: RawNorm, x: np.ndarray) -> np.ndarray:
    """What every spelling computes, in float64 numpy."""
    n, c = x.shape[:2]
    count = {"batch": c, "instance": n * c, "group": n * GROUPS, "layer": n}[norm.scope]
    groups = (x.swapaxes(0, 1) if norm.scope == "batch" else x).reshape(count, -1)
    d = groups - groups.mean(axis=1, keepdims=True)
    if norm.kind == "l1":
        raw = np.abs(d).mean(axis=1)
    elif norm.kind == "l2":
        raw = np.sqrt(np.square(d).mean(axis=1))
    elif norm.kind == "linf":
        raw = np.abs(d).max(axis=1)
    elif norm.kind == "topk":
        raw = np.sort(np.abs(d), axis=1)[:, -K:].mean(axis=1)
    else:
        cut = d.reshape(len(d), CHUNKS, -1)
        raw = cut.max(axis=2).mean(axis=1) - cut.min(axis=2).mean(axis=1)
    z = d / (norm.constant(d.shape[1]) * raw[:, None] + EPSILON)
    z = z.reshape(c, n, *x.shape[2:]).swapaxes(0, 1) if norm.scope == "batch" else z.reshape(x.shape)
    sizes = x.shape[1:] if norm.scope == "layer" else (c, 1, 1)
    weight, bias = (each.detach().double().numpy().reshape(1, *sizes) for each in (norm.weight, norm.bias))
    return np.asarray(weight * z + bias)


def net_formula(net: RawNet, x: np.ndarray) -> np.ndarray:
    """The same of the whole network."""
    for norm in net.norms.values():
        assert isinstance(norm, RawNorm)
        x = np.sin(formula(norm, x)) * 3 + x
    return x
