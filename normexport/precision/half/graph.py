"""float32 -> float16 or bfloat16, by graph edit: the file itself says the type of every tensor.

A node computes in the half type where its operator's schema allows that; statistics and sums stay in float32:

- operands that the schema ties to float32 (scale and bias of the norms, `scales` of Resize) are left as they are, and
  the norms compute their statistics in float32 from half-precision tensors by definition;
- operators that reduce many numbers to few (`fp16_types.FLOAT32_OPS`) are computed in float32 between two Casts;
- so is what follows from whole numbers alone, and arguments of sines (`angles`);
- nodes that `keep` names are computed in float32.

A value keeps its name. Where a type changes stands one Cast per value, named after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from normexport import norms
from normexport.dtypes import HALVES
from normexport.graphs.initializers import add_initializer, fixed_tensor
from normexport.graphs.names import Names
from normexport.graphs.nodes import drop_unread_initializers, op
from normexport.graphs.shapes import Shapes
from normexport.precision.half.angles import float32_nodes
from normexport.precision.half.turned import turn_products
from normexport.precision.half.types import (
    HalfConfig,
    is_float32,
    may_be_half,
    opset_for,
    reads_half,
    refuse_subgraphs,
    schema_of,
)
from normexport.precision.later_opset import in_later_opset

__all__ = ["HalfConfig", "to_half"]


@dataclass
class _Conversion:
    graph: ir.Graph
    config: HalfConfig
    shapes: Shapes
    opset: int
    names: Names
    half: ir.DataType = ir.DataType.FLOAT16
    float32: set[ir.Node] = field(default_factory=set)
    halved: set[ir.Value] = field(default_factory=set)
    casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = field(default_factory=dict)


def to_half(model: ir.Model, config: HalfConfig | None = None) -> ir.Model:
    """The model in half precision; `model` stays as it is. Shapes: those of `model`.

    Raises:
        FoldError: the graph holds subgraphs (If, Loop, Scan), or its operator set knows no bfloat16.
    """
    config = config or HalfConfig()
    norms.register_schemas()
    refuse_subgraphs(model)
    opset = opset_for(model, config.dtype)
    copy = in_later_opset(model, opset)
    shapes = Shapes(model)
    half, float32 = HALVES[config.dtype].ir, float32_nodes(copy, shapes)
    work = _Conversion(copy.graph, config, shapes, opset, Names(copy.graph), half, float32)
    if config.half_io:
        stored = [value for value in copy.graph.outputs if value.is_initializer()]
        for value in dict.fromkeys((*copy.graph.inputs, *stored)):
            if _is_float(value, work):
                _set_type(value, work.half, work)
                if value.const_value is not None:  # it holds this, as an output or where the caller gives nothing
                    array = _in_half(value.const_value, work.half)
                    value.const_value = ir.Tensor(array, dtype=work.half, name=value.name)
    for node in list(copy.graph):
        _convert(node, work)
    _restore_outputs(work)
    if work.half == ir.DataType.FLOAT16:
        turn_products(copy)
    drop_unread_initializers(work.graph)
    return copy


def _convert(node: ir.Node, work: _Conversion) -> None:
    if work.config.keep(node) or node in work.float32 or not may_be_half(node, work.half, work.opset):
        for index, value in enumerate(node.inputs):
            if value is not None and value in work.halved:
                node.replace_input_with(index, _cast(value, ir.DataType.FLOAT, node, work))
        return
    schema = schema_of(node, work.opset)
    assert schema is not None
    for index, value in enumerate(node.inputs):
        in_half = reads_half(node, schema, index, work.half)
        if value is not None and value in work.halved and not in_half:
            node.replace_input_with(index, _cast(value, ir.DataType.FLOAT, node, work))
        if value is None or value in work.halved or not _is_float(value, work):
            continue
        if in_half:
            node.replace_input_with(index, _halved_input(value, node, work))
    if op(node) == "Cast":
        node.attributes["to"] = ir.AttrInt64("to", int(work.half))
    for output in node.outputs:
        if _is_float(output, work):
            _set_type(output, work.half, work)


def _halved_input(value: ir.Value, node: ir.Node, work: _Conversion) -> ir.Value:
    tensor = fixed_tensor(value)
    if tensor is None:
        return _cast(value, work.half, node, work)
    key = (value, work.half)
    if key not in work.casts:
        name = work.names.fresh(f"{value.name}_{work.config.dtype}")
        new = add_initializer(work.graph, name, _in_half(tensor, work.half), work.half)
        work.halved.add(new)
        work.casts[key] = new
    return work.casts[key]


def _in_half(tensor: ir.TensorProtocol, half: ir.DataType) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):
        array: npt.NDArray[Any] = tensor.numpy().astype(half.numpy())
    return array


def _cast(value: ir.Value, to: ir.DataType, reader: ir.Node, work: _Conversion) -> ir.Value:
    key = (value, to)
    if key not in work.casts:
        name = work.names.fresh(f"{value.name}_{'float32' if to == ir.DataType.FLOAT else work.config.dtype}")
        node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(to))], name=name)
        node.metadata_props.update(reader.metadata_props)
        node.metadata_props.pop("normexport.folded", None)
        output = node.outputs[0]
        output.name, output.type, output.shape = name, ir.TensorType(to), value.shape
        producer = value.producer()
        if producer is not None and producer.graph is work.graph:
            work.graph.insert_after(producer, node)
        else:
            work.graph.insert_before(work.graph[0], node)
        if to == work.half:
            work.halved.add(output)
        work.casts[key] = output
    return work.casts[key]


def _restore_outputs(work: _Conversion) -> None:
    """Graph outputs get the type that was asked for, and keep their names."""
    replaced: dict[ir.Value, ir.Value] = {}
    for index, value in enumerate(list(work.graph.outputs)):
        if value in replaced:  # an output that the graph names twice
            work.graph.outputs[index] = replaced[value]
            continue
        wanted = work.half if work.config.half_io else ir.DataType.FLOAT
        is_half = value in work.halved
        if (not is_half and not _is_float(value, work)) or (wanted == work.half) == is_half:
            continue
        name = str(value.name)
        producer = value.producer()
        if producer is None:  # an input handed through
            continue
        inner = _cast(value, wanted, producer, work)
        value.name = work.names.fresh(f"{name}_{work.config.dtype if is_half else 'float32'}")
        work.graph.outputs[index] = replaced[value] = inner
        inner.name = name


def _is_float(value: ir.Value, work: _Conversion) -> bool:
    return value not in work.halved and is_float32(value, work.shapes)


def _set_type(value: ir.Value, dtype: ir.DataType, work: _Conversion) -> None:
    value.type = ir.TensorType(dtype)
    work.halved.add(value)
