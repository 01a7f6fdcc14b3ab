"""Elementwise operators of two and more inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from normexport.runtime.float64.registry import Call, Unsupported, operator
from normexport.runtime.float64.room import require_room


def align(call: Call, a: Any, b: Any) -> tuple[Any, Any]:
    """Both inputs so that numpy broadcasts them; before opset 7, b is aligned at an axis of a."""
    if call.version < 7 and call["broadcast"]:
        axis = call["axis"]
        start = a.ndim - b.ndim if axis is None else axis % a.ndim
        b = b.reshape(b.shape + (1,) * (a.ndim - start - b.ndim))
    require_room(np.broadcast_shapes(a.shape, b.shape), call.operator)
    return a, b


def _binary(name: str, compute: Callable[[Any, Any], Any]) -> None:
    @operator(name)
    def kernel(call: Call, a: Any, b: Any) -> Any:
        return compute(*align(call, a, b))


def divide(a: Any, b: Any) -> Any:
    """a / b; integers are truncated towards zero, as in C."""
    if a.dtype.kind not in "iu":
        return a / b
    if not np.all(b):
        raise Unsupported("an integer is divided by zero")
    quotient = a // b
    return (quotient + ((quotient < 0) & (quotient * b != a))).astype(a.dtype)


def power(a: Any, b: Any) -> Any:
    """a ** b in the type of a; integers are exact and wrap around where no exponent is negative."""
    if a.dtype.kind in "iu":
        if b.dtype.kind == "u" or (b.dtype.kind == "i" and np.all(b >= 0)):
            return np.power(a, b.astype(a.dtype)).astype(a.dtype)
        return np.power(a.astype(np.float64), b).astype(a.dtype)
    return np.power(a, b).astype(a.dtype)


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": divide,
    "Pow": power,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "Equal": np.equal,
    "Greater": np.greater,
    "Less": np.less,
    "GreaterOrEqual": np.greater_equal,
    "LessOrEqual": np.less_equal,
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
}
for _name, _compute in _BINARY.items():
    _binary(_name, _compute)


@operator("Mod")
def mod(call: Call, a: Any, b: Any) -> Any:
    """The remainder with the sign of b, or with `fmod` of a."""
    require_room(np.broadcast_shapes(a.shape, b.shape), "Mod")
    if a.dtype.kind in "iu" and not np.all(b):
        raise Unsupported("an integer is divided by zero")
    return (np.fmod if call["fmod"] else np.mod)(a, b)


@operator("BitShift")
def bit_shift(call: Call, a: Any, b: Any) -> Any:
    return (np.left_shift if call["direction"] == "LEFT" else np.right_shift)(a, b)


@operator("BitwiseNot")
def bitwise_not(_: Call, x: Any) -> Any:
    return np.bitwise_not(x)


@operator("Not")
def logical_not(_: Call, x: Any) -> Any:
    return np.logical_not(x)


def _of_many(inputs: tuple[Any, ...], compute: Callable[[Any, Any], Any]) -> Any:
    require_room(np.broadcast_shapes(*(x.shape for x in inputs)))
    return reduce(compute, inputs)


@operator("Sum")
def sum_of(_: Call, *inputs: Any) -> Any:
    return _of_many(inputs, np.add)


@operator("Mean")
def mean_of(_: Call, *inputs: Any) -> Any:
    return _of_many(inputs, np.add) / len(inputs)


@operator("Max")
def max_of(_: Call, *inputs: Any) -> Any:
    return _of_many(inputs, np.maximum)


@operator("Min")
def min_of(_: Call, *inputs: Any) -> Any:
    return _of_many(inputs, np.minimum)


@operator("Where")
def where(_: Call, condition: Any, a: Any, b: Any) -> Any:
    require_room(np.broadcast_shapes(condition.shape, a.shape, b.shape), "Where")
    return np.where(condition, a, b)


@operator("PRelu")
def prelu(call: Call, x: Any, slope: Any) -> Any:
    """Before opset 7 the slope is one number, or one per channel."""
    if call.version < 7 and slope.ndim == 1 and x.ndim > 1 and slope.size > 1:
        slope = slope.reshape(-1, *[1] * (x.ndim - 2))
    return np.where(x < 0, x * slope, x).astype(x.dtype)


@operator("Clip")
def clip_attributes(call: Call, x: Any) -> Any:
    """Bounds in attributes; those left out are the ends of float32, which a float64 may exceed."""
    given = [call[name] for name in ("min", "max")]
    ends = [None if value is None or abs(value) > 3.4e38 else value for value in given]
    return _clip(x, *ends)


@operator("Clip", since=11)
def clip(_: Call, x: Any, low: Any = None, high: Any = None) -> Any:
    return _clip(x, low, high)


def _clip(x: Any, low: Any, high: Any) -> Any:
    """min(max(x, low), high), which is high where the bounds cross."""
    if low is not None:
        x = np.maximum(x, low)
    return (x if high is None else np.minimum(x, high)).astype(x.dtype, copy=False)
