"""Through nodes that take numbers over from other places of the same channel, or from between two of them.

- Slice, Gather along an axis, Tile, Expand, Split: each number of the output is one of the input, of the same channel.
- Resize and Upsample, nearest, linear or cubic: a sum of numbers of one channel with weights that sum to 1, so
  A*resize(x) + B = resize(A*x + B), as for an average pool.
- Where Slice, Gather, Tile or Split take channels themselves, output channel i is input channel p(i): behind the node
  the map of i is that of p(i). Before it, channels that are not taken keep their numbers, and one that is taken
  several times must have the same map each time.

Refuses: channels that are resized, or taken by places that are computed at inference; a norm of one output of a Split
of another axis; sizes that are not known; what Resize fills in from outside (tf_crop_and_resize).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from normexport.folding.graph import Draft
from normexport.folding.per_channel import Array, PerChannel
from normexport.graphs.nodes import label, optional, required
from normexport.graphs.refusal import Refuse

RULE = "copies"
OPERATORS = ("Expand", "Gather", "Resize", "Slice", "Split", "Tile", "Upsample")


def map_behind(node: ir.Node, norm: PerChannel, draft: Draft, output: int = 0) -> PerChannel:
    """What the map `norm` of the node's input is of its output number `output`."""
    _check_weights(node)
    if norm.channels == 1:
        return norm
    kept = _kept_axes(node, draft)
    if norm.axis in kept:
        return norm.along(kept.index(norm.axis))
    places = _places(node, norm.axis, norm.channels, draft, output)
    if places is None:
        raise Refuse(f"{label(node)} changes axis {norm.axis}, on which the norm's channels are")
    return norm.pick(places, norm.axis)


def map_before(node: ir.Node, norm: PerChannel, draft: Draft, output: int = 0) -> PerChannel:
    """What the map `norm` of the node's output number `output` is of its input."""
    _check_weights(node)
    if node.op_type == "Split":
        norm = _of_part(node, norm, draft, output)
    elif norm.channels == 1:
        return norm
    kept = _kept_axes(node, draft)
    axis = kept[norm.axis] if norm.axis < len(kept) else None
    if axis is not None:
        return norm.along(axis)
    channels = draft.shapes.size(required(node, 0), norm.axis)
    places = _places(node, norm.axis, channels, draft, output) if channels else None
    if channels is None or places is None or len(places) != norm.channels:
        raise Refuse(f"{label(node)} changes axis {norm.axis}, on which the norm's channels are")
    return _taken_back(node, norm, places, channels)


def _of_part(node: ir.Node, norm: PerChannel, draft: Draft, output: int) -> PerChannel:
    """The map with one number for each place along the axis that a Split parts: the other outputs have no norm."""
    axis = _split_axis(node, draft)
    size = draft.shapes.size(node.outputs[output], axis)
    if norm.channels == 1 and size:
        draft.constants.check_room(2 * size, label(node))
        norm = norm.spread(size, axis)
    if norm.axis != axis or norm.channels != size:
        raise Refuse(f"{label(node)} parts axis {axis}, and the norm is of one part alone")
    return norm


def _taken_back(node: ir.Node, norm: PerChannel, places: Array, channels: int) -> PerChannel:
    """The map before a node whose output channel i is input channel places[i]."""
    a, b = np.ones(channels), np.zeros(channels)
    a[places], b[places] = norm.a, norm.b
    if np.any(a[places] != norm.a) or np.any(b[places] != norm.b):
        raise Refuse(f"{label(node)} takes a channel several times, which the norm scales differently")
    return PerChannel.of(a, b, norm.axis)


def _places(node: ir.Node, axis: int, channels: int, draft: Draft, output: int) -> Array | None:
    """Which of the input's channels along `axis` the output's are; None where the node is of another kind.

    Raises:
        Refuse: that is computed at inference.
    """
    if node.op_type == "Gather":
        taken = draft.constants.array(required(node, 1))
        draft.constants.check_room(2 * taken.size, label(node))
        places = taken.reshape(-1).astype(np.intp)
        if taken.ndim != 1 or np.any((places < -channels) | (places >= channels)):
            return None
        return places % channels
    if node.op_type == "Slice":
        return _range(node, axis, channels, draft)
    if node.op_type == "Tile":
        repeats = draft.constants.array(required(node, 1)).reshape(-1)
        draft.constants.check_room(2 * channels * int(repeats[axis]), label(node))
        return np.tile(np.arange(channels), int(repeats[axis]))
    if node.op_type == "Split":
        sizes = [draft.shapes.size(each, axis) for each in node.outputs[: output + 1]]
        known = [size for size in sizes if size is not None]
        return np.arange(sum(known[:-1]), sum(known)) if len(known) == len(sizes) else None
    return None


def _range(node: ir.Node, axis: int, channels: int, draft: Draft) -> Array | None:
    """The places that a Slice takes along one axis."""
    starts, ends, axes, steps = (_bounds(node, place, draft) for place in range(1, 5))
    if starts is None or ends is None:
        return None
    rank = draft.shapes.rank(required(node, 0)) or 1
    given = [each % rank for each in (range(len(starts)) if axes is None else axes)]
    if given.count(axis) != 1:
        return None
    place = given.index(axis)
    step = 1 if steps is None else steps[place]
    return np.arange(*slice(starts[place], ends[place], step).indices(channels)) if step else None


def _bounds(node: ir.Node, place: int, draft: Draft) -> list[int] | None:
    """The starts, ends, axes or steps of a Slice: its input at this place, an attribute before opset 10."""
    if draft.opset < 10:
        given = node.attributes.get_ints(("", "starts", "ends", "axes", "steps")[place])
        return None if given is None else list(given)
    value = optional(node, place)
    return None if value is None else [int(each) for each in draft.constants.array(value).reshape(-1)]


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
    if node.op_type == "Split":
        parted = _split_axis(node, draft)
        return [None if axis == parted else axis for axis in every]
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


def _split_axis(node: ir.Node, draft: Draft) -> int:
    rank = draft.shapes.rank(required(node, 0))
    if not rank:
        raise Refuse(f"the rank of '{required(node, 0).name}' ({label(node)}) is unknown")
    return node.attributes.get_int("axis", 0) % rank


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
    if node.op_type not in ("Resize", "Upsample"):
        return
    mode = node.attributes.get_string("mode", "nearest")
    where = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    if mode not in ("nearest", "linear", "cubic") or where == "tf_crop_and_resize":
        raise Refuse(f"{label(node)} resizes by {mode}, {where}: what lies outside is filled in")
