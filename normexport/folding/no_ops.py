"""Nodes that hand on what they read: nothing of them matters to a norm.

Identity, Dropout at inference, a Cast to the type that is there, a Transpose in the order that is there, Reshape,
Expand, Tile, Squeeze and Unsqueeze that leave the shape as it is, a Pad of nothing, a Slice of everything, a pool
of one number, a power of 1, and what sums, joins, parts or compares a single tensor.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from normexport.folding import targets
from normexport.folding.graph import Draft
from normexport.graphs.nodes import op, optional
from normexport.graphs.refusal import Refuse

_SHAPING = ("Expand", "Reshape", "Squeeze", "Unsqueeze")
_OF_SEVERAL = ("Concat", "Max", "Mean", "Min", "Sum")
_REDUCTIONS = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")
_END = (1 << 31) - 1  # where exporters let a Slice end that goes to the end
_POOLS = ("AveragePool", "MaxPool")


def is_no_op(node: ir.Node, draft: Draft) -> bool:
    """Whether the first output is the first input, in every run."""
    name = op(node)
    if not node.inputs or node.inputs[0] is None:
        return False
    value = node.inputs[0]
    try:
        if name == "Identity":
            return True
        if name in ("Cast", "CastLike"):
            return _keeps_type(node, value, draft)
        if name == "Dropout":
            return _drops_nothing(node, draft)
        if name == "Transpose":
            order = node.attributes.get_ints("perm")
            return order is not None and list(order) == list(range(len(order)))
        if name == "Tile":
            return _only(draft, optional(node, 1), 1)
        if name == "Pad" and draft.opset >= 11:
            return _only(draft, optional(node, 1), 0)
        if name in _OF_SEVERAL:
            return len(node.inputs) == 1
        if name == "Split":
            return len(node.outputs) == 1
        if name == "Slice":
            return _slices_nothing(node, value, draft)
        if name.startswith("Reduce"):
            return _reduces_nothing(node, draft)
        if name == "Pow":
            return _only(draft, optional(node, 1), 1) and draft.constants.array(optional(node, 1)).ndim == 0
        if name in _POOLS:
            return _pools_nothing(node)
        return name in _SHAPING and keeps_shape(node, value, draft)
    except Refuse:  # what it depends on is not known
        return False


def _keeps_type(node: ir.Node, value: ir.Value, draft: Draft) -> bool:
    before = draft.shapes.dtype(value)
    if op(node) == "Cast":
        return before is not None and before == node.attributes.get_int("to", 0)
    like = optional(node, 1)
    return before is not None and like is not None and before == draft.shapes.dtype(like)


def _drops_nothing(node: ir.Node, draft: Draft) -> bool:
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return False
    mode = optional(node, 2)
    return mode is None or not np.any(draft.constants.array(mode))


def _pools_nothing(node: ir.Node) -> bool:
    kernel, attributes = node.attributes.get_ints("kernel_shape", ()), node.attributes
    moved = any(each != 1 for each in attributes.get_ints("strides", ())) or any(attributes.get_ints("pads", ()))
    return len(node.outputs) == 1 and bool(kernel) and all(size == 1 for size in kernel) and not moved


def _slices_nothing(node: ir.Node, value: ir.Value, draft: Draft) -> bool:
    if draft.opset < 10:
        return False
    starts, ends = (draft.constants.array(optional(node, place)).reshape(-1) for place in (1, 2))
    axes, steps = optional(node, 3), optional(node, 4)
    places = np.arange(len(starts)) if axes is None else draft.constants.array(axes).reshape(-1)
    if steps is not None and np.any(draft.constants.array(steps) != 1):
        return False
    rank = draft.shapes.rank(value)
    if rank == 0 or not len(starts) == len(ends) == len(places):
        return False
    for start, end, axis in zip(starts, ends, places, strict=True):
        size = None if rank is None else draft.shapes.size(value, int(axis) % rank)
        if (start != 0 and (size is None or start > -size)) or end < (_END if size is None else size):
            return False
    return True


def _reduces_nothing(node: ir.Node, draft: Draft) -> bool:
    if op(node) not in _REDUCTIONS or not node.attributes.get_int("noop_with_empty_axes", 0):
        return False
    axes = optional(node, 1)
    return axes is None or (axes in draft.constants and draft.constants.array(axes).size == 0)


def _only(draft: Draft, value: ir.Value | None, number: int) -> bool:
    return value in draft.constants and bool(np.all(draft.constants.array(value) == number))


def keeps_shape(node: ir.Node, value: ir.Value, draft: Draft) -> bool:
    """Whether the node gives its output the shape that `value` has, of which it has the numbers, in every run."""
    before, after = draft.shapes.of(value), draft.shapes.of(node.outputs[0])
    if before is None:
        return False
    if None not in before and before == after:
        return True
    shape = optional(node, 1)
    if op(node) not in ("Expand", "Reshape") or shape is None:
        return False
    target = targets.entries(shape, draft)
    if target is None or len(target) > len(before) or (op(node) == "Reshape" and len(target) < len(before)):
        return False
    front = len(before) - len(target)
    copies = value is node.inputs[0] and not node.attributes.get_int("allowzero", 0)  # a 0 stands for a size of it
    kept = 1 if op(node) == "Expand" else 0 if copies else None
    same = [size == kept or targets.is_same(size, value, front + i, draft) for i, size in enumerate(target)]
    if op(node) == "Reshape" and same.count(False) == 1 and front == 0 and None not in before[1:] and 0 not in before:
        return target[same.index(False)] == -1  # what is left for it is what was there
    return all(same)
