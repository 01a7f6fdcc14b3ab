"""L-infinity: C(n) * max |d| (Hoffer et al. 2018, "Norm matters", section 3.2)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from normexport.norms.constants import extreme_constant, extreme_text, torch_extreme_constant
from normexport.norms.kind import Array, Integers, NormKind, Shared, Team, beside, element_axes, equals, mean_deviation
from normexport.norms.pieces import add_slope_of_largest, largest_size


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
    """(R, *elements) -> (R,)."""
    return _largest(d) * (correction or torch_extreme_constant(d, d[0].numel()))


def torch_slope(d: Any, worth: Any, *, k: int = 0, chunks: int = 0, correction: float = 0.0) -> tuple[Any, Any]:
    """sign(d) of the largest |d|, shared evenly among equals; elsewhere 0."""
    axes = element_axes(d)
    is_largest = equals(beside(_largest(d), d), d.abs())
    share = worth * (correction or torch_extreme_constant(d, d[0].numel())) / is_largest.sum(axes)
    side = d.sign().mul_(is_largest)
    total = side.sum(axes) * share
    return side.mul_(beside(share, d)), total


def torch_add_slope(out: Any, d: Any, worth: Any, *, k: int = 0, chunks: int = 0, correction: float = 0.0) -> Any:
    """`torch_slope`, added where it is not 0."""
    return add_slope_of_largest(out, d, worth * (correction or extreme_constant(d[0].numel())), 1)


def shared_statistic(d: Any, team: Team, *, k: int, chunks: int, correction: float) -> Any:
    """The largest of all processes."""
    return _shared_largest(d.abs(), team).squeeze(1) * (correction or extreme_constant(team.count))


def shared_slope(d: Any, worth: Any, stat: Any, team: Team, *, k: int, chunks: int, correction: float) -> Any:
    """`torch_slope`; equals in other processes share too."""
    size = d.abs()
    is_largest = equals(_shared_largest(size, team), size)
    share = worth * (correction or extreme_constant(team.count)) / team.sum(is_largest.sum(1))
    return d.sign().mul_(is_largest).mul_(beside(share, d))


def _largest(d: Any) -> Any:
    """(R, *elements) -> (R,). Of elements in one axis in operators that exporters know well, and fuse."""
    return d.abs().amax(-1) if d.dim() == 2 else largest_size(d, element_axes(d))


def _shared_largest(size: Any, team: Team) -> Any:
    """(R, n) -> (R, 1). A process may have no elements."""
    own = size.amax(1, keepdim=True) if size.shape[1] else size.new_zeros((size.shape[0], 1))
    return team.max(own)


LINF = NormKind(
    name="linf",
    title="Linf",
    formula="C(n) * max |d|",
    statistic=statistic,
    integer_statistic=integer_statistic,
    factor=factor,
    torch_statistic=torch_statistic,
    torch_slope=torch_slope,
    torch_add_slope=torch_add_slope,
    shared=Shared(shared_statistic, shared_slope),
    onnx_constant=extreme_text("n", "own"),
    onnx_statistic="""
        absolute = Abs(d)
        raw = ReduceMax <keepdims = 1>(absolute, axes)
        stat = Mul(constant, raw)
    """,
    # A row's mean is within half of p, so that max r >= 0 >= min r: the column of zeros, which an empty batch needs,
    # changes neither.
    onnx_integer_statistic="""
        column = Constant <value = int64[4] {0, 1, 0, 0}>()
        padded = Pad(r, column)
        rise = ReduceMax <keepdims = 1>(padded, along)
        lowest = ReduceMin <keepdims = 1>(padded, along)
        drop = Neg(lowest)
        e_below = Neg(e)
        rise_n = Mul(n, rise)
        drop_n = Mul(n, drop)
        above = Add(rise_n, e)
        below = Sub(drop_n, e)
        is_up = GreaterOrEqual(above, below)
        whole = Where(is_up, rise, drop)
        part = Where(is_up, e, e_below)
        count = Constant <value = int64 {1}>()
    """,
    native=1,
    per_std=1.44,  # 1.42 to 1.46 on normal numbers, 1e3 to 8e5 of them
    tails="light",
    extreme=1 / extreme_constant(1 << 16),
    order=math.inf,
    hint="linf",
)
