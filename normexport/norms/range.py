"""Range: 0.35*C(L) * (mean over chunks of max d - mean over chunks of min d), L the chunk length (Banner et al. 2018).

A channel's elements, in the order of N and then space, are cut into `chunks` pieces; see `chunk_layout`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import numpy as np

from normexport.norms.constants import EXTREME_NUMERATOR, RANGE_SHARE, chunk_layout, extreme_constant, extreme_text
from normexport.norms.kind import (
    CHUNKS_DEFAULT,
    Array,
    Integers,
    NormKind,
    Shared,
    Team,
    beside,
    element_axes,
    equals,
    mean_deviation,
)
from normexport.norms.pieces import at_largest, in_pieces


def statistic(d: Array, *, k: int = 0, chunks: int = CHUNKS_DEFAULT, correction: float = 0.0) -> Array:
    """(C, n) -> (C,)."""
    length, _ = chunk_layout(d.shape[1], chunks)
    starts = np.arange(0, d.shape[1], length)
    tops, bottoms = np.maximum.reduceat(d, starts, axis=1), np.minimum.reduceat(d, starts, axis=1)
    own = RANGE_SHARE * extreme_constant(length)
    return np.asarray((correction or own) * (tops.mean(axis=1) - bottoms.mean(axis=1)))


def integer_statistic(r: Integers, e: Integers, *, k: int = 0, chunks: int = CHUNKS_DEFAULT) -> Array:
    """Mean over chunks of max r - min r; the mean cancels."""
    n = r.shape[1]
    length, count = chunk_layout(n, chunks)
    starts = np.arange(0, n, length)
    spans = np.maximum.reduceat(r, starts, axis=1) - np.minimum.reduceat(r, starts, axis=1)
    return mean_deviation(spans.sum(axis=1), np.zeros_like(e), n, count)


def factor(n: int, chunks: int = CHUNKS_DEFAULT) -> float:
    """0.35 * C(chunk length)."""
    return RANGE_SHARE * extreme_constant(chunk_layout(n, chunks)[0])


def torch_statistic(d: Any, *, k: int = 0, chunks: int = CHUNKS_DEFAULT, correction: float = 0.0) -> Any:
    """(R, *elements) -> (R,)."""
    n = d[0].numel()
    if not isinstance(n, int):
        return _open_statistic(d.flatten(1), n, chunks) * (correction or _open_factor(d, n, chunks))
    length, count = chunk_layout(n, chunks)
    whole, last = _chunks(d, n, chunks)
    axes = element_axes(whole)[1:]
    tops, bottoms = whole.amax(axes).sum(1), whole.amin(axes).sum(1)
    if last is not None:
        tops, bottoms = tops + last.amax(-1), bottoms + last.amin(-1)
    return (tops - bottoms) / count * (correction or RANGE_SHARE * extreme_constant(length))


def torch_slope(
    d: Any, worth: Any, *, k: int = 0, chunks: int = CHUNKS_DEFAULT, correction: float = 0.0
) -> tuple[Any, Any]:
    """1/m of each chunk's largest d, less that of its smallest; equals share evenly. Both ends cancel in the sum."""
    n = d[0].numel()
    if not isinstance(n, int):
        slope = _open_slope(d.flatten(1), n, chunks)
        return slope.mul_(beside(worth * (correction or _open_factor(d, n, chunks)), slope)).reshape(d.shape), worth * 0
    share = worth * _share(n, chunks, correction)
    whole, last = _chunks(d, n, chunks)
    slope = _span_slope(whole, share, 2)
    if last is None:
        return slope.reshape(d.shape), worth * 0
    rows = d.new_zeros((d.shape[0], n)).slice_scatter(slope.flatten(1), 1, 0, n - last.shape[1])
    rows = rows.slice_scatter(_span_slope(last, share, 1), 1, n - last.shape[1], n)
    return rows.reshape(d.shape), worth * 0


def torch_add_slope(
    out: Any, d: Any, worth: Any, *, k: int = 0, chunks: int = CHUNKS_DEFAULT, correction: float = 0.0
) -> Any:
    """`torch_slope`, added where it is not 0."""
    n = d[0].numel()
    whole, last = _chunks(d, n, chunks)
    to, _ = _chunks(out, n, chunks)
    pieces = None if last is not None else _in_pieces(whole, d)
    target = None if pieces is None else _in_pieces(to, out)
    if pieces is None or target is None:
        return None
    share = (worth * _share(n, chunks, correction)).reshape(-1, 1, 1, 1)
    found = []
    for ends, sign in ((pieces.amax(-1), 1), (pieces.amin(-1).neg(), -1)):
        at = at_largest(ends, 1, rows=2)
        if (ends == ends[at].reshape(*ends.shape[:2], *[1] * (ends.dim() - 2))).flatten(2).sum(-1).max() > 1:
            return None  # the end of a chunk has equals in other pieces
        ties = (pieces[at] == ends[at].unsqueeze(-1) * sign).to(d.dtype)
        found.append((at, ties * (sign * share / ties.sum(-1, keepdim=True))))
    for at, slope in found:
        target[at] += slope
    return worth * 0


