"""Through nodes that lay space and channels out in one row, on the way to a linear layer.

Flatten, Reshape or Squeeze from (N, C, *S) to (N, C*|S|): column j holds channel j // |S|, so the map becomes
A and B repeated |S| times. For (N, C, 1, 1) to (N, C) it stays as it is.

Refuses: sizes that are not static, any other target shape.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from normexport.folding.graph import Draft
from normexport.folding.per_channel import PerChannel
from normexport.folding.pool import axes_of
from normexport.graphs.nodes import label, op, required
from normexport.graphs.refusal import Refuse

OPERATORS = ("Flatten", "Reshape", "Squeeze")


def flatten_map(node: ir.Node, norm: PerChannel, draft: Draft) -> PerChannel:
    """The map behind the node, per column."""
    value = required(node, 0)
    sizes = draft.shapes.of(value)
    if sizes is None or len(sizes) < 2:
        raise Refuse(f"the sizes of '{value.name}' ({label(node)}) are unknown")
    if op(node) == "Squeeze":
        return _squeeze_map(node, norm, len(sizes), draft)
    if any(size is None for size in sizes[1:]):
        raise Refuse(f"the sizes of '{value.name}' ({label(node)}) are not static: {sizes}")
    space = math.prod(size for size in sizes[2:] if size is not None)
    if op(node) == "Flatten":
        axis = node.attributes.get_int("axis", 1)
        if axis % len(sizes) != 1:
            raise Refuse(f"{label(node)} flattens from axis {axis}, not from axis 1")
    else:
        _check_target(node, sizes[0], norm.channels * space, draft)
    draft.constants.check_room(2 * norm.channels * space, label(node))
    return norm.repeat(space)


def _squeeze_map(node: ir.Node, norm: PerChannel, rank: int, draft: Draft) -> PerChannel:
    axes = axes_of(node, rank, draft)
    if not axes or min(axes) < 2:
        raise Refuse(f"{label(node)} may drop the batch or the channels")
    return norm


def _check_target(node: ir.Node, batch: int | None, columns: int, draft: Draft) -> None:
    target = [int(size) for size in draft.constants.array(required(node, 1)).reshape(-1)]
    copies = not node.attributes.get_int("allowzero", 0)
    keeps_rows = len(target) == 2 and (
        (target[0] == 0 and copies) or target[0] == batch or (target[0] == -1 and target[1] == columns)
    )
    if not keeps_rows or target[1] not in (-1, columns):
        raise Refuse(f"{label(node)} lays channels out in another way than (N, {columns}): {target}")
