"""ReLU and Clip: which numbers they leave as they are."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from normexport.graphs.nodes import op, optional
from normexport.precision.int8.ranges import Range

CLIPS = ("Relu", "Clip")


def clip_ends(node: ir.Node) -> Range | None:
    """Between which numbers a ReLU or Clip keeps its input, infinite where it has no end; None: they are no constants.

    They are inputs, and in operator sets below 11 attributes.
    """
    if op(node) == "Relu":
        return 0.0, np.inf
    ends = [node.attributes.get_float("min", -np.inf), node.attributes.get_float("max", np.inf)]
    for index in (1, 2):
        value = optional(node, index)
        if value is not None:
            tensor = ir.convenience.get_const_tensor(value) if not value.is_graph_input() else None
            if tensor is None or tensor.size != 1:
                return None
            ends[index - 1] = float(tensor.numpy().reshape(-1)[0])
    return float(ends[0]), float(ends[1])


def is_clipped_behind(value: ir.Value) -> bool:
    """Whether a ReLU or Clip alone reads a value: it may be clipped to the range of what that makes of it."""
    uses = list(value.uses())
    return len(uses) == 1 and uses[0].idx == 0 and op(uses[0].node) in CLIPS and not value.is_graph_output()
