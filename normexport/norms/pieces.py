"""Rows cut into pieces, so that their largest elements are found by reading most of them once, and copying few.

Whatever is among the k largest of a row lies in one of the k pieces with the largest elements. By tensor methods, as
`norms` is written throughout.
"""

from __future__ import annotations

import math
from typing import Any

from normexport.norms.kind import beside, equals

#: Elements of a piece: the largest divisor of the last axis between these.
_SHORTEST, _LONGEST = 16, 128


def in_pieces(values: Any, k: int) -> Any:
    """A view (..., inner/length, length) of values (R, *elements); None where its k largest are found as fast without.

    That is a last axis of no length that divides well, an open size, no elements, or so few that pieces do not pay.
    """
    if not all(isinstance(size, int) for size in values.shape):
        return None
    inner, elements = values.shape[-1], values[0].numel()
    length = next((each for each in range(_LONGEST, _SHORTEST - 1, -1) if inner % each == 0), 0)
    return values.unflatten(-1, (inner // length, length)) if length and elements >= max(1, 4 * k * length) else None


def at_largest(ends: Any, k: int, rows: int = 1) -> tuple[Any, ...]:
    """An index of the k largest of ends (*rows, *outer), each (*rows, k); `rows`: how many axes are of rows.

    It is also the index of the pieces whose ends they are: of a tensor (*rows, *outer, length), (*rows, k, length).
    """
    outer = ends.shape[rows:]
    place = ends.flatten(rows).topk(k, dim=-1, sorted=False).indices
    at: list[Any] = []
    left = math.prod(outer)
    for size in reversed(outer):
        left //= size
        at.insert(0, 0 if size == 1 else place if left == 1 else place % size)
        place = place // size if size > 1 and left > 1 else place
    return (*(_row(place, axis, rows) for axis in range(rows)), *at)


def largest_size(d: Any, axes: Any) -> Any:
    """The largest |d| along axes, counted from the end, of the ends of d: no tensor of all |d| is written."""
    d = d.unsqueeze(0)  # of a view inductor writes nothing, of d itself, which two reductions read, a copy
    return d.amax(axes).maximum(d.amin(axes).abs()).squeeze(0)


def add_slope_of_largest(out: Any, d: Any, share: Any, k: int) -> Any:
    """Add share (R,) * sign(d) to `out` where |d| is among the k largest; equals of the k-th share what is left evenly.

    The sum of that, (R,); None, and nothing is added, where all of d has to be looked at.
    """
    pieces = in_pieces(d, k)
    if pieces is None:
        return None
    ends = largest_size(pieces, -1)
    at = at_largest(ends, k)
    inside = pieces[at]
    size = inside.abs()
    largest = size.flatten(1).topk(k, dim=-1, sorted=False).values
    kth = largest.amin(-1)
    if ((ends >= beside(kth, ends)).flatten(1).sum(-1) > k).any():  # the k-th has equals in other pieces
        return None
    is_kth = equals(largest, kth.unsqueeze(-1)).sum(-1) / (size == beside(kth, size)).sum((1, 2))
    weight = (size > beside(kth, size)) + (size == beside(kth, size)) * beside(is_kth, size)
    slope = inside.sign() * weight * beside(share, size)
    in_pieces(out, k)[at] += slope
    return slope.sum((1, 2))


def _row(place: Any, axis: int, rows: int) -> Any:
    """0, 1, ... along one axis of the rows, to broadcast against `place` (*rows, k)."""
    count = place.new_ones(place.shape[axis]).cumsum(0) - 1
    return count.reshape(*(-1 if each == axis else 1 for each in range(rows)), 1)
