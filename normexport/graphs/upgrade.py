"""An older operator set -> a newer one, by ONNX's own converter: lower precisions need what old files do not have."""

from __future__ import annotations

import onnx_ir as ir
from onnx import version_converter

from normexport.graphs.shapes import few_values
from normexport.io.onnx_domain import is_onnx_domain, opset_in

_SMALL = 1024  # bytes; larger constants stay here: the converter looks at sizes, axes and scales alone
#: The file format that brought an operator set, where a file is of an older one.
_IR_VERSIONS = {13: 7, 19: 9, 21: 10}


def upgraded(model: ir.Model, opset: int) -> ir.Model:
    """The model in operator set `opset`; the same object where it is as new, or the converter does not know how.

    Subgraphs, functions and operators of other domains are beyond the converter. It is trusted with nothing: who
    takes the result compares it with the model.
    """
    own = opset_in(model.graph.opset_imports)
    if not 0 < own < opset or model.functions or not few_values(model.graph):
        return model
    if any(not is_onnx_domain(node.domain) or _has_graph(node) for node in model.graph):
        return model
    bare = model.clone()
    held = {}
    for name, value in list(bare.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= _SMALL:
            continue
        held[name] = tensor, value.is_graph_input()
        del bare.graph.initializers[name]
        value.shape, value.type = ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)
        if not value.is_graph_input():
            bare.graph.inputs.append(value)
    try:
        converted = ir.from_proto(version_converter.convert_version(ir.to_proto(bare), opset))
    except Exception:  # the converter, in C++, raises many kinds; each means that it does not know how
        return model
    inputs = {str(value.name): value for value in converted.graph.inputs}
    if not held.keys() <= inputs.keys():
        return model
    for name, (tensor, was_input) in held.items():
        value = inputs[name]
        value.const_value = tensor
        converted.graph.initializers[name] = value
        if not was_input:
            converted.graph.inputs.remove(value)
    converted.ir_version = max(model.ir_version, _IR_VERSIONS.get(opset, 0))
    converted.metadata_props.update(model.metadata_props)
    converted.producer_name, converted.producer_version = model.producer_name, model.producer_version
    return converted


def _has_graph(node: ir.Node) -> bool:
    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    return any(isinstance(each, ir.Attr) and each.type in kinds for each in node.attributes.values())