def _share(n: int, chunks: int, correction: float) -> float:
    """What each end of a chunk adds to the statistic."""
    length, count = chunk_layout(n, chunks)
    return (correction or RANGE_SHARE * extreme_constant(length)) / count


def _in_pieces(chunked: Any, of: Any) -> Any:
    """Chunks (R, count, *elements) in pieces; None where they are a copy, or don't come in pieces, or in few.

    Two pieces of each chunk are looked at several times: where they are an eighth of all, that takes as long as all.
    """
    return in_pieces(chunked, 8 * chunked.shape[1]) if chunked.data_ptr() == of.data_ptr() else None


def shared_statistic(d: Any, team: Team, *, k: int, chunks: int, correction: float) -> Any:
    """Largest and smallest of every chunk, of which processes may have parts."""
    length, count = chunk_layout(team.count, chunks)
    tops, bottoms = _shared_ends(d, team, length, count)
    return (tops.sum(1) - bottoms.sum(1)) * ((correction or RANGE_SHARE * extreme_constant(length)) / count)


def shared_slope(d: Any, worth: Any, stat: Any, team: Team, *, k: int, chunks: int, correction: float) -> Any:
    """`torch_slope`; equals in other processes share too."""
    length, count = chunk_layout(team.count, chunks)
    ends = _shared_ends(d, team, length, count)
    share = worth * ((correction or RANGE_SHARE * extreme_constant(length)) / count)
    slope = d.new_zeros(d.shape)
    for end, sign in zip(ends, (1, -1), strict=True):
        ties, times = d.new_zeros(d.shape), d.new_zeros((d.shape[0], count))
        for chunk, place in _shared_places(d, team, length):
            ties[:, place] = equals(*(end[:, chunk : chunk + 1], d[:, place])[::sign])
            times[:, chunk] = ties[:, place].sum(1)
        shares = sign * share.unsqueeze(1) / team.sum(times)
        for chunk, place in _shared_places(d, team, length):
            slope[:, place] += ties[:, place] * shares[:, chunk : chunk + 1]
    return slope


