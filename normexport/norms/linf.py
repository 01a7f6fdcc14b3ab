"""L-infinity: C(n) * max |d| (Hoffer et al. 2018, "Norm matters", section 3.2)."""

from __future__ import annotations

from typing import Any

import numpy as np

from normexport.norms.constants import extreme_constant, extreme_text
from normexport.norms.kind import Array, Integers, NormKind, mean_deviation


def statistic(d: Array, *, k: int = 0, chunks: int = 0, correction: float = 0.0) -> Array:
    """(C, n) -> (C,)."""
    return np.asarray((correction or extreme_constant(d.shape[1])) * np.abs(d).max(axis=1))


def integer_statistic(r: Integers, e: Integers, *, k: int = 0, chunks: int = 0) -> Array:
    """Max |r + e/n|, found among the integers |n*r + e|."""
    n = r.shape[1]
    rise, drop = r.max(axis=1), -r.min(axis=1)
    up = n * rise + e >= n * drop - e
    return mean_deviation(np.where(up, rise, drop), np.where(up, e, -e), n, 1)


def factor(n: int, chunks: int = 0) -> float:
    """C(n)."""
    return extreme_constant(n)


def torch_statistic(d: Any, *, k: int = 0, chunks: int = 0, correction: float = 0.0) -> Any:
    """(..., n) -> (...)."""
    return d.abs().amax(-1) * (correction or extreme_constant(d.shape[-1]))


LINF = NormKind(
    name="linf",
    title="Linf",
    formula="C(n) * max |d|",
    statistic=statistic,
    integer_statistic=integer_statistic,
    factor=factor,
    torch_statistic=torch_statistic,
    onnx_constant=extreme_text("n", "own"),
    onnx_statistic="""
        absolute = Abs(d)
        raw = ReduceMax <keepdims = 1>(absolute, axes)
        stat = Mul(constant, raw)
    """,
)
