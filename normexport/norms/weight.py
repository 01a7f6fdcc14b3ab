"""Bounded weight norm: W = rho * V / ||V||_p, one norm per slice (Hoffer et al. 2018, "Norm matters", section 4).

The p-norm is over all axes but `axis`, over all of them where that is -1; p > 0, infinity included. rho broadcasts.
A slice that is all zero has no direction. The formula in numpy and in ONNX stands here; in torch, differentiable, in
`normexport.nn.ops.weight`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx

from normexport.norms.function import parse
from normexport.norms.kind import Array

# p = inf needs the maximum: the sum of powers is then inf or nan, and not chosen. The powers are of |v| / max |v|,
# so that neither a large p nor a tiny weight overflows or vanishes.
_WEIGHT = """
    sizes = Shape(V)
    rank_list = Shape(sizes)
    rank = Squeeze(rank_list)
    zero = Constant <value = int64 {0}>()
    one = Constant <value = int64 {1}>()
    all_axes = Range(zero, rank, one)
    kept = Constant <value_int: int = @axis>()
    is_kept = Equal(all_axes, kept)
    is_reduced = Not(is_kept)
    axes = Compress <axis = 0>(all_axes, is_reduced)
    absolute = Abs(V)
    highest = ReduceMax <keepdims = 1, noop_with_empty_axes = 1>(absolute, axes)
    relative = Div(absolute, highest)
    order = Constant <value_float: float = @p>()
    order_like = CastLike(order, V)
    powers = Pow(relative, order_like)
    total = ReduceSum <keepdims = 1, noop_with_empty_axes = 1>(powers, axes)
    inverse = Reciprocal(order_like)
    finite = Pow(total, inverse)
    is_infinite = IsInf(order)
    of_ones = Div(highest, highest)
    factor = Where(is_infinite, of_ones, finite)
    norm = Mul(highest, factor)
    direction = Div(V, norm)
    W = Mul(direction, rho)
"""


def reduced_axes(rank: int, axis: int) -> tuple[int, ...]:
    """The axes of a tensor that a slice along `axis` has; all of them for -1, none where slices are numbers."""
    return tuple(each for each in range(rank) if each != axis)


def slice_norms(v: Array, axis: int, p: float) -> Array:
    """||v||_p of each slice, float64, of size 1 on every other axis; of all of v where `axis` is -1."""
    axes = reduced_axes(v.ndim, axis)
    highest = np.max(np.abs(v), axis=axes, keepdims=True)
    # Relative to the largest element, so that neither a large p nor tiny weights overflow or vanish.
    powers = np.abs(v / highest) ** p if np.isfinite(p) else np.zeros_like(v)
    total = np.sum(powers, axis=axes, keepdims=True) ** (1.0 / p) if np.isfinite(p) else 1.0
    return np.asarray(highest * total)


@cache
def weight_function() -> onnx.FunctionProto:
    """Body of BoundedWeightNorm: W = rho * V / ||V||_p over all axes but `axis` (-1: over all)."""
    return parse("BoundedWeightNorm <axis: int = 0, p: float = 2.0> (V, rho) => (W)", _WEIGHT)