def _shared_places(d: Any, team: Team, length: int) -> Iterator[tuple[int, slice]]:
    """The chunks of which this process has a part, with its place in d."""
    end = team.before + d.shape[1]
    for chunk in range(team.before // length, -(-end // length) if d.shape[1] else 0):
        yield chunk, slice(max(chunk * length - team.before, 0), min((chunk + 1) * length, end) - team.before)


def _shared_ends(d: Any, team: Team, length: int, count: int) -> tuple[Any, Any]:
    """The largest and the smallest of every chunk, (R, count) each."""
    tops, drops = (d.new_full((d.shape[0], count), -math.inf) for _ in range(2))
    for chunk, place in _shared_places(d, team, length):
        tops[:, chunk], drops[:, chunk] = d[:, place].amax(1), -d[:, place].amin(1)
    return team.max(tops), -team.max(drops)


def _chunks(d: Any, n: int, chunks: int) -> tuple[Any, Any]:
    """d (R, *elements) in chunks, (R, count, *elements of one), and what the last one has less, (R, rest), or None."""
    length, _ = chunk_layout(n, chunks)
    inner = d.shape[-1]
    if length % inner == 0 and n % length == 0:  # of whole last axes: to a compiler, loops without divisions
        return d.reshape(d.shape[0], n // length, length // inner, inner), None
    rows, end = d.flatten(1), n // length * length
    return rows[:, :end].unflatten(1, (n // length, length)), rows[:, end:] if end < n else None


def _span_slope(d: Any, share: Any, axis: int) -> Any:
    """share (R) times the slope of max d - min d over the axes from `axis` on."""
    axes = element_axes(d)[axis - 1 :]
    # The reductions of `torch_statistic`, so that a compiler keeps theirs.
    top, bottom = (end.reshape(*end.shape, *[1] * len(axes)) for end in (d.amax(axes), d.amin(axes)))
    is_top, is_bottom = equals(top, d), equals(d, bottom)
    of_top, of_bottom = (beside(share, d) / each.sum(axes, keepdim=True) for each in (is_top, is_bottom))
    return is_top.mul_(of_top).sub_(is_bottom.mul_(of_bottom))


def _open_length(d: Any, n: Any, chunks: int) -> Any:
    """The chunk length of an open number of elements, a scalar tensor of whole numbers."""
    return ((d.new_full((), n, dtype=_int64(d)) + (chunks - 1)) // chunks).clamp(min=2)


def _open_factor(d: Any, n: Any, chunks: int) -> Any:
    length = _open_length(d, n, chunks).to(d.dtype)
    return RANGE_SHARE * EXTREME_NUMERATOR / (8 * length.log()).sqrt()


def _open_chunks(d: Any, n: Any, chunks: int) -> tuple[Any, Any, Any]:
    """An open number of elements, cut: (..., n) -> (..., chunks, width), the place of each and where it is a copy.

    There are at most `chunks` chunks, each in a row of one element more than the longest has: what is beyond its end
    is its last element again.
    """
    length = _open_length(d, n, chunks)
    row = d.new_ones((chunks, 1), dtype=length.dtype).cumsum(0) - 1
    width = (n + (chunks - 1)) // chunks + 1
    column = d.new_ones((1, width), dtype=length.dtype).cumsum(1) - 1
    place = (row * length + column.minimum(length - 1)).clamp(max=n - 1)
    is_copy = (column >= length) | (row * length + column >= n)
    return d.index_select(-1, place.reshape(-1)).reshape(*d.shape[:-1], chunks, width), row.reshape(-1), is_copy


def _open_statistic(d: Any, n: Any, chunks: int) -> Any:
    """Mean range of the chunks of an open number of elements, (..., n) -> (...)."""
    cut, row, _ = _open_chunks(d, n, chunks)
    length = _open_length(d, n, chunks)
    count = (length + (n - 1)) // length
    there = (row < count).to(d.dtype)
    return ((cut.amax(-1) - cut.amin(-1)) * there).sum(-1) / count.to(d.dtype)


def _open_slope(d: Any, n: Any, chunks: int) -> Any:
    """`torch_slope` of an open number of elements, without the constant."""
    cut, _, is_copy = _open_chunks(d, n, chunks)
    length = _open_length(d, n, chunks)
    chunk_of = (d.new_ones((n,), dtype=length.dtype).cumsum(0) - 1) // length

    def shared(ends: Any) -> Any:
        times = ((cut == ends.unsqueeze(-1)) & ~is_copy).sum(-1).to(d.dtype)
        return (d == ends.index_select(-1, chunk_of)) / times.index_select(-1, chunk_of)

    count = (length + (n - 1)) // length
    return (shared(cut.amax(-1)) - shared(cut.amin(-1))) / count.to(d.dtype)


def _int64(like: Any) -> Any:
    """Torch's int64, by a tensor: this module does not import torch."""
    return like.new_zeros(()).long().dtype


# `chunk_layout` in ONNX text: length = max(2, ceil(n / chunks)), number = ceil(n / length), each of shape (1).
_LAYOUT = """
        zero = Constant <value = int64[1] {0}>()
        one = Constant <value = int64[1] {1}>()
        pair = Constant <value = int64[1] {2}>()
        asked = Constant <value_int: int = @chunks>()
        pieces = Unsqueeze(asked, zero)
        listed = Unsqueeze(n, zero)
        reach = Add(listed, pieces)
        reached = Sub(reach, one)
        spread = Div(reached, pieces)
        length = Max(spread, pair)
        stretch = Add(listed, length)
        stretched = Sub(stretch, one)
        number = Div(stretched, length)
        length_scalar = Squeeze(length, zero)
"""

RANGE = NormKind(
    name="range",
    title="Range",
    formula="0.35 * C(L) * (mean over chunks of max d - mean over chunks of min d)",
    statistic=statistic,
    integer_statistic=integer_statistic,
    factor=factor,
    torch_statistic=torch_statistic,
    torch_slope=torch_slope,
    torch_add_slope=torch_add_slope,
    shared=Shared(shared_statistic, shared_slope),
    onnx_constant=_LAYOUT
    + extreme_text("length_scalar", "extreme")
    + f"""
        share64 = Constant <value = double {{{RANGE_SHARE!r}}}>()
        share = CastLike(share64, scale)
        own = Mul(share, extreme)
    """,
    # The last chunk is filled up with copies of its last element: its maximum and minimum stay what they are.
    onnx_statistic="""
        whole = Mul(number, length)
        fill = Sub(whole, listed)
        before = Constant <value = int64[2] {3, 0}>()
        fill_pads = Pad(fill, before)
        filled = Pad <mode = "edge">(rows, fill_pads)
        cut = Concat <axis = 0>(zero, number, length)
        chunked = Reshape(filled, cut)
        tops = ReduceMax <keepdims = 0>(chunked, pair)
        bottoms = ReduceMin <keepdims = 0>(chunked, pair)
        top = ReduceMean <keepdims = 1>(tops, one)
        bottom = ReduceMean <keepdims = 1>(bottoms, one)
        raw = Sub(top, bottom)
        stat = Mul(constant, raw)
    """,
    onnx_integer_statistic="""
        covered = Mul(number, length)
        fill = Sub(covered, listed)
        before = Constant <value = int64[2] {3, 0}>()
        fill_pads = Pad(fill, before)
        filled = Pad <mode = "edge">(r, fill_pads)
        cut = Concat <axis = 0>(zero, number, length)
        chunked = Reshape(filled, cut)
        tops = ReduceMax <keepdims = 0>(chunked, pair)
        bottoms = ReduceMin <keepdims = 0>(chunked, pair)
        spans = Sub(tops, bottoms)
        whole = ReduceSum <keepdims = 1>(spans, along)
        part = Sub(e, e)
        count = Identity(number)
    """,
    by_rows=True,
    parameters=MappingProxyType({"chunks": CHUNKS_DEFAULT}),
    native=3,
    per_std=0.97,  # 0.95 to 0.99 on normal numbers
    extreme=1 / (RANGE_SHARE * extreme_constant(1 << 12)),  # of a chunk, and all of the range on one side
    hint="range",
)
