"""L-infinity: C(n) * max |d| (Hoffer et al. 2018, "Norm matters", section 3.2)."""

from __future__ import annotations

from typing import Any

import numpy as np

from normexport.norms.constants import extreme_constant, extreme_text
from normexport.norms.kind import Array, NormKind


def statistic(d: Array, *, k: int = 0, chunks: int = 0, correction: float = 0.0) -> Array:
    """(C, n) -> (C,)."""
    return np.asarray((correction or extreme_constant(d.shape[1])) * np.abs(d).max(axis=1))


def torch_statistic(d: Any, *, k: int = 0, chunks: int = 0, correction: float = 0.0) -> Any:
    """(..., n) -> (...)."""
    return d.abs().amax(-1) * (correction or extreme_constant(d.shape[-1]))


LINF = NormKind(
    name="linf",
    title="Linf",
    formula="C(n) * max |d|",
    statistic=statistic,
    torch_statistic=torch_statistic,
    onnx_constant=extreme_text("n", "own"),
    onnx_statistic="""
        absolute = Abs(d)
        raw = ReduceMax <keepdims = 1>(absolute, axes)
        stat = Mul(constant, raw)
    """,
)
