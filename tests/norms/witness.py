"""Each kind's formula over groups of channels, written out once more: by loops and numpy, from the documentation."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def normalised(
    name: str,
    x: NDArray[np.generic],
    scale: NDArray[np.generic],
    bias: NDArray[np.generic],
    groups: int,
    *,
    epsilon: float,
    k: int = 10,
    chunks: int = 16,
) -> Array:
    """The norm of that kind over each sample's groups of channels: x (N, C, *space), scale and bias (C,), float64."""
    wide = x.astype(np.float64)
    y = np.empty_like(wide)
    size = x.shape[1] // groups
    for sample in range(x.shape[0]):
        for first in range(0, x.shape[1], size):
            d = wide[sample, first : first + size] - wide[sample, first : first + size].mean()
            divisor = statistic(name, d.reshape(-1), k, chunks) + epsilon
            for channel in range(size):
                gamma, beta = float(scale[first + channel]), float(bias[first + channel])
                y[sample, first + channel] = gamma * d[channel] / divisor + beta
    return y


def statistic(name: str, d: Array, k: int, chunks: int) -> float:
    """Of the deviations (n,), in the order of the tensor."""
    n = len(d)
    if name == "l1":
        return math.sqrt(math.pi / 2) * float(np.abs(d).mean())
    if name == "l2":
        return math.sqrt(float((d * d).mean()))
    if name == "linf":
        return _extreme(n) * float(np.abs(d).max())
    if name == "topk":
        return _extreme(n) * float(np.sort(np.abs(d))[-k:].mean())
    length = max(2, -(-n // chunks))
    pieces = [d[start : start + length] for start in range(0, n, length)]
    span = np.mean([piece.max() for piece in pieces]) - np.mean([piece.min() for piece in pieces])
    return 0.35 * _extreme(length) * float(span)


def _extreme(n: int) -> float:
    return (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(8 * math.log(max(n, 2)))
