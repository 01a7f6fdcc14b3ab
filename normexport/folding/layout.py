"""Through nodes that move numbers about: Transpose, Reshape, Flatten, Squeeze, Unsqueeze, DepthToSpace, SpaceToDepth.

No number changes, so a map changes places with such a node; what changes is the axis on which its channels lie.
- Transpose: output axis i is input axis perm[i].
- Reshape and its kin keep the row-major order. Where |S| numbers lie behind one step of the channel axis, flat position
  f holds channel f // |S| mod C. An axis that holds whole channels holds each of them |S|/|S'| times in a row, and so
  (N, C, *S) to (N, C*|S|) repeats A and B |S| times, (N, *S, C) to (N, |S|*C) lays them out |S| times.
- DepthToSpace makes one channel of b*b, SpaceToDepth b*b of one: they lie b*b times one after another (DCR, and always
  in SpaceToDepth) or each b*b times in a row (CRD).
- The channels themselves may be taken apart only where A and B are the same in every part: (N, G*K) to (N, G, K).

Refuses: sizes that are not static where they matter, channels that are taken apart otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from normexport.folding import targets
from normexport.folding.graph import Draft
from normexport.folding.no_ops import keeps_shape
from normexport.folding.per_channel import Array, PerChannel
from normexport.graphs.nodes import label, op, required
from normexport.graphs.refusal import Refuse

RULE = "layout"
OPERATORS = ("DepthToSpace", "Flatten", "Reshape", "SpaceToDepth", "Squeeze", "Transpose", "Unsqueeze")

Sizes = Sequence[int | None]


def map_behind(node: ir.Node, norm: PerChannel, draft: Draft) -> PerChannel:
    """What the map `norm` of the node's input is of its output."""
    return _moved(node, norm, draft, forward=True)


def map_before(node: ir.Node, norm: PerChannel, draft: Draft) -> PerChannel:
    """What the map `norm` of the node's output is of its input."""
    return _moved(node, norm, draft, forward=False)


def _moved(node: ir.Node, norm: PerChannel, draft: Draft, forward: bool) -> PerChannel:
    if norm.channels == 1:
        return norm
    if op(node) in ("DepthToSpace", "SpaceToDepth"):
        return _shuffled(node, norm, draft, wider=forward == (op(node) == "SpaceToDepth"))
    if op(node) == "Transpose":
        order = permutation(node, draft)
        return norm.along(order.index(norm.axis) if forward else order[norm.axis])
    before, after = draft.shapes.of(required(node, 0)), sizes_behind(node, draft)
    if before is None or after is None:
        raise Refuse(f"the sizes of '{required(node, 0).name}' ({label(node)}) are unknown")
    source, target = (before, after) if forward else (after, before)
    front = _equal_front(node, before, after, draft)
    if norm.axis < front:
        return norm
    try:
        return _carried(norm, source, target, draft, label(node))
    except _Lost as lost:
        kept = _kept_axes(node, before, after, draft) if op(node) in ("Squeeze", "Unsqueeze") else []
        for shorter, longer in enumerate(kept):
            here, there = (longer, shorter) if (op(node) == "Squeeze") == forward else (shorter, longer)
            if here == norm.axis:
                return norm.along(there)
        raise Refuse(lost.args[0]) from lost


def _shuffled(node: ir.Node, norm: PerChannel, draft: Draft, wider: bool) -> PerChannel:
    """The map on the side of a pixel shuffle that has more channels (`wider`), or on that with fewer."""
    if norm.axis != 1:
        raise Refuse(f"{label(node)} moves numbers along axis {norm.axis}, on which the norm's channels are")
    parts = node.attributes.get_int("blocksize", 1) ** 2
    if parts < 1:
        raise Refuse(f"{label(node)} has blocks of {parts} numbers")
    draft.constants.check_room(2 * norm.channels * parts, label(node))
    in_a_row = node.attributes.get_string("mode", "DCR") == "CRD"
    if wider:
        every = np.arange(norm.channels)
        return norm.pick(np.repeat(every, parts) if in_a_row else np.tile(every, parts), 1)
    if norm.channels % parts:
        raise Refuse(f"{label(node)} makes one channel of {parts}, of {norm.channels} in all")
    places = np.arange(norm.channels).reshape((-1, parts) if in_a_row else (parts, -1))
    places = places.T if in_a_row else places
    for values in (norm.a, norm.b):
        if np.any(values[places] != values[places[:1]]):
            raise Refuse(f"{label(node)} makes one channel of {parts}, which the norm scales differently")
    return norm.pick(places[0], 1)


class _Lost(Exception):
    """The channels can't be followed by sizes."""


def permutation(node: ir.Node, draft: Draft) -> list[int]:
    """The axes of a Transpose: output axis i is input axis perm[i].

    Raises:
        Refuse: it has none, and the rank is unknown; or it is none.
    """
    given = node.attributes.get_ints("perm")
    rank = draft.shapes.rank(required(node, 0))
    if given is None and rank is None:
        raise Refuse(f"the rank of '{required(node, 0).name}' ({label(node)}) is unknown")
    order = list(range(rank or 0))[::-1] if given is None else [int(axis) for axis in given]
    if sorted(order) != list(range(len(order))):
        raise Refuse(f"{label(node)} has perm = {order}, which is no order of axes")
    return order


