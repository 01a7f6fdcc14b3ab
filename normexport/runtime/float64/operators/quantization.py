"""Cast, and the operators between floats and the small integers that stand for them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from normexport.runtime.float64.registry import Call, Unsupported, operator
from normexport.runtime.float64.types import held, held_as

_SMALL_FLOATS = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float4_e2m1fn")


@operator("Cast")
def cast(call: Call, x: Any) -> Any:
    """To another type; a narrower float that is held in float64 is not rounded."""
    to = call["to"]
    kind = ir.DataType[to.upper()] if isinstance(to, str) else ir.DataType(to)  # opset 1 to 5 names the type
    if kind == ir.DataType.FLOAT8E8M0:
        return _power_of_two(x, str(call["round_mode"] or "up"), bool(call["saturate"]))
    return convert(x, held_as(kind), call["saturate"] != 0)


@operator("CastLike", since=15)
def cast_like(call: Call, x: Any, like: Any) -> Any:
    return convert(x, like.dtype, call["saturate"] != 0)


def convert(x: Any, dtype: Any, saturate: bool = True) -> Any:
    """x in another type, as ONNX's Cast defines it."""
    if dtype.kind == "O":
        return _texts(x)
    if x.dtype == object:
        x = (
            np.array(
                [_number(text) for text in x.ravel().tolist()], dtype=np.float64 if dtype.kind != "c" else dtype
            ).reshape(x.shape)
            if dtype.kind not in "iu"
            else _whole(x)
        )
    if dtype.kind == "b":
        return x.astype(np.float64) != 0 if x.dtype.kind == "V" else x != 0
    if dtype.name in _SMALL_FLOATS:
        return to_small_float(x.astype(np.float64), dtype, saturate)
    if x.dtype.kind == "V" or dtype.kind == "V":  # ml_dtypes convert among numpy's types, not among themselves
        x = x.astype(np.float64)
        if dtype.name in ("int4", "uint4", "int2", "uint2"):  # the low bits, as of any integer
            return np.trunc(x).astype(np.int64).astype(np.int8).astype(dtype)
    return x.astype(dtype)


def _number(text: str) -> Any:
    return float(text.strip().replace("INF", "inf"))


def _whole(x: Any) -> Any:
    numbers = [int(text) if text.strip().lstrip("+-").isdigit() else int(float(text)) for text in x.ravel().tolist()]
    return np.array(numbers).reshape(x.shape)


def _texts(x: Any) -> Any:
    if x.dtype == object:
        return x
    if x.dtype.kind in "fV":
        texts = [str(np.float32(v)) for v in x.astype(np.float64).ravel()]
    else:
        texts = [str(v) for v in x.ravel().tolist()]
    return np.array([{"nan": "NaN", "inf": "INF", "-inf": "-INF"}.get(t, t) for t in texts], dtype=object).reshape(
        x.shape
    )


def to_small_float(x: Any, dtype: Any, saturate: bool) -> Any:
    """float64 -> float8 or float4, to nearest even; what is too large is the largest, or infinite, or NaN."""
    largest = float(ml_dtypes.finfo(dtype).max)
    if saturate or dtype.name == "float4_e2m1fn":
        x = np.clip(x, -largest, largest)
    with np.errstate(all="ignore"):
        return x.astype(dtype)


def _power_of_two(x: Any, mode: str, saturate: bool) -> Any:
    """float8e8m0: the exponent alone, of a positive number."""
    dtype = np.dtype(ml_dtypes.float8_e8m0fnu)
    magnitude = np.abs(x.astype(np.float64))
    exponent = np.log2(np.where(magnitude > 0, magnitude, 2.0**-127))
    low = np.floor(exponent)
    up = {"up": exponent > low, "down": np.zeros_like(exponent, dtype=bool), "nearest": magnitude >= 1.5 * 2.0**low}
    rounded = low + up[mode]
    top = np.minimum(rounded, 127) if saturate else np.where(rounded > 127, np.nan, rounded)
    return np.where(np.isfinite(x), 2.0 ** np.maximum(top, -127), np.nan).astype(dtype)


def _along(v: Any, x: Any, axis: int, block: int) -> Any:
    """A scale or zero point so that it broadcasts: one number, one per element of an axis, or one per block of it."""
    if v.size == 1 and not block:
        return v.reshape(())
    axis %= x.ndim
    if block:
        return np.repeat(v, block, axis=axis)[tuple(slice(n) for n in x.shape)]
    return v.reshape([-1 if i == axis else 1 for i in range(x.ndim)])


def _axis(call: Call) -> int:
    return 1 if call["axis"] is None else int(call["axis"])


def about(x: Any, zero: Any, axis: int) -> Any:
    """x - zero in float64, where sums of products of bytes are exact; a zero point may be one per element of `axis`."""
    x = x.astype(np.float64)
    if zero is None:
        return x
    zero = zero.astype(np.float64)
    if zero.size == 1:
        return x - zero.reshape(())
    return x - (zero if zero.ndim > 1 else zero.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]))


@operator("QuantizeLinear", since=10)
def quantize_linear(call: Call, x: Any, scale: Any, zero: Any = None) -> Any:
    """saturate(round(x / scale) + zero), rounding half to even."""
    wanted = call["output_dtype"]
    dtype = held_as(wanted) if wanted else np.dtype(np.uint8) if zero is None else zero.dtype
    block = call["block_size"] or 0
    y = x.astype(np.float64) / _along(scale.astype(np.float64), x, _axis(call), block)
    offset: Any = 0.0 if zero is None else _along(zero.astype(np.float64), x, _axis(call), block)
    if dtype.name in _SMALL_FLOATS:
        return to_small_float(y + offset, dtype, call["saturate"] != 0)
    return _saturate(np.rint(y) + offset, dtype)


def _saturate(y: Any, dtype: Any) -> Any:
    ends = ml_dtypes.iinfo(dtype)
    y = np.clip(y, float(ends.min), float(ends.max))
    return y.astype(np.int8).astype(dtype) if dtype.name == "int4" else y.astype(dtype)


@operator("DequantizeLinear", since=10)
def dequantize_linear(call: Call, x: Any, scale: Any, zero: Any = None) -> Any:
    """(x - zero) * scale."""
    block = call["block_size"] or 0
    y = x.astype(np.float64)
    if zero is not None:
        y = y - _along(zero.astype(np.float64), x, _axis(call), block)
    return y * _along(scale.astype(np.float64), x, _axis(call), block)


@operator("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(_: Call, x: Any) -> Any:
    """To uint8 by the range of x with 0 in it."""
    low, high = min(0.0, float(x.min(initial=0.0))), max(0.0, float(x.max(initial=0.0)))
    scale = (high - low) / 255
    zero = float(np.clip(np.rint(-low / scale), 0, 255)) if scale else 0.0
    y = np.clip(np.rint(x / scale) + zero, 0, 255) if scale else np.zeros(x.shape)
    return y.astype(np.uint8), np.array(scale), np.array(zero, dtype=np.uint8)


@operator("BitCast", since=26)
def bit_cast(call: Call, x: Any) -> Any:
    """The same bits as another type; floats are not held in the bits of their type here."""
    dtype = ir.DataType(call["to"]).numpy()
    if x.dtype == np.float64 and dtype.itemsize < 8:
        if dtype.itemsize != 4:
            raise Unsupported("16 bits may be those of a float16 or a bfloat16")
        x = x.astype(np.float32)
    return held(np.ascontiguousarray(x).view(dtype).reshape(x.shape))
