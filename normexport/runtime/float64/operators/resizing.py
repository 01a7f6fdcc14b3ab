"""Resize and Upsample: one matrix of weights per axis, from the coordinates that each output reads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from normexport.runtime.float64.operators.shape import ints
from normexport.runtime.float64.registry import Call, Unsupported, operator
from normexport.runtime.float64.room import require_room


@operator("Upsample")
def upsample(call: Call, x: Any, scales: Any = None) -> Any:
    factors = scales if scales is not None else call["scales"]
    if factors is None:
        factors = [1.0, 1.0, call["height_scale"], call["width_scale"]]
    return _asymmetric(x, factors, call["mode"])


@operator("Resize", since=10)
def resize_early(call: Call, x: Any, scales: Any) -> Any:
    return _asymmetric(x, scales, call["mode"])


def _asymmetric(x: Any, scales: Any, mode: str) -> Any:
    how = {"coordinate_transformation_mode": "asymmetric"}
    return _resize(x, how, "linear" if mode in ("linear", "bilinear") else mode, _floats(scales), None, None)


@operator("Resize", since=11)
def resize(call: Call, x: Any, roi: Any = None, scales: Any = None, sizes: Any = None) -> Any:
    axes = [a % x.ndim for a in call["axes"]] if call["axes"] else list(range(x.ndim))
    borders = None
    if roi is not None and roi.size:
        borders = [[0.0, 1.0] for _ in range(x.ndim)]
        for i, axis in enumerate(axes):
            borders[axis] = [float(roi[i]), float(roi[i + len(axes)])]
    factors, wanted = [1.0] * x.ndim, list(x.shape)
    if sizes is not None and sizes.size:
        for axis, size in zip(axes, _fitting(call, [x.shape[a] for a in axes], ints(sizes)), strict=True):
            factors[axis], wanted[axis] = size
        return _resize(x, call.attributes, call["mode"], factors, wanted, borders)
    if scales is None or not scales.size:
        raise Unsupported("neither scales nor sizes are given")
    for axis, factor in zip(axes, _floats(scales), strict=True):
        factors[axis] = factor
    return _resize(x, call.attributes, call["mode"], factors, None, borders)


def _floats(values: Any) -> list[float]:
    return [float(v) for v in np.asarray(values).ravel()]


def _fitting(call: Call, sides: list[int], sizes: list[int]) -> list[tuple[float, int]]:
    """(scale, size) per axis; the aspect ratio is kept where the policy says so."""
    policy = call["keep_aspect_ratio_policy"] or "stretch"
    if policy == "stretch":
        return [(size / side if side else 1.0, size) for size, side in zip(sizes, sides, strict=True)]
    ratios = [size / side for size, side in zip(sizes, sides, strict=True)]
    factor = (min if policy == "not_larger" else max)(ratios)
    return [(factor, math.floor(factor * side + 0.5)) for side in sides]


def _resize(x: Any, how: Any, mode: str, factors: list[float], sizes: Any, roi: Any) -> Any:
    transform = how["coordinate_transformation_mode"]
    cropping = transform == "tf_crop_and_resize"
    if sizes is None:
        sizes = [
            math.floor(n * (roi[i][1] - roi[i][0]) * f) if cropping and roi else math.floor(n * f)
            for i, (n, f) in enumerate(zip(x.shape, factors, strict=True))
        ]
    if min(sizes, default=0) < 0 or (x.size == 0 and 0 not in sizes):
        raise Unsupported(f"an input of shape {x.shape} has no size {tuple(sizes)}")
    if 0 in sizes:
        return np.zeros(sizes, x.dtype)
    require_room(sizes, "Resize")
    outside = np.zeros((), dtype=bool)
    y = x.astype(np.float64)
    for axis, (side, size, factor) in enumerate(zip(x.shape, sizes, factors, strict=True)):
        borders = roi[axis] if roi else (0.0, 1.0)
        if size == side and factor == 1.0 and not (cropping and tuple(borders) != (0.0, 1.0)):
            continue
        # Which element is nearest is decided in float32, as runtimes do: 1.5 / 0.6 - 0.5 lies on an edge.
        dtype = np.float32 if mode == "nearest" else np.float64
        at = _coordinates(transform, side, size, factor, borders, dtype)
        if cropping:
            beyond = (at < 0) | (at > side - 1)
            outside = outside | beyond.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
        y = _along(y, axis, at, how, mode, factor)
    if outside.any():
        y = np.where(outside, how.get("extrapolation_value", 0.0), y)
    return y if x.dtype == np.float64 else _back(y, x.dtype)


def _back(y: Any, dtype: Any) -> Any:
    """Integers are interpolated in floats, and cut off."""
    if dtype.kind not in "iu":
        return y.astype(dtype)
    ends = np.iinfo(dtype)
    return np.clip(np.trunc(y), ends.min, ends.max).astype(dtype)


def _coordinates(transform: str, side: int, size: int, factor: float, roi: Any, dtype: Any) -> Any:
    """Where in the input each output element lies."""
    at, scale = np.arange(size, dtype=dtype), dtype(factor)
    if transform == "asymmetric":
        return at / scale
    if transform == "half_pixel":
        return (at + dtype(0.5)) / scale - dtype(0.5)
    if transform == "half_pixel_symmetric":
        # the real size may not be a whole number: what is lost is lost on both sides alike
        offset = dtype(side / 2) * (dtype(1) - dtype(size) / (scale * dtype(side)))
        return offset + (at + dtype(0.5)) / scale - dtype(0.5)
    if transform == "pytorch_half_pixel":
        return (at + dtype(0.5)) / scale - dtype(0.5) if size > 1 else at
    if transform == "tf_half_pixel_for_nn":
        return (at + dtype(0.5)) / scale
    if transform == "align_corners":
        # The corners of what is made, as PyTorch and ONNX Runtime have it; onnx.reference takes scale * side for its
        # length: 0.6 of 4 elements are 2.4, of which 2 are made.
        return at * dtype(side - 1) / dtype(size - 1) if size != 1 else at
    if transform == "tf_crop_and_resize":
        begin, end = roi
        if size > 1:
            return begin * (side - 1) + at * (end - begin) * (side - 1) / (size - 1)
        return np.full(size, 0.5 * (begin + end) * (side - 1))
    raise Unsupported(f"coordinate_transformation_mode {transform} is not known")


def _along(x: Any, axis: int, at: Any, how: Any, mode: str, scale: float) -> Any:
    side = x.shape[axis]
    if mode == "nearest":
        rounding = how.get("nearest_mode") or (
            "ceil" if scale < 1 else "floor"
        )  # opset 10 does not say: ONNX Runtime's
        return np.take(x, np.clip(_nearest(at, rounding), 0, side - 1), axis=axis)
    taps = _taps(at, how, mode, scale if how.get("antialias") and scale < 1 else 1.0)
    places = np.concatenate([place for place, _ in taps]).reshape(len(taps), -1)
    weights = np.concatenate([weight for _, weight in taps]).reshape(len(taps), -1)
    if how.get("exclude_outside"):
        weights = np.where((places < 0) | (places >= side), 0.0, weights)
    weights = weights / weights.sum(axis=0)
    places = np.clip(places, 0, side - 1)
    shape = [-1 if i == axis else 1 for i in range(x.ndim)]
    y: Any = 0.0
    for place, weight in zip(places, weights, strict=True):
        y = y + np.take(x, place, axis=axis) * weight.reshape(shape)
    return y


def _nearest(at: Any, how: str) -> Any:
    if how == "floor":
        return np.floor(at).astype(np.int64)
    if how == "ceil":
        return np.ceil(at).astype(np.int64)
    if how == "round_prefer_ceil":
        return np.floor(at + 0.5).astype(np.int64)
    return np.ceil(at - 0.5).astype(np.int64)  # round_prefer_floor


def _taps(at: Any, how: Any, mode: str, scale: float) -> list[tuple[Any, Any]]:
    """(places, weights) of each neighbour; antialiasing widens the filter by 1/scale."""
    if mode not in ("linear", "cubic"):
        raise Unsupported(f"mode {mode} is not known")
    reach = (1 if mode == "linear" else 2) / scale
    first = np.floor(at - reach).astype(np.int64) + 1
    a = how.get("cubic_coeff_a", -0.75)
    taps = []
    for i in range(math.ceil(2 * reach) + (scale < 1)):
        distance = np.abs((first + i - at) * scale)
        taps.append((first + i, np.maximum(1 - distance, 0) if mode == "linear" else cubic(distance, a)))
    return taps


def cubic(d: Any, a: float) -> Any:
    """Keys' cubic kernel at distance d."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
