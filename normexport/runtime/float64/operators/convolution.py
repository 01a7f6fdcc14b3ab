"""Convolutions: by torch where it is there, else columns times weights, in blocks of bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from normexport.runtime.float64.operators.quantization import about
from normexport.runtime.float64.operators.windows import Windows, windows_of
from normexport.runtime.float64.registry import Call, Unsupported, as_tensor, operator
from normexport.runtime.float64.room import require_room

_COLUMNS = 1 << 20  # float64 numbers (8 MB) of columns at a time; both torch's convolution and ours make them


@operator("Conv")
def conv(call: Call, x: Any, w: Any, b: Any = None) -> Any:
    """y[n, m, i] = b[m] + sum over its group's c and taps t of w[m, c, t] * x[n, c, stride*i + dilation*t - pad]."""
    return convolve(call, x, w, b)


def convolve(call: Call, x: Any, w: Any, b: Any = None) -> Any:
    """Conv of float64 arrays with the attributes of `call`."""
    group = call["group"] or 1
    if x.ndim < 3 or w.ndim != x.ndim or x.shape[1] != w.shape[1] * group or w.shape[0] % group:
        raise Unsupported(f"weights of shape {w.shape} in {group} groups do not fit an input of shape {x.shape}")
    windows = windows_of(call, x.shape[2:], w.shape[2:])
    shape = (len(x), len(w), *windows.sizes)
    require_room(shape, "a convolution")
    padded = windows.padded(x, 0.0)
    if w.shape[1] == 1 and len(w) == group:
        y = _depthwise(padded, w, windows)
    else:
        y = _in_blocks(call, padded, w, windows, group)
    if b is not None:
        y += b.reshape(-1, *[1] * (x.ndim - 2))
    return y


def _in_blocks(call: Call, padded: Any, w: Any, windows: Windows, group: int) -> Any:
    torch = call.torch if w.ndim <= 5 else None
    y: Any = None
    for part, where, sizes in _blocks(padded, windows, w.shape[1] * group):
        block = replace(windows, sizes=sizes)
        made = _columns(part, w, block, group) if torch is None else _torch(torch, part, w, block, group)
        if made.shape == (len(padded), len(w), *windows.sizes):
            return made
        y = np.empty((len(padded), len(w), *windows.sizes)) if y is None else y
        y[where] = made
    return y if y is not None else np.zeros((len(padded), len(w), *windows.sizes))


