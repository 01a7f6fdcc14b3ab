"""Of the two operands of a step of a chain, which is the tensor and which the constant, and along which axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.dtypes import FLOATS
from normexport.folding import targets
from normexport.folding.allowance import TooLarge
from normexport.folding.graph import Draft
from normexport.folding.per_channel import Array, Vector
from normexport.graphs.nodes import label, op
from normexport.graphs.refusal import Refuse

OPERATORS = ("Add", "Div", "Mul", "Sub", "Sum")
_BY_NUMBER = (*OPERATORS, "Abs", "Cast", "Exp", "Identity", "Neg", "Pow", "Reciprocal", "Sqrt")
_STEPS = 6  # from an Expand to where a norm uses what it made: a variance, epsilon, root, reciprocal, gamma


@dataclass(frozen=True, eq=False)
class Operands:
    """Which input is the tensor and which the constant; its values (C,) or (1,), their axis, and whether they count."""

    data: int
    constant: int
    values: Vector
    axis: int
    per_channel: bool

    def lies_on(self, axis: int) -> bool:
        """Whether the values are those of this axis, or one for all."""
        return len(self.values) == 1 or self.axis == axis


def operands(node: ir.Node, draft: Draft) -> Operands | None:
    """The operands of one step; None where neither or both are constant, or the constant is not per channel.

    Raises:
        Refuse: the constant has the form of one value per channel, but the tensor's rank or channel count is not known,
            or the constant is not evaluated.
    """
    if op(node) not in OPERATORS or draft.opset < 7 or len(node.inputs) != 2:
        return None
    first, second = node.inputs
    if first is None or second is None:
        return None
    constants = [_constant(each, other, draft) for each, other in ((first, second), (second, first))]
    if constants[0] is None and constants[1] is None:
        _refuse_uncomputed(node, draft)
    index = 0 if constants[0] is not None else 1
    value, data = constants[index], (second, first)[index]
    if value is None or constants[1 - index] is not None or (index == 0 and op(node) == "Div"):
        return None
    return _read(node, index, value, data, draft)


def read_operand(node: ir.Node, index: int, data: int, draft: Draft) -> Operands | None:
    """Input `index`, a constant, beside input `data`; as `operands` where a node has more than two."""
    value, tensor = node.inputs[index], node.inputs[data]
    return None if value is None or tensor is None else _read(node, index, value, tensor, draft)


def _read(node: ir.Node, index: int, value: ir.Value, data: ir.Value, draft: Draft) -> Operands | None:
    shape = _constant_shape(value, draft)
    if shape is None or 0 in shape:
        return None
    if sum(size != 1 for size in shape) > 1:
        return _read_spread(index, value, data, shape, draft)
    rank = draft.shapes.rank(data)
    if rank is None:
        _refuse_unknown(node, data, value, shape, "rank")
        return None
    aligned = (1,) * (rank - len(shape)) + shape
    if len(aligned) != rank or rank < 2:
        return None
    axis = next((axis for axis, size in enumerate(aligned) if size != 1), 1)
    channels = draft.shapes.size(data, axis)
    if aligned[axis] > 1 and channels is None:
        _refuse_unknown(node, data, value, shape, "channel count")
        return None
    if aligned[axis] not in (1, channels):
        return None  # a single channel that the constant broadcasts to many
    values = draft.constants.array(value)
    if values.dtype.kind != "f":
        return None
    counts = aligned[axis] > 1 or (channels == 1 and len(shape) >= rank - 1)
    return Operands(1 - index, index, values.reshape(-1), axis, counts)


def _read_spread(index: int, value: ir.Value, data: ir.Value, shape: tuple[int, ...], draft: Draft) -> Operands | None:
    """The operands where a constant that is stored for every position is the same at all those of a channel."""
    sizes = draft.shapes.of(data)
    front = len(sizes) - len(shape) if sizes is not None else -1
    if sizes is None or front < 0 or len(sizes) < 2:
        return None
    if any(size not in (1, known) for size, known in zip(shape, sizes[front:], strict=True)):
        return None
    tensor = value.const_value if value.is_initializer() else None
    stored = draft.constants.array(value) if tensor is None else np.asarray(tensor.numpy())
    place = _only_axis(stored)
    if place is None or (stored.dtype.kind != "f" and stored.dtype.name not in FLOATS):
        return None
    vector = np.asarray(stored[tuple(slice(None) if i == place else 0 for i in range(len(shape)))], np.float64)
    per_channel = len(vector) > 1 and bool(np.any(vector != vector[0]))
    return Operands(1 - index, index, vector, front + place, per_channel)


def _only_axis(stored: Array) -> int | None:
    """The axis along which the numbers differ, the first one where they do not; None where it is not the only one."""
    first = stored[(0,) * stored.ndim]
    found = None
    for axis, size in enumerate(stored.shape):
        line = stored[tuple(slice(None) if i == axis else 0 for i in range(stored.ndim))]
        if size > 1 and np.any(line != first):
            if found is not None:
                return None  # seen without reading the whole of a large one
            found = axis
    axis = 0 if found is None else found
    line = stored[tuple(slice(None) if i == axis else slice(1) for i in range(stored.ndim))]
    return axis if np.array_equal(np.broadcast_to(line, stored.shape), stored) else None


def _constant(value: ir.Value, data: ir.Value, draft: Draft) -> ir.Value | None:
    """The constant that an operand is beside `data`: itself, or what an Expand spreads to the shape of `data`."""
    if value in draft.constants:
        return value
    node = value.producer()
    if node is None or op(node) not in ("ConstantOfShape", "Expand") or data in draft.constants:
        return None
    inner, shape = (node.inputs[0], node.inputs[-1])
    if op(node) == "ConstantOfShape" or inner is None or shape is None or inner not in draft.constants:
        return None
    target, rank = targets.entries(shape, draft), draft.shapes.rank(data)
    if target is None or rank is None or len(target) > rank:
        return None
    front = rank - len(target)
    same = (size == 1 or targets.is_same(size, data, front + i, draft) for i, size in enumerate(target))
    return inner if all(same) else None


def _constant_shape(value: ir.Value, draft: Draft) -> tuple[int, ...] | None:
    # A stored constant tells its shape without being read: this also meets large weights.
    if value.is_initializer() and value.const_value is not None:
        return tuple(size if isinstance(size, int) else 0 for size in value.const_value.shape)
    if value.shape is not None and sum(size != 1 for size in value.shape) > 1 and not _is_spread(value):
        return None  # no vector, and so not worth computing
    try:
        return draft.constants.array(value).shape
    except TooLarge:
        raise  # a limit that was met is told
    except Refuse:
        if _looks_per_channel(draft.shapes.of(value)):
            raise
        return None


def _is_spread(value: ir.Value) -> bool:
    """Whether a value follows from what is stored or expanded for every position, number by number."""
    pending = [(value, 0)]
    while pending:
        each, depth = pending.pop()
        node = each.producer()
        if node is not None and op(node) in ("Constant", "Expand", "Tile"):
            return True
        if node is not None and op(node) in _BY_NUMBER and depth < _STEPS:
            pending += [(before, depth + 1) for before in node.inputs if before is not None]
    return False


def _looks_per_channel(sizes: Sequence[int | None] | None) -> bool:
    return sizes is not None and sum(size != 1 for size in sizes) == 1 and None not in sizes


def _refuse_uncomputed(node: ir.Node, draft: Draft) -> None:
    """Tell of an operand that is the same at every inference, one number per channel, and is not evaluated."""
    for value in node.inputs:
        if value is None or op(node) in ("Add", "Sum") or not draft.constants.is_fixed(value):
            continue
        if _looks_per_channel(draft.shapes.of(value)):
            raise Refuse(f"{label(node)}: {draft.constants.why_not(value)}")


def _refuse_unknown(node: ir.Node, data: ir.Value, value: ir.Value, shape: tuple[int, ...], what: str) -> None:
    looks_per_channel = max(shape, default=1) > 1 and (len(shape) > 2 or what == "channel count")
    if looks_per_channel and op(node) not in ("Add", "Sum"):
        raise Refuse(
            f"{label(node)} with '{value.name}' {shape} looks like one value per channel, but the {what} of "
            f"'{data.name}' is unknown"
        )