def sizes_behind(node: ir.Node, draft: Draft) -> Sizes | None:
    """Sizes of the node's output; of a Reshape, as far as its target tells them, where nothing else does."""
    known = draft.shapes.of(node.outputs[0])
    if known is not None and None not in known[1:]:
        return known
    target = _target(node, draft)
    before = draft.shapes.of(required(node, 0))
    if target is None or before is None:
        return known
    told = [_size_told(node, i, size, before, draft) for i, size in enumerate(target)]
    if known is not None and len(known) == len(told):
        told = [size if size is not None else other for size, other in zip(told, known, strict=True)]
    return tuple(told)


def _target(node: ir.Node, draft: Draft) -> list[targets.Entry] | None:
    """The target of a Reshape, None where nothing is known of it."""
    return targets.entries(required(node, 1), draft) if op(node) == "Reshape" else None


def _copies(node: ir.Node) -> bool:
    """Whether a 0 in a Reshape's target stands for the size that is there."""
    return not node.attributes.get_int("allowzero", 0)


def _size_told(node: ir.Node, axis: int, size: targets.Entry, before: Sizes, draft: Draft) -> int | None:
    if size == 0 and _copies(node):
        return before[axis] if axis < len(before) else None
    if isinstance(size, targets.Axis):
        return draft.shapes.size(size.value, size.axis)
    return size if size is not None and size >= 0 else None


def _equal_front(node: ir.Node, before: Sizes, after: Sizes, draft: Draft) -> int:
    """How many axes at the front are the same on both sides."""
    target, value, count = _target(node, draft), required(node, 0), 0
    for here, there in zip(before, after, strict=False):
        size = target[count] if target is not None and count < len(target) else None
        copied = size == 0 and _copies(node)
        same = copied or (isinstance(size, targets.Axis) and targets.is_same(size, value, count, draft))
        if not same and (here is None or here != there):
            break
        count += 1
    return count


def _kept_axes(node: ir.Node, before: Sizes, after: Sizes, draft: Draft) -> list[int]:
    """For each axis of the side with fewer axes, which one it is on the other side; [] if that is not known."""
    longer = before if op(node) == "Squeeze" else after
    given = node.inputs[1] if len(node.inputs) > 1 else None
    axes = node.attributes.get_ints("axes", ()) if given is None else draft.constants.array(given).reshape(-1)
    gone = {int(axis) % len(longer) for axis in axes}
    return [axis for axis in range(len(longer)) if axis not in gone] if gone else []


def _carried(norm: PerChannel, source: Sizes, target: Sizes, draft: Draft, where: str) -> PerChannel:
    """The map on `target`, the same numbers as `source` in row-major order.

    Raises:
        _Lost: the channels are not whole on any axis of the target, or sizes are not known.
    """
    channels, inner = norm.channels, _product(source[norm.axis + 1 :])
    if inner is None:
        raise _Lost(f"the sizes at {where} are not static: {tuple(source)}")
    for axis, size in enumerate(target):
        step = _product(target[axis + 1 :])
        if not size or not step or not inner:
            continue
        if inner % step == 0 and (size * step) % (inner * channels) == 0:
            draft.constants.check_room(2 * size, where)
            return norm.pick(np.arange(size) * step // inner % channels, axis)
        if size > 1 and step % inner == 0 and (inner * channels) % (size * step) == 0:
            parts = np.arange(channels).reshape(-1, size, step // inner)
            if all(_same_in_every_part(values[parts]) for values in (norm.a, norm.b)):
                return norm.pick(parts[0, :, 0], axis)
    if any(size is None for size in target[1:]):
        raise _Lost(f"the sizes at {where} are not static: {tuple(target)}")
    raise _Lost(f"{where} takes the {channels} channels of axis {norm.axis} apart: {tuple(source)} to {tuple(target)}")


def _same_in_every_part(values: Array) -> bool:
    return bool(np.all(values == values[:1, :, :1]))


def _product(sizes: Sizes) -> int | None:
    return None if any(size is None for size in sizes) else math.prod(size for size in sizes if size is not None)


def cancel_pairs(draft: Draft) -> None:
    """Drop a Transpose or Reshape that undoes the one before it: folding a norm between brings such pairs together."""
    for node in list(draft.graph):
        paired = op(node) in ("Reshape", "Transpose") and node.inputs[0] is not None
        first = node.inputs[0].producer() if paired and node.inputs[0] is not None else None
        if node.graph is not draft.graph or first is None or op(first) != op(node):
            continue
        value, output = first.inputs[0], node.outputs[0]
        if value is None or output.is_graph_output() or first.graph is not draft.graph:
            continue
        if not (_turns_back(first, node, draft) if op(node) == "Transpose" else keeps_shape(node, value, draft)):
            continue
        output.replace_all_uses_with(value)
        draft.remove([node])
        if not first.outputs[0].uses() and not first.outputs[0].is_graph_output():
            draft.remove([first])


def _turns_back(first: ir.Node, second: ir.Node, draft: Draft) -> bool:
    try:
        inner, outer = permutation(first, draft), permutation(second, draft)
    except Refuse:
        return False
    return len(inner) == len(outer) and [inner[axis] for axis in outer] == list(range(len(inner)))
