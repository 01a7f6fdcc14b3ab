"""Operators that naive exports leave between a stored constant and its use, in numpy.

Floating-point arrays are float64, whole numbers int64. Each function takes the node and its input arrays
(None for an absent one).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from normexport.passes.affine import Array, Refuse

Evaluate = Callable[[ir.Node, Sequence[Any]], Array]


def widen(array: Array) -> Array:
    """float64 for floating-point types (bfloat16 too), int64 for whole numbers, bool as it is.

    Raises:
        Refuse: anything else (strings, complex numbers, packed small types).
    """
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return array.astype(np.float64)
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.dtype.kind == "b":
        return array
    raise Refuse(f"constants of type {array.dtype} are not evaluated")


def _cast(node: ir.Node, inputs: Sequence[Any]) -> Array:
    return _converted(inputs[0], ir.DataType(node.attributes.get_int("to", ir.DataType.FLOAT)))


def _cast_like(node: ir.Node, inputs: Sequence[Any]) -> Array:
    like = node.inputs[1]
    if like is None or like.dtype is None:
        raise Refuse(f"the type that {node.op_type} '{node.name}' casts to is unknown")
    return _converted(inputs[0], like.dtype)


def _converted(values: Array, target: ir.DataType) -> Array:
    widen(np.empty(0, target.numpy()))  # refuses what is no number before there is one of it for every element
    return widen(values.astype(target.numpy()))


def _concat(node: ir.Node, inputs: Sequence[Any]) -> Array:
    return np.concatenate(inputs, axis=node.attributes.get_int("axis", 1))


def _shape(node: ir.Node, inputs: Sequence[Any]) -> Array:
    sizes = inputs[0].shape[node.attributes.get_int("start", 0) : node.attributes.get_int("end")]
    return np.asarray(sizes, dtype=np.int64)


def _divide(_: ir.Node, inputs: Sequence[Any]) -> Array:
    if inputs[0].dtype.kind == "i":
        return np.asarray(np.trunc(np.true_divide(inputs[0], inputs[1])), dtype=np.int64)
    return np.asarray(np.true_divide(inputs[0], inputs[1]))


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


def _reduction(function: Callable[..., Any]) -> Evaluate:
    def evaluate(node: ir.Node, inputs: Sequence[Any]) -> Array:
        axes = _axes(node, inputs)
        if not axes and node.attributes.get_int("noop_with_empty_axes", 0) != 0:
            raise Refuse(f"{node.op_type} with noop_with_empty_axes is not evaluated")
        keepdims = bool(node.attributes.get_int("keepdims", 1))
        return np.asarray(function(inputs[0], axis=axes or None, keepdims=keepdims))

    return evaluate


def _elementwise(function: Callable[..., Any]) -> Evaluate:
    return lambda _, inputs: np.asarray(function(*inputs))


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
    "Abs": _elementwise(np.abs),
    "Add": _elementwise(np.add),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Concat": _concat,
    "Div": _divide,
    "Exp": _elementwise(np.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Identity": _elementwise(np.asarray),
    "Log": _elementwise(np.log),
    "Max": lambda _, inputs: np.asarray(np.maximum.reduce(np.broadcast_arrays(*inputs))),
    "Min": lambda _, inputs: np.asarray(np.minimum.reduce(np.broadcast_arrays(*inputs))),
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "Pow": _elementwise(np.power),
    "Reciprocal": _elementwise(np.reciprocal),
    "ReduceL1": _reduction(_l1),
    "ReduceL2": _reduction(_l2),
    "ReduceMax": _reduction(np.max),
    "ReduceMean": _reduction(np.mean),
    "ReduceSum": _reduction(np.sum),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sqrt": _elementwise(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _elementwise(np.subtract),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
