"""L2: sqrt(mean d^2), the standard deviation; for comparison with the other kinds.

torch.nn.BatchNorm divides by sqrt(mean d^2 + eps), this kind by sqrt(mean d^2) + epsilon, as all kinds here do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from normexport.norms.kind import Array, Integers, NormKind, Shared, Team, beside, element_axes


def statistic(d: Array, *, k: int = 0, chunks: int = 0, correction: float = 0.0) -> Array:
    """(C, n) -> (C,)."""
    return np.asarray((correction or 1.0) * np.sqrt(np.square(d).mean(axis=1)))


def integer_statistic(r: Integers, e: Integers, *, k: int = 0, chunks: int = 0) -> Array:
    """sqrt((sum r^2 - e^2/n) / n): the mean square about p, less the square of the mean's distance from p."""
    n = r.shape[1]
    wide = e.astype(np.float64)
    return np.asarray(np.sqrt((np.square(r).sum(axis=1) - wide * wide / n) / n))


def factor(n: int, chunks: int = 0) -> float:
    """1."""
    return 1.0


def torch_statistic(d: Any, *, k: int = 0, chunks: int = 0, correction: float = 0.0) -> Any:
    """(R, *elements) -> (R,)."""
    return _sigma(d) * (correction or 1.0)


def torch_slope(d: Any, worth: Any, *, k: int = 0, chunks: int = 0, correction: float = 0.0) -> tuple[Any, Any]:
    """d / (n * sigma), 0 in a constant channel."""
    share = worth / _sigma(d) * ((correction or 1.0) / d[0].numel())
    return d * beside(share, d), d.sum(element_axes(d)) * share


def shared_statistic(d: Any, team: Team, *, k: int, chunks: int, correction: float) -> Any:
    """Sums of squares add up."""
    return (team.sum(d.square().sum(1)) / team.count).clamp_min(1e-30).sqrt() * (correction or 1.0)


def shared_slope(d: Any, worth: Any, stat: Any, team: Team, *, k: int, chunks: int, correction: float) -> Any:
    """`torch_slope` with n and sigma of all processes."""
    own = correction or 1.0
    return d * beside(worth * own * own / (stat * team.count), d)


def _sigma(d: Any) -> Any:
    # The floor keeps the gradient of a constant channel 0 instead of 0 * inf; its root, 1e-15, is far below
    # any epsilon.
    return d.square().mean(element_axes(d)).clamp_min(1e-30).sqrt()


L2 = NormKind(
    name="l2",
    title="L2",
    formula="sqrt(mean d^2)",
    statistic=statistic,
    integer_statistic=integer_statistic,
    factor=factor,
    torch_statistic=torch_statistic,
    torch_slope=torch_slope,
    shared=Shared(shared_statistic, shared_slope),
    onnx_constant="own64 = Constant <value = double {1.0}>()  own = CastLike(own64, scale)",
    onnx_statistic="""
        square = Mul(d, d)
        variance = ReduceMean <keepdims = 1>(square, axes)
        raw = Sqrt(variance)
        stat = Mul(constant, raw)
    """,
    onnx_integer_statistic="""
        square = Mul(r, r)
        squares = ReduceSum <keepdims = 1>(square, along)
        squares64 = Cast <to = 11>(squares)
        wide = Cast <to = 11>(e)
        wider = Mul(wide, wide)
        excess = Div(wider, n64)
        about_mean = Sub(squares64, excess)
        variance64 = Div(about_mean, n64)
        stat = Sqrt(variance64)
    """,
    native=4,
    order=2,
)
