"""What a shape says that is computed at inference: which of its sizes are numbers, and which are sizes of a tensor.

Exporters write `x.reshape(n, c, -1)` as Shape, Gather, Unsqueeze and Concat. Each entry of such a shape is a number,
an axis of a value, or None where it is computed otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from normexport.folding.graph import Draft
from normexport.graphs.nodes import op
from normexport.graphs.refusal import Refuse

_DEPTH = 40
_KEEP_SIZES = frozenset(
    ("Cast", "Clip", "Dropout", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Neg", "Relu", "Sigmoid", "Tanh")
)
_KEEP_BATCH = frozenset(
    ("AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")
)
_OF_TWO = frozenset(("Add", "Div", "Mul", "Sub"))


@dataclass(frozen=True)
class Axis:
    """The size of one axis of a value."""

    value: ir.Value
    axis: int


Entry = int | Axis | None


def entries(shape: ir.Value, draft: Draft, depth: int = 0) -> list[Entry] | None:
    """The entries of a vector of sizes, None where not even their number is known."""
    try:
        return _entries(shape, draft, depth)
    except (Refuse, IndexError):
        return None


def _entries(shape: ir.Value, draft: Draft, depth: int) -> list[Entry] | None:
    if shape in draft.constants:
        array = draft.constants.array(shape).reshape(-1)
        return [int(size) for size in array] if array.dtype.kind in "iu" and array.size < 64 else None
    node = shape.producer()
    if node is None or depth > _DEPTH:
        return None
    name = op(node)
    if name == "Shape":
        return _of_shape(node, draft)
    read = [None if each is None else entries(each, draft, depth + 1) for each in node.inputs]
    first = read[0] if read else None
    if name == "Concat":
        parts = [part for part in read if part is not None]
        return [entry for part in parts for entry in part] if len(parts) == len(read) else None
    if first is None:
        return None
    if name in ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"):
        return first
    if name == "Gather":
        places = draft.constants.array(node.inputs[1]).reshape(-1)
        return [first[int(place)] for place in places]
    if name == "Slice" and len(node.inputs) < 5:
        start, end = (int(draft.constants.array(node.inputs[index]).reshape(-1)[0]) for index in (1, 2))
        return first[start:end]
    return [None] * len(first) if name in _OF_TWO else None


def _of_shape(node: ir.Node, draft: Draft) -> list[Entry] | None:
    value = node.inputs[0]
    rank = draft.shapes.rank(value) if value is not None else None
    if value is None or rank is None:
        return None
    every: list[Entry] = [Axis(value, axis) for axis in range(rank)]
    return every[node.attributes.get_int("start", 0) : node.attributes.get_int("end", rank)]


def is_same(entry: Entry, value: ir.Value, axis: int, draft: Draft) -> bool:
    """Whether this entry is the size of that axis of the value, in every run."""
    if isinstance(entry, int):
        return entry == draft.shapes.size(value, axis)
    if entry is None:
        return False
    known = draft.shapes.size(entry.value, entry.axis)
    if known is not None and known == draft.shapes.size(value, axis):
        return True
    return _origin(entry.value, entry.axis, draft) == _origin(value, axis, draft)


def _origin(value: ir.Value, axis: int, draft: Draft) -> Axis:
    """The value furthest back that has this size, by nodes that keep it."""
    for _ in range(_DEPTH):
        node = value.producer()
        before = None if node is None else _before(node, axis, draft)
        if before is None:
            break
        value, axis = before.value, before.axis
    return Axis(value, axis)


def _before(node: ir.Node, axis: int, draft: Draft) -> Axis | None:
    data = node.inputs[0] if node.inputs else None
    if data is None:
        return None
    if op(node) in _KEEP_SIZES:
        return Axis(data, axis)
    if op(node) in _KEEP_BATCH and axis == 0:
        return Axis(data, axis)
    if op(node) in _OF_TWO and node.inputs[1] is not None:
        first, second = node.inputs[0] in draft.constants, node.inputs[1] in draft.constants
        rank = draft.shapes.rank(node.outputs[0])
        kept = node.inputs[1] if first else data
        return Axis(kept, axis) if first != second and rank is not None and _fits(node, kept, axis, draft) else None
    if op(node) == "Reshape" and node.inputs[1] is not None:
        target = entries(node.inputs[1], draft)
        entry = target[axis] if target is not None and axis < len(target) else None
        if entry == 0 and not node.attributes.get_int("allowzero", 0):
            return Axis(data, axis)
        return entry if isinstance(entry, Axis) else None
    return None


def _fits(node: ir.Node, kept: ir.Value, axis: int, draft: Draft) -> bool:
    """Whether a constant operand has nothing to say about this axis."""
    constant = node.inputs[0] if kept is node.inputs[1] else node.inputs[1]
    shape = draft.shapes.of(constant) if constant is not None else None
    rank = draft.shapes.rank(kept)
    if shape is None or rank is None or len(shape) > rank:
        return False
    place = axis - (rank - len(shape))
    return place < 0 or shape[place] == 1
