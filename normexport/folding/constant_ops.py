"""Operators that naive exports leave between a stored constant and its use, in numpy.

Floating-point arrays are float64; whole numbers keep the type that the model stores them in, and wrap around as it does
(200 + 100 is 44 in uint8). Each function takes the node and its input arrays (None for an absent one). What ONNX does
not define of whole numbers (a division by zero, the mean, numbers that the target of a Cast can't hold) is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from normexport.dtypes import FLOATS
from normexport.folding.per_channel import Array
from normexport.graphs.refusal import Refuse

Evaluate = Callable[[ir.Node, Sequence[Any]], Array]


def widen(array: Array) -> Array:
    """float64 for floating-point types (bfloat16 too), whole numbers and bool as they are.

    Raises:
        Refuse: anything else (strings, complex numbers, packed small types).
    """
    if array.dtype.kind == "f" or array.dtype.name in FLOATS:
        return array.astype(np.float64)
    if array.dtype.kind in "iub":
        return array
    raise Refuse(f"constants of type {array.dtype} are not evaluated")


def _cast(node: ir.Node, inputs: Sequence[Any]) -> Array:
    return _convert(inputs[0], ir.DataType(node.attributes.get_int("to", ir.DataType.FLOAT)))


def _cast_like(node: ir.Node, inputs: Sequence[Any]) -> Array:
    like = node.inputs[1]
    if like is None or like.dtype is None:
        raise Refuse(f"the type that {node.op_type} '{node.name}' casts to is unknown")
    return _convert(inputs[0], like.dtype)


def _convert(values: Array, target: ir.DataType) -> Array:
    dtype = target.numpy()
    widen(np.empty(0, dtype))  # refuses what is no number before there is one of it for every element
    if dtype.kind in "iu" and values.dtype.kind == "f":
        whole = np.trunc(values)
        limits = np.iinfo(dtype)
        if not np.all((whole >= float(limits.min)) & (whole < float(limits.max) + 1)):
            raise Refuse(f"it casts numbers that {target.name.lower()} does not hold")
    return widen(values.astype(dtype))


def _concat(node: ir.Node, inputs: Sequence[Any]) -> Array:
    return np.concatenate(inputs, axis=node.attributes.get_int("axis", 1))


def _shape(node: ir.Node, inputs: Sequence[Any]) -> Array:
    sizes = inputs[0].shape[node.attributes.get_int("start", 0) : node.attributes.get_int("end")]
    return np.asarray(sizes, dtype=np.int64)


def _divide(node: ir.Node, inputs: Sequence[Any]) -> Array:
    first, second = inputs
    if first.dtype.kind == "f":
        return np.asarray(np.true_divide(first, second))
    _check_whole(node, inputs)
    least = np.iinfo(first.dtype).min
    if np.any(second == 0) or (least < 0 and np.any((first == least) & (second == -1))):
        raise Refuse("it divides whole numbers by zero, or the least of them by -1")
    quotient = first // second  # towards minus infinity, and ONNX towards zero
    return np.asarray(quotient + ((first % second != 0) & ((first < 0) != (second < 0))).astype(first.dtype))


def _check_whole(node: ir.Node, inputs: Sequence[Any]) -> None:
    """Whether operands that ONNX wants of one type are, and are numbers.

    Raises:
        Refuse: they are not.
    """
    types = {each.dtype for each in inputs if each is not None}
    if len(types) > 1 or any(dtype.kind == "b" for dtype in types):
        raise Refuse(f"{node.op_type} is not defined for {' and '.join(sorted(str(dtype) for dtype in types))}")


def _axes(node: ir.Node, inputs: Sequence[Any]) -> tuple[int, ...] | None:
    """Axes from the second input (new opsets) or the attribute (old ones); None: not given."""
    if len(inputs) > 1 and inputs[1] is not None:
        return tuple(int(axis) for axis in inputs[1].reshape(-1))
    axes = node.attributes.get_ints("axes")
    return None if axes is None else tuple(int(axis) for axis in axes)


def _reshape(node: ir.Node, inputs: Sequence[Any]) -> Array:
    data, target = np.asarray(inputs[0]), [int(size) for size in inputs[1]]
    if not node.attributes.get_int("allowzero", 0):
        target = [data.shape[i] if size == 0 else size for i, size in enumerate(target)]
    return np.asarray(data.reshape(target))


def _squeeze(node: ir.Node, inputs: Sequence[Any]) -> Array:
    return np.asarray(np.squeeze(inputs[0], axis=_axes(node, inputs)))


def _unsqueeze(node: ir.Node, inputs: Sequence[Any]) -> Array:
    axes = _axes(node, inputs)
    return np.asarray(inputs[0] if axes is None else np.expand_dims(inputs[0], axes))


def _transpose(node: ir.Node, inputs: Sequence[Any]) -> Array:
    return np.transpose(inputs[0], node.attributes.get_ints("perm"))


def _flatten(node: ir.Node, inputs: Sequence[Any]) -> Array:
    axis, shape = node.attributes.get_int("axis", 1), inputs[0].shape
    rows = int(np.prod(shape[: axis if axis >= 0 else axis + len(shape)], dtype=np.int64))
    return np.asarray(inputs[0].reshape(rows, -1))


def _expand(_: ir.Node, inputs: Sequence[Any]) -> Array:
    target = tuple(int(size) for size in inputs[1])
    return np.broadcast_to(inputs[0], np.broadcast_shapes(inputs[0].shape, target))


def _reduction(function: Callable[..., Any], *, whole: bool = False) -> Evaluate:
    """A reduction over axes; `whole`: defined for whole numbers too, whose type it keeps."""

    def evaluate(node: ir.Node, inputs: Sequence[Any]) -> Array:
        if inputs[0].dtype.kind != "f" and not whole:
            raise Refuse(f"{node.op_type} of {inputs[0].dtype} is not evaluated")
        axes = _axes(node, inputs)
        if not axes and node.attributes.get_int("noop_with_empty_axes", 0) != 0:
            raise Refuse(f"{node.op_type} with noop_with_empty_axes is not evaluated")
        keepdims = bool(node.attributes.get_int("keepdims", 1))
        return np.asarray(function(inputs[0], axis=axes or None, keepdims=keepdims))

    return evaluate


def _sum(data: Array, **keywords: Any) -> Array:
    return np.asarray(np.sum(data, dtype=data.dtype, **keywords))


def _arithmetic(function: Callable[..., Any]) -> Evaluate:
    """Element by element, of floats or of whole numbers of one type."""

    def evaluate(node: ir.Node, inputs: Sequence[Any]) -> Array:
        _check_whole(node, inputs)
        return np.asarray(function(*inputs))

    return evaluate


def _of_floats(function: Callable[..., Any]) -> Evaluate:
    """Element by element, the first operand floating."""

    def evaluate(node: ir.Node, inputs: Sequence[Any]) -> Array:
        if inputs[0].dtype.kind != "f":
            raise Refuse(f"{node.op_type} of {inputs[0].dtype} is not evaluated")
        return np.asarray(function(*inputs))

    return evaluate


def _most(function: np.ufunc) -> Evaluate:
    return _arithmetic(lambda *inputs: function.reduce(np.broadcast_arrays(*inputs)))


def _l2(data: Array, **keywords: Any) -> Array:
    return np.asarray(np.sqrt(np.sum(data * data, **keywords)))


def _l1(data: Array, **keywords: Any) -> Array:
    return np.asarray(np.sum(np.abs(data), **keywords))


def elements(node: ir.Node, inputs: Sequence[Any]) -> int:
    """How many numbers evaluating the node makes at most, temporary ones included, by shapes alone.

    Raises:
        ValueError, TypeError: the shapes do not fit together.
    """
    name = node.op_type
    if name == "Concat":
        return sum(each.size for each in inputs)
    if name == "Expand":
        return math.prod(np.broadcast_shapes(inputs[0].shape, tuple(int(size) for size in inputs[1])))
    if name in _ELEMENTWISE:
        every = len(inputs) if name in ("Max", "Min") else 1  # these lay all of them side by side
        return every * math.prod(np.broadcast_shapes(*(each.shape for each in inputs)))
    return int(inputs[0].size)


_ELEMENTWISE = ("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub")

OPERATORS: dict[str, Evaluate] = {
    "Abs": _arithmetic(np.abs),
    "Add": _arithmetic(np.add),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Concat": _concat,
    "Div": _divide,
    "Exp": _of_floats(np.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Identity": lambda _, inputs: np.asarray(inputs[0]),
    "Log": _of_floats(np.log),
    "Max": _most(np.maximum),
    "Min": _most(np.minimum),
    "Mul": _arithmetic(np.multiply),
    "Neg": _arithmetic(np.negative),
    "Pow": _of_floats(np.power),
    "Reciprocal": _of_floats(np.reciprocal),
    "ReduceL1": _reduction(_l1),
    "ReduceL2": _reduction(_l2),
    "ReduceMax": _reduction(np.max, whole=True),
    "ReduceMean": _reduction(np.mean),
    "ReduceSum": _reduction(_sum, whole=True),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sqrt": _of_floats(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _arithmetic(np.subtract),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
