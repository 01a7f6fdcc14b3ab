"""An ONNX graph rewritten to compute in float64, so that onnx.reference gives an exact-enough reference.

Everything that fixes a narrower floating type is widened: weights, constants, `Cast` targets, `dtype` attributes,
declared types of inputs, outputs and values, in the graph, its subgraphs and the function bodies. Attributes that are
single floats (epsilon) stay: ONNX stores them in float32, and every runtime reads that same value.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

_NARROW = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "stash_type")


def in_float64(proto: onnx.ModelProto) -> None:
    """Rewrite `proto`, in place, to float64."""
    _widen_graph(proto.graph)
    for function in proto.functions:
        _widen_nodes(function.node)
        _widen_values(function.value_info)


def _widen_graph(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for values in (graph.input, graph.output, graph.value_info):
        _widen_values(values)
    _widen_nodes(graph.node)


def _widen_values(values: Iterable[onnx.ValueInfoProto]) -> None:
    for value in values:
        if value.type.tensor_type.elem_type in _NARROW:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE


def _widen_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        if node.op_type == "ConstantOfShape" and not node.attribute:  # its default is a float32 zero
            node.attribute.append(
                helper.make_attribute("value", helper.make_tensor("", TensorProto.DOUBLE, [1], [0.0]))
            )
        for attribute in node.attribute:
            _widen_attribute(node, attribute)


def _widen_attribute(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> None:
    if attribute.type == AttributeProto.TENSOR:
        _widen_tensor(attribute.t)
    elif attribute.type == AttributeProto.GRAPH:
        _widen_graph(attribute.g)
    elif attribute.type == AttributeProto.INT and attribute.name in _TYPE_ATTRIBUTES and attribute.i in _NARROW:
        attribute.i = TensorProto.DOUBLE
    elif node.op_type == "Constant" and attribute.type in (AttributeProto.FLOAT, AttributeProto.FLOATS):
        single = attribute.type == AttributeProto.FLOAT
        if attribute.ref_attr_name:
            return  # a function's own parameter: it arrives as a float and joins float64 by promotion
        values = np.array(attribute.f if single else list(attribute.floats), dtype=np.float64)
        attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(values)))


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _NARROW:
        wide = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
