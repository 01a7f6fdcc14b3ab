"""A half-precision file as ONNX Runtime's CPU would compute it if it rounded where the file says so.

ONNX Runtime has next to no half-precision kernels for the CPU. For float16 it computes in float32 and drops the Casts
between (1.32: 1000 * 1000 / 1000 in float16 gives 1000, not infinity); for bfloat16 it refuses the file. Here every
value of the half type is computed in float32 and rounded once, by a pair of Casts that ONNX Runtime does keep: what a
GPU with float32 accumulators does.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from normexport.dtypes import HALVES, onnx_numbers
from normexport.graphs.names import Names
from normexport.graphs.shapes import Shapes

_HALF = onnx_numbers(HALVES)


def rounding_in_float32(model: ir.Model) -> ir.Model:
    """The model with float32 in place of half types and each half-precision value rounded to its type.

    Values keep their names. Half-precision inputs and outputs of the graph become float32 ones, rounded: numpy and ONNX
    Runtime's bindings know no bfloat16. `model` stays.
    """
    copy = model.clone()
    graph, names = copy.graph, Names(copy.graph)
    _write_types(copy)
    for value in graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype in _HALF:
            array = value.const_value.numpy().astype(np.float32)
            value.const_value = ir.Tensor(array, name=value.name)
            value.type = ir.TensorType(ir.DataType.FLOAT)
    for node in list(graph):
        for name, attribute in list(node.attributes.items()):
            _widen(node, name, attribute)
        for value in node.outputs:
            if value.dtype in _HALF:
                _round(value, graph, node, names)
    for value in graph.inputs:
        if value.dtype in _HALF:
            _round(value, graph, None, names)
    return copy


def _write_types(model: ir.Model) -> None:
    """Give each value the type that follows where the file says none: what is not known to be half is not rounded."""
    types = Shapes(model)
    found = {value: types.dtype(value) for node in model.graph for value in node.outputs if value.dtype is None}
    for value, kind in found.items():
        if kind is not None:
            value.type = ir.TensorType(kind)


def _widen(node: ir.Node, name: str, attribute: ir.Attr) -> None:
    if node.op_type == "Cast" and name == "to" and attribute.as_int() in _HALF:
        node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT))
    if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in _HALF:
        node.attributes[name] = ir.AttrTensor(name, ir.Tensor(attribute.as_tensor().numpy().astype(np.float32)))


def _round(value: ir.Value, graph: ir.Graph, node: ir.Node | None, names: Names) -> None:
    """What read `value` reads value -> Cast to half -> Cast to float32; the result of a node hands its name on.

    An input that is an output too is handed out as it came: one name can't mean two values.
    """
    half = value.dtype
    assert half is not None
    name, uses = value.name, list(value.uses())
    narrow = ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(half))], name=names.fresh(f"{name}/round"))
    wide = ir.Node(
        "", "Cast", [narrow.outputs[0]], [ir.AttrInt64("to", int(ir.DataType.FLOAT))], name=names.fresh(f"{name}/widen")
    )
    rounded, result = narrow.outputs[0], wide.outputs[0]
    # Without shapes: one that is declared for another batch than the input's would bind these, too.
    rounded.name, rounded.type = names.fresh(f"{name}/half"), ir.TensorType(half)
    result.name, result.type = names.fresh(f"{name}/wide"), ir.TensorType(ir.DataType.FLOAT)
    value.type = ir.TensorType(ir.DataType.FLOAT)
    for use in uses:
        use.node.replace_input_with(use.idx, result)
    if node is None:
        if uses:
            graph.insert_before(graph[0], [narrow, wide])
        return
    graph.insert_after(node, [narrow, wide])
    value.name, result.name = names.fresh(f"{name}/raw"), name
    value.shape, result.shape = None, value.shape
    for index, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[index] = result
