"""Top-k: C(n) * mean of the k largest |d| (Hoffer et al. 2018, "Norm matters", section 3.2).

L-infinity is k = 1. The constant does not depend on k: see `extreme_constant`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np

from normexport.norms.constants import extreme_constant, extreme_text, torch_extreme_constant
from normexport.norms.kind import (
    K_DEFAULT,
    Array,
    Integers,
    NormKind,
    Shared,
    Team,
    beside,
    element_axes,
    equals,
    mean_deviation,
    require_k,
)
from normexport.norms.pieces import add_slope_of_largest, at_largest, in_pieces, largest_size

#: Elements of a piece of rows whose last axis nothing divides well; what is left is looked at beside.
_PIECE = 64


def statistic(d: Array, *, k: int = K_DEFAULT, chunks: int = 0, correction: float = 0.0) -> Array:
    """(C, n) -> (C,). Raises UsageError where k > n."""
    n = d.shape[1]
    require_k(k, n)
    # Sorting puts NaN last, so a NaN is always among the k largest.
    largest = np.sort(np.abs(d), axis=1)[:, n - k :]
    return np.asarray((correction or extreme_constant(n)) * largest.mean(axis=1))


def integer_statistic(r: Integers, e: Integers, *, k: int = K_DEFAULT, chunks: int = 0) -> Array:
    """Mean of the k largest |r + e/n|, found among the integers |n*r + e|. Raises UsageError where k > n."""
    n = r.shape[1]
    require_k(k, n)
    scaled = n * r + e[:, None]
    largest = np.argsort(np.abs(scaled), axis=1, kind="stable")[:, n - k :]
    sides = np.where(np.take_along_axis(scaled, largest, axis=1) >= 0, 1, -1)
    whole = (sides * np.take_along_axis(r, largest, axis=1)).sum(axis=1)
    return mean_deviation(whole, e * sides.sum(axis=1), n, k)


def factor(n: int, chunks: int = 0) -> float:
    """C(n)."""
    return extreme_constant(n)


def torch_statistic(d: Any, *, k: int = K_DEFAULT, chunks: int = 0, correction: float = 0.0) -> Any:
    """(R, *elements) -> (R,). Of elements in one axis by a topk alone, for exporters. Raises UsageError where k > n."""
    n = d[0].numel()
    if isinstance(n, int):  # of an open size nothing is asked while a network is traced: the answer would fix it
        require_k(k, n)
    largest = (_largest_of if d.dim() == 2 else _largest)(d, k)
    return largest.mean(-1) * (correction or torch_extreme_constant(d, n))


def torch_slope(d: Any, worth: Any, *, k: int = K_DEFAULT, chunks: int = 0, correction: float = 0.0) -> tuple[Any, Any]:
    """sign(d) / k of the k largest |d|; equals of the k-th share what is left evenly."""
    size, axes = d.abs(), element_axes(d)
    largest = _largest(d, k)
    kth = largest.amin(-1)
    level = (size - beside(kth, d)).sign_()
    is_kth, is_above = 1 - level.abs(), level.clamp_min(0)
    left = equals(largest, kth.unsqueeze(-1)).sum(-1) / is_kth.sum(axes)
    share = worth * ((correction or torch_extreme_constant(d, d[0].numel())) / k)
    side = d.sign()
    above, equal = side * is_above, side * is_kth
    total = share * (above.sum(axes) + left * equal.sum(axes))
    return (above + equal * beside(left, d)) * beside(share, d), total


def torch_add_slope(
    out: Any, d: Any, worth: Any, *, k: int = K_DEFAULT, chunks: int = 0, correction: float = 0.0
) -> Any:
    """`torch_slope`, added where it is not 0."""
    return add_slope_of_largest(out, d, worth * ((correction or extreme_constant(d[0].numel())) / k), k)


def shared_statistic(d: Any, team: Team, *, k: int, chunks: int, correction: float) -> Any:
    """The k largest of all processes are among the k largest of each. Raises UsageError where k > n."""
    require_k(k, team.count)
    return _shared_largest(d.abs(), k, team).mean(1) * (correction or extreme_constant(team.count))


def shared_slope(d: Any, worth: Any, stat: Any, team: Team, *, k: int, chunks: int, correction: float) -> Any:
    """`torch_slope`; equals in other processes share too."""
    size = d.abs()
    largest = _shared_largest(size, k, team)
    kth = largest.amin(1, keepdim=True)
    side = (size - kth).sign_()
    is_kth = 1 - side.abs()
    left = equals(largest, kth).sum(1, keepdim=True) / team.sum(is_kth.sum(1, keepdim=True))
    weight = side.clamp_min(0).add_(is_kth.mul_(left))
    return d.sign().mul_(weight).mul_(beside(worth * ((correction or extreme_constant(team.count)) / k), d))


def _shared_largest(size: Any, k: int, team: Team) -> Any:
    """(R, n) -> (R, k). A process may have fewer than k elements."""
    own = _largest(size, min(k, size.shape[1]))
    fill = size.new_full((size.shape[0], k - own.shape[1]), -1.0)  # below every |d|
    return team.gather(_joined(own, fill)).topk(k, dim=1, sorted=False).values


def _largest(d: Any, k: int) -> Any:
    """The k largest |d|, (R, *elements) -> (R, k), by way of those of pieces: five times as fast as all at once."""
    pieces = in_pieces(d, k)
    if pieces is not None:
        return _largest_of(pieces[at_largest(largest_size(pieces, -1), k)].flatten(1), k)
    d = d.flatten(1)
    n = d.shape[-1]
    if isinstance(n, int) and n >= max(1, 4 * k * _PIECE):
        end = n // _PIECE * _PIECE
        pieces = d[:, :end].unflatten(-1, (n // _PIECE, _PIECE))
        inside = pieces[at_largest(largest_size(pieces, -1), k)].flatten(1)
        return _largest_of(_joined(inside, d[:, end:]) if end < n else inside, k)
    return _largest_of(d, k)


def _largest_of(d: Any, k: int) -> Any:
    """The k largest |d|, (R, n) -> (R, k)."""
    return d.abs().topk(k, dim=-1, sorted=False).values


def _joined(left: Any, right: Any) -> Any:
    """The two next to each other along the last axis: this module does not import torch."""
    cut, end = left.shape[-1], left.shape[-1] + right.shape[-1]
    joined = left.new_zeros((*left.shape[:-1], end))
    return joined.slice_scatter(left, -1, 0, cut).slice_scatter(right, -1, cut, end)


TOPK = NormKind(
    name="topk",
    title="TopK",
    formula="C(n) * mean of the k largest |d|",
    statistic=statistic,
    integer_statistic=integer_statistic,
    factor=factor,
    torch_statistic=torch_statistic,
    torch_slope=torch_slope,
    torch_add_slope=torch_add_slope,
    shared=Shared(shared_statistic, shared_slope),
    onnx_constant=extreme_text("n", "own"),
    # k * n is at least k unless the batch is empty: then 0 of 0 elements are taken, else k > n stays an error.
    # The extra row of zeros is there because ONNX Runtime up to 1.23 dies (SIGFPE) of a TopK over no rows at all.
    onnx_statistic="""
        absolute = Abs(rows)
        asked = Constant <value_int: int = @k>()
        available = Mul(asked, n)
        taken = Min(asked, available)
        front = Constant <value = int64[1] {0}>()
        count = Unsqueeze(taken, front)
        row_before = Constant <value = int64[4] {1, 0, 0, 0}>()
        with_row = Pad(absolute, row_before)
        largest, where_largest = TopK <axis = 1, largest = 1, sorted = 0>(with_row, count)
        last = Constant <value = int64[1] {1}>()
        averages = ReduceMean <keepdims = 1>(largest, last)
        end = Constant <value = int64[1] {9223372036854775807}>()
        raw = Slice(averages, last, end, front)
        stat = Mul(constant, raw)
    """,
    # Which of several equal |n*r + e| is taken changes whole and part, but not (whole + part/n), nor its rounding:
    # only e = 0 or 2|e| = n give equals of both signs, and then part/n is a multiple of 1/2.
    onnx_integer_statistic="""
        asked = Constant <value_int: int = @k>()
        available = Mul(asked, n)
        taken = Min(asked, available)
        front = Constant <value = int64[1] {0}>()
        amount = Unsqueeze(taken, front)
        times = Mul(n, r)
        exact = Add(times, e)
        row_before = Constant <value = int64[4] {1, 0, 0, 0}>()
        exact_row = Pad(exact, row_before)
        r_row = Pad(r, row_before)
        distance = Abs(exact_row)
        largest, places = TopK <axis = 1, largest = 1, sorted = 0>(distance, amount)
        exact_there = GatherElements <axis = 1>(exact_row, places)
        r_there = GatherElements <axis = 1>(r_row, places)
        upper = Constant <value = int64 {1}>()
        lower = Constant <value = int64 {-1}>()
        nought = Constant <value = int64 {0}>()
        is_upper = GreaterOrEqual(exact_there, nought)
        side = Where(is_upper, upper, lower)
        outward = Mul(side, r_there)
        whole_row = ReduceSum <keepdims = 1>(outward, along)
        sides_row = ReduceSum <keepdims = 1>(side, along)
        end = Constant <value = int64[1] {9223372036854775807}>()
        whole = Slice(whole_row, along, end, front)
        sides = Slice(sides_row, along, end, front)
        part = Mul(e, sides)
        count = Identity(asked)
    """,
    by_rows=True,
    parameters=MappingProxyType({"k": K_DEFAULT}),
    native=2,
    per_std=1.28,  # 1.20 to 1.35 on normal numbers, for k = 10
    tails="light",
    extreme=1.1 / extreme_constant(1 << 16),  # the largest is that much above the mean of the ten largest
    hint="topk",
)
