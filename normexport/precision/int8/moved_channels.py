"""Where the channels of a tensor lie once it is padded, reduced or given another shape, each of them still whole."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from normexport.graphs.nodes import op, optional
from normexport.graphs.shapes import Shapes
from normexport.precision.int8.shared_factors import Indices
from normexport.precision.int8.weights import stored

#: The axis of a tensor's channels, and the number of each channel's factor.
Channels = tuple[int, Indices]


def is_padded_with_zeros(node: ir.Node, axis: int, shapes: Shapes) -> bool:
    """Whether a Pad adds zeros, or what the tensor holds, and no channels along their axis."""
    source = node.inputs[0]
    assert source is not None
    if node.attributes.get_string("mode", "constant") == "constant":
        given = stored(optional(node, 2))
        if optional(node, 2) is not None and (given is None or np.any(given != 0)):
            return False
        if node.attributes.get_float("value", 0.0) != 0.0:
            return False
    pads = _whole_numbers(node, 1, "pads")
    rank = shapes.rank(source)
    return not (pads is None or rank is None or len(pads) != 2 * rank or pads[axis] or pads[axis + rank])


def channels_of_reduced(node: ir.Node, channels: Channels, shapes: Shapes) -> Channels | None:
    """Of means and maxima over axes that are not the channels'; None of others."""
    source = node.inputs[0]
    assert source is not None
    axis, numbers = channels
    rank = shapes.rank(source)
    axes = _whole_numbers(node, 1, "axes")
    if axes is None or not axes or rank is None:
        return None
    reduced = {each % rank for each in axes}
    if axis in reduced:
        return None
    kept = node.attributes.get_int("keepdims", 1)
    return axis if kept else axis - sum(each < axis for each in reduced), numbers


def channels_of_moved(node: ir.Node, channels: Channels, shapes: Shapes) -> Channels | None:
    """Of the same numbers in another shape; None where a channel is not whole in it."""
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None
    axis, numbers = channels
    before, after = shapes.named(source), shapes.named(result)
    if before is None or after is None:
        return None
    if op(node) == "Transpose":
        order = node.attributes.get_ints("perm", tuple(reversed(range(len(before)))))
        return list(order).index(axis), numbers
    size, behind = len(numbers), before[axis + 1 :]
    if axis and len(after) > axis and after[: axis + 1] == before[: axis + 1] and None not in after[: axis + 1]:
        return axis, numbers
    if not behind and after and after[-1] == size:
        return len(after) - 1, numbers
    if axis == 1 and len(after) == 2 and all(isinstance(each, int) for each in behind):
        each = int(np.prod([int(part) for part in behind if isinstance(part, int)]))
        if after[1] == size * each:
            return 1, np.repeat(numbers, each)
    return None


def _whole_numbers(node: ir.Node, index: int, name: str) -> tuple[int, ...] | None:
    """What an operator is given as constant whole numbers, in an input or, in older sets, an attribute."""
    if name in node.attributes:
        return tuple(node.attributes.get_ints(name, ()))
    value = optional(node, index)
    tensor = ir.convenience.get_const_tensor(value) if value is not None and not value.is_graph_input() else None
    return None if tensor is None else tuple(int(each) for each in tensor.numpy().reshape(-1))
