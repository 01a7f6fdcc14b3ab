"""Operators that read images between their elements, and put windows back together."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from normexport.runtime.float64.operators.resizing import cubic
from normexport.runtime.float64.operators.shape import ints
from normexport.runtime.float64.registry import Call, Unsupported, operator
from normexport.runtime.float64.room import require_room


@operator("GridSample", since=16)
def grid_sample(call: Call, x: Any, grid: Any) -> Any:
    """x (N, C, *space) read at the places of grid (N, *output, axes), -1 to 1, the last axis of space first."""
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(call["mode"], call["mode"])
    space, rank = x.shape[2:], x.ndim - 2
    require_room([*x.shape[:2], *grid.shape[1:-1]], "GridSample")
    taps = [_taps(grid[..., rank - 1 - a], side, mode, call) for a, side in enumerate(space)]
    y = np.zeros((len(x), x.shape[1], *grid.shape[1:-1]))
    samples = np.arange(len(x)).reshape(-1, *[1] * rank)
    for chosen in product(*taps):
        weight = math.prod(w for _, w in chosen)
        key = (samples, slice(None), *(place for place, _ in chosen))
        y += np.moveaxis(x[key] * weight[..., None], -1, 1)
    return y


def _taps(g: Any, side: int, mode: str, call: Call) -> list[tuple[Any, Any]]:
    """(places, weights) along one axis; outside of the image the weight is 0, or the place another."""
    corners, padding = bool(call["align_corners"]), call["padding_mode"]
    at = (g + 1) / 2 * (side - 1) if corners else ((g + 1) * side - 1) / 2
    low, high = (0.0, side - 1.0) if corners else (-0.5, side - 0.5)
    at = np.rint(at) if mode == "nearest" else at
    if padding == "border" and mode != "cubic":  # whose taps are moved inside, not its centre
        at = np.where((at < low) | (at > high), np.clip(at, 0, side - 1), at)
    elif padding == "reflection":
        at = _reflect(at, low, high)
    at = np.where(np.isfinite(at), at, -2.0)
    first = np.floor(np.clip(at, -1e9, 1e9))
    rest = at - first
    if mode == "nearest":
        weights = [(0, np.ones_like(at))]
    elif mode == "linear":
        weights = [(0, 1 - rest), (1, rest)]
    elif mode == "cubic":
        weights = [(i, cubic(np.abs(rest - i), -0.75)) for i in (-1, 0, 1, 2)]
    else:
        raise Unsupported(f"mode {mode} is not known")
    taps = []
    for step, weight in weights:
        place = first + step
        if padding == "reflection":
            place = np.rint(_reflect(place, low, high))
        inside = (place >= 0) & (place < side)
        kept = weight if padding != "zeros" else np.where(inside, weight, 0.0)
        taps.append((np.clip(place, 0, side - 1).astype(np.int64), kept))
    return taps


def _reflect(at: Any, low: float, high: float) -> Any:
    """Folded back and forth between two borders."""
    length = high - low
    if length <= 0:
        return np.full_like(at, low)
    over = np.abs(at - low) % (2 * length)
    return low + np.where(over > length, 2 * length - over, over)


@operator("RoiAlign", since=10)
def roi_align(call: Call, x: Any, rois: Any, batches: Any) -> Any:
    """(rois, C, height, width): of each region the mean, or the largest, of points read between elements."""
    height, width = call["output_height"], call["output_width"]
    require_room([len(rois), x.shape[1], height, width], "RoiAlign")
    require_room([len(rois), height, x.shape[2]], "RoiAlign")
    require_room([len(rois), width, x.shape[3]], "RoiAlign")
    half = call["coordinate_transformation_mode"] == "half_pixel"  # from opset 16 on; before there was no shift
    y = np.zeros((len(rois), x.shape[1], height, width))
    for i, (roi, batch) in enumerate(
        zip(rois * call["spatial_scale"] - (0.5 if half else 0), ints(batches), strict=True)
    ):
        rows = _points(roi[1], roi[3], height, x.shape[2], call["sampling_ratio"], half)
        columns = _points(roi[0], roi[2], width, x.shape[3], call["sampling_ratio"], half)
        y[i] = (_largest if call["mode"] == "max" else _mean)(x[batch], rows, columns)
    return y


#: Per output element and point: places of the two elements around it, and their weights. (sizes, points, 2) each.
Points = tuple[Any, Any]


def _points(begin: float, end: float, size: int, side: int, ratio: int, half: bool) -> Points:
    length = float(end - begin) if half else max(float(end - begin), 1.0)
    each = length / size
    count = ratio if ratio > 0 else max(math.ceil(each), 0)
    require_room([size, count, 4], "RoiAlign")
    at = begin + each * (np.arange(size)[:, None] + (np.arange(count)[None] + 0.5) / max(count, 1))
    outside = (at < -1.0) | (at > side)
    at = np.clip(at, 0, None)
    low = np.minimum(at.astype(np.int64), side - 1)
    high = np.minimum(low + 1, side - 1)
    rest = np.where(low >= side - 1, 0.0, at - low)
    weights = np.stack([1 - rest, rest], axis=-1)
    return np.stack([low, high], axis=-1), np.where(outside[..., None], 0.0, weights)


def _mean(image: Any, rows: Points, columns: Points) -> Any:
    """Both axes are averages of interpolations, so each is one matrix."""
    return np.einsum(
        "ih,chw,jw->cij", _matrix(rows, image.shape[1]), image, _matrix(columns, image.shape[2]), optimize=True
    )


def _matrix(points: Points, side: int) -> Any:
    places, weights = points
    matrix = np.zeros((len(places), side))
    which = np.broadcast_to(np.arange(len(places))[:, None, None], places.shape)
    np.add.at(matrix, (which, places), weights / max(places.shape[1], 1))
    return matrix


def _largest(image: Any, rows: Points, columns: Points) -> Any:
    """The largest weighted corner of all points, as ONNX Runtime and onnx.reference have it."""
    (ys, wy), (xs, wx) = rows, columns
    require_room([len(image), *ys.shape, *xs.shape], "RoiAlign")
    corners = image[:, ys[:, :, :, None, None, None], xs[None, None, None]] * (wy[..., None, None, None] * wx)
    return corners.max(axis=(2, 3, 5, 6), initial=-np.inf) if corners.size else np.zeros((len(image), len(ys), len(xs)))


@operator("Unique", since=11)
def unique(call: Call, x: Any) -> Any:
    """The different elements (or slices along an axis), sorted or in the order in which they come first."""
    axis = call["axis"]
    x = x.ravel() if axis is None else x
    y, first, inverse, counts = np.unique(
        x, return_index=True, return_inverse=True, return_counts=True, axis=0 if axis is None else axis
    )
    inverse = inverse.ravel()
    if not call["sorted"]:
        order = np.argsort(first)
        y, first, counts = np.take(y, order, axis=axis or 0), first[order], counts[order]
        inverse = np.argsort(order)[inverse]
    return y, first.astype(np.int64), inverse.astype(np.int64), counts.astype(np.int64)


@operator("Col2Im", since=18)
def col2im(call: Call, x: Any, image: Any, block: Any) -> Any:
    """Sums of overlapping blocks (N, C * block, places) put back into an image (N, C, *image)."""
    space, kernel = ints(image), ints(block)
    rank = len(space)
    strides, dilations = call["strides"] or [1] * rank, call["dilations"] or [1] * rank
    pads = call["pads"] or [0] * (2 * rank)
    padded = [n + pads[i] + pads[i + rank] for i, n in enumerate(space)]
    counts = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(padded, kernel, dilations, strides, strict=True)]
    channels = x.shape[1] // math.prod(kernel)
    require_room([len(x), channels, *padded], "Col2Im")
    blocks = x.reshape(len(x), channels, *kernel, *counts)
    y = np.zeros((len(x), channels, *padded))
    for tap in np.ndindex(*kernel):
        steps = zip(tap, dilations, strides, counts, strict=True)
        place = (slice(None), slice(None), *(slice(t * d, t * d + s * (n - 1) + 1, s) for t, d, s, n in steps))
        source = (slice(None), slice(None), *tap)
        y[place] += blocks[source]
    inner = (slice(None), slice(None), *(slice(pads[i], pads[i] + n) for i, n in enumerate(space)))
    return y[inner]
