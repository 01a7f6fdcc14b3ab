"""Nodes that hand on what they read: nothing of them matters to a norm.

Identity, Dropout at inference, a Cast to the type that is there, a Transpose in the order that is there, Reshape,
Expand, Tile, Squeeze and Unsqueeze that leave the shape as it is, a Pad of nothing.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from normexport.folding import targets
from normexport.folding.graph import Draft
from normexport.graphs.nodes import op, optional
from normexport.graphs.refusal import Refuse

_SHAPING = ("Expand", "Reshape", "Squeeze", "Unsqueeze")


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
        return name in _SHAPING and _keeps_shape(node, value, draft)
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


def _only(draft: Draft, value: ir.Value | None, number: int) -> bool:
    return value in draft.constants and bool(np.all(draft.constants.array(value) == number))


def _keeps_shape(node: ir.Node, value: ir.Value, draft: Draft) -> bool:
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
    kept = 1 if op(node) == "Expand" else 0 if not node.attributes.get_int("allowzero", 0) else None
    return all(size == kept or targets.is_same(size, value, front + i, draft) for i, size in enumerate(target))
