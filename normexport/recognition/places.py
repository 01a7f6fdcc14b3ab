"""What trials on random numbers may never meet: an element that does not count, a size at which something is cut off.

The largest of many numbers is one of them, so that a statistic that leaves one out shows it once in as many trials; and
`x[:64]` is x until a batch is larger. Nodes tell where that can be.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from normexport.graphs.nodes import label, op
from normexport.graphs.refusal import Refuse
from normexport.graphs.shapes import Shapes
from normexport.recognition.flow import Region
from normexport.recognition.operators import COMPARING_SIZES, LAYOUT, REDUCTIONS, SELECTING

_NO_END = 1 << 31  # exporters write this or more for "to the end"
_LEAST_SIZE = 1  # of an axis: what is cut there is cut at every size


def check_sizes(region: Region, shapes: Shapes) -> None:
    """See that nothing in a region happens from some size on.

    Raises:
        Refuse: it cuts an open axis at a fixed place, or compares sizes.
    """
    steps = set(region.steps)
    sizes: set[ir.Value] = set()
    for node in region.nodes:
        if node in steps:
            if op(node) == "Slice" and _cuts_open_axis(node, shapes):
                raise Refuse(f"{label(node)} inside it cuts an axis of any length at a fixed place")
        elif op(node) in ("Shape", "Size") or any(value in sizes for value in node.inputs):
            sizes.update(node.outputs)
            if op(node) in COMPARING_SIZES:
                raise Refuse(f"{label(node)} inside it compares sizes")


def uneven_step(region: Region) -> ir.Node | None:
    """The first node before a reduction that may take some elements for others; None where all count alike."""
    steps = set(region.steps)
    pending = [value for node in region.steps if op(node) in REDUCTIONS for value in node.inputs[:1]]
    before: set[ir.Node] = set()
    while pending:
        value = pending.pop()
        node = None if value is None else value.producer()
        if node in steps and node not in before:
            before.add(node)
            pending += node.inputs
    computed = {region.input, *(value for node in steps for value in node.outputs)}
    return next((node for node in region.steps if node in before and _is_uneven(node, computed)), None)


def _is_uneven(node: ir.Node, computed: set[ir.Value]) -> bool:
    if op(node) in SELECTING:
        return True
    if op(node) in LAYOUT or op(node) in REDUCTIONS:
        return False  # their other inputs are sizes and axes
    return not all(value is None or value in computed or _is_one_number(value) for value in node.inputs)


def _is_one_number(value: ir.Value) -> bool:
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None:
        return False
    if tensor.size <= 1:
        return True
    numbers = tensor.numpy()
    return bool((numbers == numbers.flat[0]).all())


def _cuts_open_axis(node: ir.Node, shapes: Shapes) -> bool:
    value = node.inputs[0]
    sizes = None if value is None else shapes.of(value)
    bounds = _bounds(node)
    if bounds is None:
        return False  # computed from sizes
    starts, ends, axes = bounds
    if sizes is not None and all(sizes[axis] is not None for axis in axes):
        return False
    return any(_LEAST_SIZE < abs(bound) < _NO_END for bound in (*starts, *ends))


def _bounds(node: ir.Node) -> tuple[list[int], list[int], list[int]] | None:
    """Starts, ends and axes of a Slice, as far as they are stored; None where nothing of them is."""
    read = []
    for value in node.inputs[1:4]:
        tensor = None if value is None else ir.convenience.get_const_tensor(value)
        read.append(None if tensor is None else np.atleast_1d(tensor.numpy()).tolist())
    starts, ends, axes = (*read, None, None, None)[:3]
    if starts is None and ends is None:
        return None
    return starts or [], ends or [], axes if axes is not None else [*range(len(starts or ends or []))]
