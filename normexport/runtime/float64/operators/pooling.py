"""Pools: the largest, the mean, the p-norm of windows and of all of space."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from normexport.runtime.float64.operators.windows import Windows, windows_of
from normexport.runtime.float64.registry import Call, operator
from normexport.runtime.float64.room import require_room


def _pool_windows(call: Call, x: Any) -> Windows:
    windows = windows_of(call, x.shape[2:], call["kernel_shape"], rounds_up=bool(call["ceil_mode"]))
    require_room([*x.shape[:2], *windows.sizes], call.operator)
    return windows


@operator("MaxPool")
def max_pool(call: Call, x: Any) -> Any:
    """The largest element of each window, and its place in x; padding never wins."""
    windows = _pool_windows(call, x)
    low = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    padded = windows.padded(x, low)
    taps = np.ndindex(*windows.kernel)
    y = windows.tap(padded, next(taps)).copy()
    if not call.wants(1):
        for tap in taps:
            np.maximum(y, windows.tap(padded, tap), out=y)
        return y
    space = x.shape[2:]
    places = np.full(y.shape, -1, dtype=np.int64)
    for tap in np.ndindex(*windows.kernel):
        value = windows.tap(padded, tap)
        inside, place = _place(windows, tap, space, bool(call["storage_order"]))
        better = inside & ((value > y) | (places < 0) | (np.isnan(value) & ~np.isnan(y)))
        y = np.where(better, value, y)
        places = np.where(better, place, places)
    planes = np.arange(math.prod(x.shape[:2])).reshape(*x.shape[:2], *[1] * len(space)) * math.prod(space)
    return y, places + planes


def _place(windows: Windows, tap: Any, space: Any, column_major: bool) -> tuple[Any, Any]:
    """For each output whether its tap lies inside, and the tap's place in a plane."""
    rank, inside, place, factor = len(space), np.True_, np.int64(0), 1
    for axis in range(rank) if column_major else reversed(range(rank)):
        at = np.arange(windows.sizes[axis]) * windows.strides[axis] + tap[axis] * windows.dilations[axis]
        at = (at - windows.begins[axis]).reshape([-1 if i == axis else 1 for i in range(rank)])
        inside = inside & (at >= 0) & (at < space[axis])
        place = place + at * factor
        factor *= space[axis]
    return inside, place


@operator("AveragePool")
def average_pool(call: Call, x: Any) -> Any:
    """The mean of each window: of what lies in x, or also of the padding that `pads` names."""
    windows = _pool_windows(call, x)
    y = _sums(windows, x)
    counted = np.ones((1, 1, *x.shape[2:]))
    if call["count_include_pad"]:
        pads = list(zip(windows.begins, windows.ends, strict=True))
        counted = np.ones((1, 1, *(s + b + e for s, (b, e) in zip(x.shape[2:], pads, strict=True))))
        windows = Windows(
            windows.kernel, windows.strides, windows.dilations, (0,) * len(pads), (0,) * len(pads), windows.sizes
        )
    y /= _sums(windows, counted)
    return y


def _sums(windows: Windows, x: Any) -> Any:
    padded = windows.padded(x, 0.0)
    y = np.zeros((*x.shape[:2], *windows.sizes))
    for tap in np.ndindex(*windows.kernel):
        y += windows.tap(padded, tap)
    return y


@operator("LpPool")
def lp_pool(call: Call, x: Any) -> Any:
    """(sum |x|^p)^(1/p) of each window."""
    p = call["p"] or 2
    return _sums(_pool_windows(call, x), np.abs(x) ** p) ** (1 / p)


def _space(x: Any) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


@operator("GlobalAveragePool")
def global_average_pool(_: Call, x: Any) -> Any:
    return x.mean(axis=_space(x), keepdims=True)


@operator("GlobalMaxPool")
def global_max_pool(_: Call, x: Any) -> Any:
    return x.max(axis=_space(x), keepdims=True)


@operator("GlobalLpPool")
def global_lp_pool(call: Call, x: Any) -> Any:
    p = call["p"] or 2
    return (np.abs(x) ** p).sum(axis=_space(x), keepdims=True) ** (1 / p)
