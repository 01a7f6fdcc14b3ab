"""Constants in nodes of their own, made initializers: there most exporters put them, and there passes look."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from normexport.graphs.nodes import op


def store_constants(model: ir.Model) -> ir.Model:
    """The model with its Constant nodes as initializers: itself where it has none, else a copy that shares tensors.

    A constant that is an output of a graph stays a node, and so does one that is no dense tensor of numbers.
    """
    if not any(op(node) == "Constant" for node in ir.traversal.RecursiveGraphIterator(model.graph)):
        return model
    copy = model.clone()
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(copy)
    return copy
