"""Through a channel shuffle: channels as a grid, the grid transposed, and channels again (Reshape, Transpose, Reshape).

With C = G*K channels laid out as (G, K) and transposed, channel k*G + g behind is channel g*K + k before. The same for
a grid of any rank and order, as long as only axes of the grid change places among themselves and the sizes around the
channels stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from normexport.folding import layout, targets
from normexport.folding.graph import Draft
from normexport.folding.per_channel import Array, PerChannel
from normexport.graphs.nodes import op, readers, required
from normexport.graphs.refusal import Refuse


@dataclass(frozen=True, eq=False)
class Shuffle:
    """`input` to `output`, the same sizes, with the values in `between`.

    axis: of the channels, before and behind.
    places: (C,) behind the shuffle, channel i is the input's channel places[i].
    """

    input: ir.Value
    between: tuple[ir.Value, ir.Value]
    output: ir.Value
    axis: int
    places: Array

    def map_behind(self, norm: PerChannel) -> PerChannel:
        """What the map of the input is of the output."""
        self._check(norm)
        return norm.pick(self.places, self.axis)

    def map_before(self, norm: PerChannel) -> PerChannel:
        """What the map of the output is of the input."""
        self._check(norm)
        return norm.pick(np.argsort(self.places), self.axis)

    def _check(self, norm: PerChannel) -> None:
        if norm.axis != self.axis or norm.channels != len(self.places):
            raise Refuse(f"'{self.output.name}' has {len(self.places)} channels shuffled along axis {self.axis}")


def ending_at(node: ir.Node, draft: Draft) -> Shuffle | None:
    """The shuffle whose last node this is, None where it is none."""
    transpose = node.inputs[0].producer() if op(node) == "Reshape" and node.inputs[0] is not None else None
    if transpose is None or op(transpose) != "Transpose" or transpose.inputs[0] is None:
        return None
    first = transpose.inputs[0].producer()
    return _read(first, transpose, node, draft) if first is not None and op(first) == "Reshape" else None


def beginning_at(node: ir.Node, draft: Draft) -> Shuffle | None:
    """The shuffle whose first node this is, None where it is none; nothing else reads what lies between."""
    nodes = [node]
    for expected in ("Transpose", "Reshape"):
        value = nodes[-1].outputs[0]
        uses = readers(value)
        if len(uses) != 1 or value.is_graph_output() or op(uses[0].node) != expected or uses[0].idx != 0:
            return None
        nodes.append(uses[0].node)
    same_graph = all(each.graph is draft.graph for each in nodes)
    return _read(nodes[0], nodes[1], nodes[2], draft) if op(node) == "Reshape" and same_graph else None


def _read(first: ir.Node, transpose: ir.Node, last: ir.Node, draft: Draft) -> Shuffle | None:
    x = required(first, 0)
    sizes, grid, behind = draft.shapes.of(x), layout.sizes_behind(first, draft), layout.sizes_behind(last, draft)
    try:
        order = layout.permutation(transpose, draft)
    except Refuse:
        return None
    if sizes is None or grid is None or behind is None or len(sizes) != len(behind) or len(order) != len(grid):
        return None
    moved = [axis for axis, source in enumerate(order) if axis != source]
    for axis in range(min(moved[0] + 1, len(sizes)) if moved else 0):
        stop = len(grid) - (len(sizes) - axis - 1)  # the grid's axes lie where the channels do: axis .. stop-1
        counts = [size for size in grid[axis:stop] if size is not None]
        channels = prod(counts)
        whole = len(counts) == stop - axis > 1 and stop > moved[-1] and sizes[axis] == behind[axis] == channels > 0
        others = [each for each in range(len(sizes)) if each != axis]
        there = [each if each < axis else each + stop - axis - 1 for each in others]
        if whole and _keeps(first, x, others, there, axis, draft) and _keeps(last, x, others, others, axis, draft):
            draft.constants.check_room(2 * channels, "a channel shuffle")
            inner = [source - axis for source in order[axis:stop]]
            places = np.arange(channels).reshape(counts).transpose(inner).reshape(-1)
            return Shuffle(x, (first.outputs[0], transpose.outputs[0]), last.outputs[0], axis, places)
    return None


def _keeps(node: ir.Node, x: ir.Value, axes: list[int], there: list[int], grid: int, draft: Draft) -> bool:
    """Whether axes of x are those axes `there` of what a Reshape makes; one that is not known is what is left over.

    grid: the channels' axis: before it, a 0 in the target stands for the size of the same axis of x.
    """
    target, made = targets.entries(required(node, 1), draft), layout.sizes_behind(node, draft)
    unknown = 0
    for axis, place in zip(axes, there, strict=True):
        size = draft.shapes.size(x, axis)
        if size == 0:
            return False
        if made is not None and size is not None and size == made[place]:
            continue
        entry = target[place] if target is not None and place < len(target) else None
        copied = entry == 0 and axis < grid and not node.attributes.get_int("allowzero", 0)
        if not copied and not (isinstance(entry, targets.Axis) and targets.is_same(entry, x, axis, draft)):
            unknown += 1
            if entry != -1:
                return False
    return unknown <= 1