def _blocks(padded: Any, windows: Windows, channels: int) -> Iterator[tuple[Any, Any, tuple[int, ...]]]:
    """Parts of a padded input, and where and how large in space is what comes of it: samples, or rows of one."""
    per_row = channels * math.prod(windows.kernel) * math.prod(windows.sizes[1:])
    rows = windows.sizes[0]
    samples = max(1, _COLUMNS // max(1, per_row * rows))
    step = rows if samples > 1 or per_row * rows <= _COLUMNS else max(1, _COLUMNS // max(1, per_row))
    for n in range(0, len(padded), samples):
        for first in range(0, rows, max(step, 1)):
            last = min(first + step, rows)
            start, end = first * windows.strides[0], (last - 1) * windows.strides[0] + windows.reach[0]
            where = (slice(n, n + samples), slice(None), slice(first, last))
            yield padded[n : n + samples, :, start:end], where, (last - first, *windows.sizes[1:])


def _torch(torch: Any, x: Any, w: Any, windows: Windows, group: int) -> Any:
    function = (torch.conv1d, torch.conv2d, torch.conv3d)[w.ndim - 3]
    y = function(as_tensor(torch, x), as_tensor(torch, w), None, windows.strides, 0, windows.dilations, group).numpy()
    key = (slice(None), slice(None), *(slice(n) for n in windows.sizes))
    return y[key]


def _columns(x: Any, w: Any, windows: Windows, group: int) -> Any:
    rank, each, made = len(windows.kernel), w.shape[1], len(w) // group
    y = np.empty((len(x), len(w), *windows.sizes))
    # (n, c, *sizes, *kernel) -> (n, c * kernel, sizes)
    order = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    for g in range(group):
        view = windows.view(x[:, g * each : (g + 1) * each]).transpose(order)
        columns = view.reshape(len(x), each * math.prod(windows.kernel), math.prod(windows.sizes))
        weights = w[g * made : (g + 1) * made].reshape(made, -1)
        y[:, g * made : (g + 1) * made] = np.matmul(weights, columns).reshape(len(x), made, *windows.sizes)
    return y


def _depthwise(padded: Any, w: Any, windows: Windows) -> Any:
    """One filter per channel: tap after tap."""
    y = np.zeros((len(padded), len(w), *windows.sizes))
    scratch = np.empty(y.shape[1:])
    for tap in np.ndindex(*windows.kernel):
        key = (slice(None), 0, *tap)
        factor = w[key].reshape(-1, *[1] * len(tap))
        for sample, result in zip(padded, y, strict=True):
            np.multiply(windows.tap(sample, tap), factor, out=scratch)
            result += scratch
    return y


@operator("ConvTranspose")
def conv_transpose(call: Call, x: Any, w: Any, b: Any = None) -> Any:
    """y[n, g*M + m, stride*i + dilation*t - begin] += x[n, c, i] * w[c, m, t], c in group g of M outputs each."""
    rank, group = x.ndim - 2, call["group"] or 1
    if rank < 1 or w.ndim != x.ndim or x.shape[1] != len(w) or len(w) % group:
        raise Unsupported(f"weights of shape {w.shape} in {group} groups do not fit an input of shape {x.shape}")
    strides, dilations = call["strides"] or (1,) * rank, call["dilations"] or (1,) * rank
    extra = call["output_padding"] or (0,) * rank
    reach = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    full = [(side - 1) * s + r + e for side, s, r, e in zip(x.shape[2:], strides, reach, extra, strict=True)]
    begins, ends = _transposed_pads(call, x.shape[2:], full, strides)
    require_room([len(x), group * w.shape[1], *full], "a transposed convolution")
    y = np.zeros((len(x), group * w.shape[1], *full))
    weights = w.reshape(group, -1, w.shape[1], math.prod(w.shape[2:])).transpose(0, 2, 1, 3)  # g, m, c, tap
    for sample, result in zip(x, y, strict=True):
        inputs = sample.reshape(group, len(w) // group, -1)
        for index, tap in enumerate(np.ndindex(*w.shape[2:])):
            steps = zip(tap, dilations, strides, x.shape[2:], strict=True)
            place = tuple(slice(t * d, t * d + s * (side - 1) + 1, s) for t, d, s, side in steps)
            part = np.matmul(np.ascontiguousarray(weights[..., index]), inputs)
            key = (slice(None), *place)
            result[key] += part.reshape(-1, *x.shape[2:])
    crop = [slice(begin, f - max(end, 0)) for begin, end, f in zip(begins, ends, full, strict=True)]
    key = (slice(None), slice(None), *crop)
    y = y[key]
    if min(ends) < 0:
        require_room([*y.shape[:2], *(n - min(end, 0) for n, end in zip(y.shape[2:], ends, strict=True))], "padding")
        y = np.pad(y, [(0, 0), (0, 0), *((0, max(-end, 0)) for end in ends)])
    return np.ascontiguousarray(y) if b is None else y + b.reshape(-1, *[1] * rank)


def _transposed_pads(call: Call, space: Any, full: Any, strides: Any) -> tuple[list[int], list[int]]:
    """What is cut off before and after; below 0, as many zeros come after.

    Where a size is wanted, both sides lose alike, and SAME_LOWER loses the odd element before.
    """
    rank, auto = len(full), call["auto_pad"] or "NOTSET"
    if call["output_shape"]:
        wanted = list(call["output_shape"])[-rank:]
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [side * s for side, s in zip(space, strides, strict=True)]
    else:
        pads = list(call["pads"] or [0] * (2 * rank)) if auto == "NOTSET" else [0] * (2 * rank)
        return pads[:rank], pads[rank:]
    totals = [f - size for f, size in zip(full, wanted, strict=True)]
    begins = [max(total + (auto == "SAME_LOWER"), 0) // 2 for total in totals]
    return begins, [total - begin for total, begin in zip(totals, begins, strict=True)]


@operator("ConvInteger", since=10)
def conv_integer(call: Call, x: Any, w: Any, x_zero: Any = None, w_zero: Any = None) -> Any:
    """Conv of integers about their zero points, in int32."""
    return _integer_sums(convolve(call, about(x, x_zero, 1), about(w, w_zero, 0)))


def _integer_sums(y: Any) -> Any:
    return y.astype(np.int64).astype(np.int32)


@operator("QLinearConv", since=10)
def qlinear_conv(
    call: Call, x: Any, xs: Any, xz: Any, w: Any, ws: Any, wz: Any, ys: Any, yz: Any, b: Any = None
) -> Any:
    """quantize(Conv(dequantize(x), dequantize(w)) + b): the sums are integers, exact."""
    sums = convolve(call, about(x, xz, 1), about(w, wz, 0), None if b is None else b.astype(np.float64))
    scale = xs * ws / ys
    y = sums * (scale.reshape(-1, *[1] * (x.ndim - 2)) if scale.size > 1 else scale.reshape(()))
    ends = np.iinfo(yz.dtype)
    return np.clip(np.rint(y) + yz.astype(np.float64), ends.min, ends.max).astype(yz.dtype)
