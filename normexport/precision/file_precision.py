"""The precision that an ONNX file computes in, by what stands in its graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from normexport.dtypes import FLOAT32, of_onnx
from normexport.graphs.nodes import op
from normexport.norms import DOMAIN

_QUANTIZED = {
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"),
    *("ConvInteger", "MatMulInteger"),
}


def precision_of(model: ir.Model) -> str:
    """ "int8" where anything is quantised, "bfloat16" or "float16" where weights or values are, else "float32"."""
    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
    if any(op(node) in _QUANTIZED or (node.domain == DOMAIN and node.op_type.startswith("Q")) for node in nodes):
        return "int8"
    types = {value.dtype for node in nodes for value in node.outputs}
    types |= {value.const_value.dtype for value in model.graph.initializers.values() if value.const_value is not None}
    types |= {ir.DataType(node.attributes["to"].as_int()) for node in nodes if op(node) == "Cast"}
    kinds = [kind for kind in map(of_onnx, types) if kind is not None and kind.is_half]
    return max(kinds, key=lambda kind: kind.unit_roundoff, default=FLOAT32).name  # the coarser where several are


def input_ranges(model: ir.Model) -> dict[str, tuple[float, float]]:
    """What the quantiser behind each input holds, by input name; inputs without one are left out."""
    found = {}
    for value in model.graph.inputs:
        for node, position in value.uses():
            limits = _held(node) if op(node) == "QuantizeLinear" and position == 0 else None
            if limits is not None and value.name:
                found[value.name] = limits
    return found


def stored_as(model: ir.Model) -> dict[str, str]:
    """Names of values that a pair quantises, each with the name of what the pair gives: what the file means by it.

    The value in front of the pair is another where a quantiser lets the pair do the clipping of a ReLU.
    """
    found = {}
    for node in model.graph:
        source = node.inputs[0] if op(node) == "QuantizeLinear" and node.inputs else None
        if source is None or not source.name:
            continue
        for reader, _ in node.outputs[0].uses():
            if op(reader) == "DequantizeLinear" and reader.outputs[0].name:
                found[source.name] = reader.outputs[0].name
    return found


def _held(node: ir.Node) -> tuple[float, float] | None:
    """Lowest and highest number that a QuantizeLinear of one scale represents."""
    tensors = [None if value is None else value.const_value for value in node.inputs[1:3]]
    if len(tensors) < 2 or any(tensor is None or tensor.size != 1 for tensor in tensors):
        return None
    scale, zero = (np.asarray(tensor.numpy()).reshape(-1)[0] for tensor in tensors if tensor is not None)
    if zero.dtype.kind not in "iu":
        return None
    limits = np.iinfo(zero.dtype)
    return (limits.min - int(zero)) * float(scale), (limits.max - int(zero)) * float(scale)
