"""Forward and backward of a norm in float64 numpy, channel by channel, with the derivatives written out."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from tests.nn.formulas import extreme

EPS = 1e-3


def slopes(kind: str, d: np.ndarray, k: int, chunks: int) -> tuple[float, np.ndarray]:
    """The statistic of one channel's d (n,), and its derivative for each: among equals evenly."""
    n, size, sign = len(d), np.abs(d), np.sign(d)
    if kind == "l1":
        return math.sqrt(math.pi / 2) * size.mean(), math.sqrt(math.pi / 2) * sign / n
    if kind == "l2":
        sigma = max(math.sqrt((d * d).mean()), 1e-15)
        return sigma, d / (n * sigma)
    if kind in ("linf", "topk"):
        k, factor = (1 if kind == "linf" else k), extreme(max(n, 2))
        kth = np.sort(size)[n - k]
        share = np.where(size > kth, 1.0, np.where(size == kth, (k - (size > kth).sum()) / (size == kth).sum(), 0))
        return factor * np.sort(size)[n - k :].mean(), factor * share * sign / k
    length = max(2, math.ceil(n / chunks))
    starts, slope, span = range(0, n, length), np.zeros(n), 0.0
    for start in starts:
        piece = d[start : start + length]
        top, bottom = piece == piece.max(), piece == piece.min()
        slope[start : start + length] = top / top.sum() - bottom / bottom.sum()
        span += piece.max() - piece.min()
    factor = 0.35 * extreme(length) / len(starts)
    return factor * span, factor * slope


def step(kind: str, x: Tensor, grads: list[Tensor], scale: Tensor, bias: Tensor, **parameters: int) -> list[np.ndarray]:
    """(y, mean, stat, dx, dscale, dbias) of x (N, C, *space) in float64 numpy, channel by channel."""
    moved = [each.double().transpose(0, 1).flatten(1).numpy() for each in (x, grads[0])]
    y, dx = np.empty_like(moved[0]), np.empty_like(moved[0])
    vectors: list[tuple[float, ...]] = []
    for c, (row, g) in enumerate(zip(*moved, strict=True)):
        mean, n = row.mean(), len(row)
        d, w = row - mean, float(scale[c])
        stat, slope = slopes(kind, d, **parameters)
        a = w / (stat + EPS)
        y[c] = d * a + float(bias[c])
        worth = float(grads[2][c]) - (g * w * d).sum() / (stat + EPS) ** 2
        dx[c] = a * g + worth * slope + (float(grads[1][c]) - (a * g).sum() - worth * slope.sum()) / n
        vectors.append((mean, stat, (g * d).sum() / (stat + EPS), g.sum()))
    shape = (x.shape[1], x.shape[0], *x.shape[2:])
    back = [each.reshape(shape).swapaxes(0, 1) for each in (y, dx)]
    mean, stat, dscale, dbias = np.array(vectors).T
    return [back[0], mean, stat, back[1], dscale, dbias]
