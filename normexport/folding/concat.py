"""Through a concatenation of channels: each branch takes its own slice of the norm.

With z = concat(x_1, x_2, ...) on the norm's axis and branch i holding channels s..t-1:
    A*z + B = concat(A[s:t]*x_i + B[s:t], ...).
One value for all channels goes into every branch, whatever the axis.
All branches or none: a norm that only some of them could take would still have to stand there for the rest.

In the other direction the norm of one branch is, behind the concatenation, the identity for the channels of the others;
several ways that lead from one norm to the same concatenation (the focus layer's four slices) go through it together.

Refuses: another axis, a branch of unknown channel count, a branch that can't take its slice.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from normexport.folding.edits import Absorb, Rewrite, together
from normexport.folding.graph import Draft
from normexport.folding.per_channel import PerChannel
from normexport.graphs.nodes import label, required
from normexport.graphs.refusal import Refuse

RULE = "concat"


def into_branches(node: ir.Node, norm: PerChannel, draft: Draft, onward: Absorb) -> Rewrite:
    """The rewrite of every branch with its slice."""
    branches, axis = _branches(node, draft)
    if norm.channels == 1:
        every = [onward(branch, norm) for branch in branches]
        return together(RULE, f"taken by every branch of {label(node)}", every)
    if axis != norm.axis:
        raise Refuse(f"{label(node)} joins axis {axis}, the norm is on axis {norm.axis}")
    rewrites, start = [], 0
    for branch in branches:
        size = _size(node, branch, axis, draft)
        rewrites.append(onward(branch, norm.part(start, start + size)))
        start += size
    if start != norm.channels:
        raise Refuse(f"{label(node)} joins {start} channels where the norm has {norm.channels}")
    return together(RULE, f"sliced over the branches of {label(node)}", rewrites)


def map_behind(node: ir.Node, arrived: Mapping[int, PerChannel], draft: Draft) -> PerChannel:
    """What the maps of some branches, by their number, are together of the node's output.

    Raises:
        Refuse: the node joins another axis than a map's.
    """
    branches, axis = _branches(node, draft)
    first, *others = arrived.values()
    if not first.is_on(axis) and len(arrived) == len(branches) and all(first.equals(other) for other in others):
        return first  # positions of one tensor with one norm are joined
    sizes = [_size(node, branch, axis, draft) for branch in branches]
    draft.constants.check_room(2 * sum(sizes), label(node))
    a, b = np.ones(sum(sizes)), np.zeros(sum(sizes))
    for index, norm in arrived.items():
        if not norm.is_on(axis):
            raise Refuse(f"{label(node)} joins axis {axis}, the norm is on axis {norm.axis}")
        if norm.channels not in (1, sizes[index]):
            raise Refuse(f"branch {index} of {label(node)} has {sizes[index]} channels, the norm {norm.channels}")
        parts = slice(sum(sizes[:index]), sum(sizes[: index + 1]))
        a[parts], b[parts] = norm.a, norm.b
    return PerChannel.of(a, b, axis)


def _branches(node: ir.Node, draft: Draft) -> tuple[list[ir.Value], int]:
    branches = [required(node, i) for i in range(len(node.inputs))]
    rank = draft.shapes.rank(node.outputs[0]) or draft.shapes.rank(branches[0])
    if rank is None:
        raise Refuse(f"the rank of '{node.outputs[0].name}' ({label(node)}) is unknown")
    return branches, node.attributes.get_int("axis", 1) % rank


def _size(node: ir.Node, branch: ir.Value, axis: int, draft: Draft) -> int:
    size = draft.shapes.size(branch, axis)
    if size is None:
        raise Refuse(f"the channel count of '{branch.name}' ({label(node)}) is unknown")
    return size
