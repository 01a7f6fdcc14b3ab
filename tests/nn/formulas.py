"""The norms in float64 numpy, written from their formulas alone, and how far float32 may be from them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

KINDS = ("l1", "linf", "topk", "range", "l2")
TITLES = {"l1": "L1", "linf": "Linf", "topk": "TopK", "range": "Range", "l2": "L2"}
EPS32 = 2.0**-24  # half a unit in the last place: what one float32 rounding costs


def extreme(n: int) -> float:
    """C(n) = (1 + sqrt(pi ln 4)) / sqrt(8 ln n)."""
    return (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(8 * math.log(n))


def statistic(kind: str, values: np.ndarray, k: int = 10, chunks: int = 16) -> tuple[Any, float]:
    """The statistic of one channel's elements, in order, before the correction constant, and that constant."""
    d = values - values.mean()
    n = len(d)
    if kind == "l1":
        return np.abs(d).mean(), math.sqrt(math.pi / 2)
    if kind == "l2":
        return math.sqrt((d * d).mean()), 1.0
    if kind == "linf":
        return np.abs(d).max(), extreme(n)
    if kind == "topk":
        return sorted(np.abs(d), reverse=True)[:k], extreme(n)
    length = max(2, math.ceil(n / chunks))
    pieces = [d[i : i + length] for i in range(0, n, length)]
    tops, bottoms = np.mean([p.max() for p in pieces]), np.mean([p.min() for p in pieces])
    return tops - bottoms, 0.35 * extreme(length)


def stat(kind: str, values: np.ndarray, k: int = 10, chunks: int = 16, correction: float = 0.0) -> float:
    """sqrt(pi/2)*mean|d|, C(n)*max|d|, C(n)*mean of the k largest |d|, 0.35*C(L)*range over chunks, or sigma."""
    raw, own = statistic(kind, values, k, chunks)
    return float(np.mean(raw)) * (correction or own)


def norm(
    kind: str,
    x: np.ndarray | torch.Tensor,
    scale: np.ndarray,
    bias: np.ndarray,
    eps: float,
    instance: bool = False,
    **parameters: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(y, mean, stat, budget): the norm of x (N, C, *space), and the error float32 arithmetic may make per element.

    The budget: d is off by the roundings of x's mean, at most a few of |mean| + max|d|; that error reaches y
    once through d and once through stat, where it is multiplied by |d|/stat.
    """
    x = np.asarray(x, np.float64)
    y, budget = np.empty_like(x), np.empty_like(x)
    shape = x.shape[:2] if instance else x.shape[1:2]
    means, stats = np.empty(shape), np.empty(shape)
    for place in np.ndindex(shape):
        at = place if instance else (slice(None), *place)
        c = place[-1]
        values = x[at].reshape(-1)
        means[place], stats[place] = values.mean(), stat(kind, values, **parameters)
        z = (x[at] - means[place]) / (stats[place] + eps)
        y[at] = scale[c] * z + bias[c]
        reach = (abs(means[place]) + np.abs(values - means[place]).max()) / (stats[place] + eps)
        budget[at] = 4 * EPS32 * (abs(scale[c]) * (1 + np.abs(z).max()) * (1 + reach) + abs(bias[c]))
    return y, means, stats, budget
