"""Through nodes that take numbers over from other places of the same channel, or from between two of them.

- Slice, Gather along an axis, Tile, Expand: each number of the output is one of the input, of the same channel.
- Resize and Upsample, nearest, linear or cubic: a sum of numbers of one channel with weights that sum to 1, so
  A*resize(x) + B = resize(A*x + B), as for an average pool.

Refuses: where the channels themselves are cut, repeated or resized; sizes that are not known; what Resize fills in
from outside (tf_crop_and_resize).
"""

from __future__ import annotations

import onnx_ir as ir

from normexport.folding.graph import Draft
from normexport.folding.per_channel import PerChannel
from normexport.graphs.nodes import label, optional, required
from normexport.graphs.refusal import Refuse

RULE = "copies"
OPERATORS = ("Expand", "Gather", "Resize", "Slice", "Tile", "Upsample")


def map_behind(node: ir.Node, norm: PerChannel, draft: Draft) -> PerChannel:
    """What the map `norm` of the node's input is of its output."""
    return _moved(node, norm, draft, forward=True)


def map_before(node: ir.Node, norm: PerChannel, draft: Draft) -> PerChannel:
    """What the map `norm` of the node's output is of its input."""
    return _moved(node, norm, draft, forward=False)


def _moved(node: ir.Node, norm: PerChannel, draft: Draft, forward: bool) -> PerChannel:
    if node.op_type in ("Resize", "Upsample"):
        _check_weights(node)
    if norm.channels == 1:
        return norm
    kept = _kept_axes(node, draft)
    if not forward:
        axis = kept[norm.axis] if norm.axis < len(kept) else None
    else:
        axis = kept.index(norm.axis) if norm.axis in kept else None
    if axis is None:
        raise Refuse(f"{label(node)} changes axis {norm.axis}, on which the norm's channels are")
    return norm.along(axis)


def _kept_axes(node: ir.Node, draft: Draft) -> list[int | None]:
    """For each axis of the output, the axis of the input that it is, number by number; None where it is another."""
    value, output = required(node, 0), node.outputs[0]
    rank = draft.shapes.rank(value)
    if not rank:
        raise Refuse(f"the rank of '{value.name}' ({label(node)}) is unknown")
    every: list[int | None] = list(range(rank))
    if node.op_type == "Gather":
        axis = node.attributes.get_int("axis", 0) % rank
        places = draft.shapes.rank(required(node, 1))
        if places is None:
            raise Refuse(f"the rank of '{required(node, 1).name}' ({label(node)}) is unknown")
        return [*every[:axis], *[None] * places, *every[axis + 1 :]]
    if node.op_type == "Slice":
        cut = _cut(node, rank, draft)
        return [None if axis in cut else axis for axis in every]
    if node.op_type == "Tile":
        repeats = draft.constants.array(required(node, 1)).reshape(-1)
        return [axis if repeat == 1 else None for axis, repeat in enumerate(repeats)]
    front = max(0, (draft.shapes.rank(output) or rank) - rank)
    sizes = [(draft.shapes.size(value, axis), draft.shapes.size(output, axis + front)) for axis in range(rank)]
    same = [before is not None and before == after for before, after in sizes]
    if node.op_type != "Expand":
        same = [each and _is_one(node, axis, rank, draft) for axis, each in enumerate(same)]
    return [None] * front + [axis if kept else None for axis, kept in enumerate(same)]


def _cut(node: ir.Node, rank: int, draft: Draft) -> set[int]:
    if draft.opset < 10:
        axes = node.attributes.get_ints("axes")
        count = len(node.attributes.get_ints("starts", ()))
        return {int(axis) % rank for axis in (range(count) if axes is None else axes)}
    given = optional(node, 3)
    if given is not None:
        return {int(axis) % rank for axis in draft.constants.array(given).reshape(-1)}
    starts = draft.shapes.size(required(node, 1), 0)
    if starts is None:
        raise Refuse(f"the axes that {label(node)} cuts are unknown")
    return set(range(starts))


def _is_one(node: ir.Node, axis: int, rank: int, draft: Draft) -> bool:
    """Whether an axis whose size stays is resized by 1, not cut out of something larger."""
    axes = node.attributes.get_ints("axes")
    if axes is not None:
        places = [int(each) % rank for each in axes]
        if axis not in places:
            return True
        axis = places.index(axis)
    given = node.attributes.get_floats("scales")
    if given is not None:
        return list(given[axis : axis + 1]) == [1.0]
    scales = optional(node, 1 if node.op_type == "Upsample" or draft.opset == 10 else 2)
    if scales is None or (scales in draft.constants and draft.constants.array(scales).size == 0):
        return node.attributes.get_string("keep_aspect_ratio_policy", "stretch") == "stretch"
    return scales in draft.constants and list(draft.constants.array(scales).reshape(-1)[axis : axis + 1]) == [1.0]


def _check_weights(node: ir.Node) -> None:
    mode = node.attributes.get_string("mode", "nearest")
    where = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    if mode not in ("nearest", "linear", "cubic") or where == "tf_crop_and_resize":
        raise Refuse(f"{label(node)} resizes by {mode}, {where}: what lies outside is filled in")
