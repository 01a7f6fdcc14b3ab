"""float32 -> float16 or bfloat16, by graph edit: the file itself says the type of every tensor.

A node computes in the half type where its operator's schema allows that; statistics and sums stay in float32:

- operands that the schema ties to float32 (scale and bias of the norms, `scales` of Resize) are left as they are, and
  the norms compute their statistics in float32 from half-precision tensors by definition;
- operators that reduce many numbers to few (`FLOAT32_OPS`) are computed in float32 between two Casts;
- so is what follows from whole numbers alone, and arguments of sines (`passes.fp16_angles`);
- nodes that `keep` names are computed in float32.

A value keeps its name. Where a type changes stands one Cast per value, named after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir

from normexport import norms
from normexport.errors import FoldError
from normexport.passes.fp16_angles import float32_nodes
from normexport.passes.nodes import op
from normexport.passes.shapes import Shapes

#: Sums over many elements, exponentials, and what divides by them.
FLOAT32_OPS = frozenset(
    [
        "Softmax",
        "LogSoftmax",
        "ReduceMean",
        "ReduceSum",
        "ReduceProd",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "CumSum",
        "GlobalAveragePool",
        "GlobalLpPool",
        "InstanceNormalization",
        "LayerNormalization",
        "GroupNormalization",
        "LpNormalization",
        "MeanVarianceNormalization",
        "SoftmaxCrossEntropyLoss",
        "NegativeLogLikelihoodLoss",
    ]
)
# They make float32 from nothing that could tell them otherwise.
_SOURCES = frozenset(["Constant", "ConstantOfShape", "RandomNormal", "RandomUniform", "EyeLike", "RandomNormalLike"])

#: Opsets 21 and 22 add types to operators and change no meaning that these graphs use.
_BFLOAT16_OPSET = 22

HALVES = {"float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}
Keep = Callable[[ir.Node], bool]


@dataclass(frozen=True)
class HalfConfig:
    """How to convert.

    Attributes:
        dtype: "float16" or "bfloat16".
        half_io: give floating graph inputs and outputs the half type too.
        keep: nodes to compute in float32, beside those that have to be.
    """

    dtype: str = "float16"
    half_io: bool = False
    keep: Keep = lambda node: False


@dataclass
class _Conversion:
    graph: ir.Graph
    config: HalfConfig
    shapes: Shapes
    opset: int
    half: ir.DataType = ir.DataType.FLOAT16
    float32: set[ir.Node] = field(default_factory=set)
    halved: set[ir.Value] = field(default_factory=set)
    casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)


def to_half(model: ir.Model, config: HalfConfig | None = None) -> ir.Model:
    """The model in half precision; `model` stays as it is. Shapes: those of `model`.

    Raises:
        FoldError: the graph holds subgraphs (If, Loop, Scan) that read float32 values.
    """
    config = config or HalfConfig()
    norms.register_schemas()
    copy = model.clone()
    opset = opset_for(copy, config.dtype)
    copy.graph.opset_imports[""] = opset
    for function in copy.functions.values():  # the checker wants one version of an operator throughout
        if function.domain == norms.DOMAIN:
            function.opset_imports[""] = max(opset, function.opset_imports.get("", opset))
    shapes = Shapes(model)
    work = _Conversion(copy.graph, config, shapes, opset, HALVES[config.dtype], float32_nodes(copy, shapes))
    work.names = {value.name for node in copy.graph for value in node.outputs if value.name}
    work.names |= {str(value.name) for value in copy.graph.inputs} | set(copy.graph.initializers)
    if config.half_io:
        for value in copy.graph.inputs:
            if _is_float(value, work):
                _set_type(value, work.half, work)
    for node in list(copy.graph):
        _convert(node, work)
    _restore_outputs(work)
    _drop_unread(work)
    return copy


def opset_for(model: ir.Model, dtype: str) -> int:
    """The operator set of the converted model: Conv and the pools take bfloat16 from opset 22 on, float16 always."""
    own = model.graph.opset_imports.get("", norms.OPSET)
    return _BFLOAT16_OPSET if dtype == "bfloat16" and norms.OPSET <= own < _BFLOAT16_OPSET else own


def nodes_in_half(model: ir.Model, dtype: str) -> list[ir.Node]:
    """The nodes that `to_half` computes in the half type unless it is told to keep them."""
    norms.register_schemas()
    half, opset, float32 = HALVES[dtype], opset_for(model, dtype), float32_nodes(model, Shapes(model))
    return [node for node in model.graph if node not in float32 and _may_be_half(node, half, opset)]


def halved_weights(node: ir.Node, dtype: str, opset: int) -> list[tuple[int, ir.Value]]:
    """Float32 initializers that a node of `nodes_in_half` reads in the half type, with the index of the operand."""
    return [
        (index, value)
        for index, value in _halved_operands(node, HALVES[dtype], opset)
        if value.is_initializer()
        and value.const_value is not None
        and value.const_value.dtype == ir.DataType.FLOAT
    ]


def halved_values(model: ir.Model, config: HalfConfig) -> frozenset[str]:
    """Names of the float32 values of `model` that `to_half` gives or reads in the half type, whole or in part."""
    half, opset, shapes = HALVES[config.dtype], opset_for(model, config.dtype), Shapes(model)
    values = [*model.graph.inputs, *model.graph.outputs] if config.half_io else []
    for node in nodes_in_half(model, config.dtype):
        if not config.keep(node):
            values += [*(value for _, value in _halved_operands(node, half, opset)), *node.outputs]
    return frozenset(str(value.name) for value in values if shapes.dtype(value) == ir.DataType.FLOAT)


def _halved_operands(node: ir.Node, half: ir.DataType, opset: int) -> list[tuple[int, ir.Value]]:
    """The operands that a node reads in the half type where they are floating, with their indices."""
    schema = _schema(node, opset)
    if schema is None:
        return []
    return [
        (index, value)
        for index, value in enumerate(node.inputs)
        if value is not None and _allows(schema, schema.inputs, index, half)
    ]


def _convert(node: ir.Node, work: _Conversion) -> None:
    if any(attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attribute in _own(node)):
        raise FoldError(
            node.name or node.op_type, "holds a subgraph", "half precision is for graphs without If and Loop"
        )
    if work.config.keep(node) or node in work.float32 or not _may_be_half(node, work.half, work.opset):
        for index, value in enumerate(node.inputs):
            if value is not None and value in work.halved:
                node.replace_input_with(index, _cast(value, ir.DataType.FLOAT, node, work))
        return
    schema = _schema(node, work.opset)
    assert schema is not None
    for index, value in enumerate(node.inputs):
        if value is None or value in work.halved or not _is_float(value, work):
            continue
        if _allows(schema, schema.inputs, index, work.half):
            node.replace_input_with(index, _halved_input(value, node, work))
    if op(node) == "Cast":
        node.attributes["to"] = ir.AttrInt64("to", int(work.half))
    for output in node.outputs:
        if _is_float(output, work):
            _set_type(output, work.half, work)


def _may_be_half(node: ir.Node, half: ir.DataType, opset: int) -> bool:
    if op(node) in FLOAT32_OPS or op(node) in _SOURCES:
        return False
    schema = _schema(node, opset)
    if schema is None:
        return False
    if op(node) == "Cast":
        to = node.attributes["to"].as_int()
        return to == int(ir.DataType.FLOAT)
    return all(_allows(schema, schema.outputs, index, half) for index in range(len(node.outputs)))


def _schema(node: ir.Node, opset: int) -> onnx.defs.OpSchema | None:
    version = norms.VERSION if node.domain == norms.DOMAIN else opset
    try:
        return onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return None


def _allows(schema: onnx.defs.OpSchema, formals: object, index: int, half: ir.DataType) -> bool:
    """Whether a parameter may be of the half type, or is not a floating one at all."""
    listed = list(formals)  # type: ignore[call-overload]
    formal = listed[min(index, len(listed) - 1)]
    types = set(formal.types)
    return f"tensor({half.name.lower()})" in types or "tensor(float)" not in types


def _halved_input(value: ir.Value, node: ir.Node, work: _Conversion) -> ir.Value:
    if value.const_value is None or not value.is_initializer() or value.is_graph_input():
        return _cast(value, work.half, node, work)
    key = (value, work.half)
    if key not in work.casts:
        with np.errstate(over="ignore"):
            array = value.const_value.numpy().astype(work.half.numpy())
        name = _fresh(f"{value.name}_{work.config.dtype}", work)
        tensor = ir.Tensor(array, dtype=work.half, name=name)
        new = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(work.half), const_value=tensor)
        work.graph.register_initializer(new)
        work.halved.add(new)
        work.casts[key] = new
    return work.casts[key]


def _cast(value: ir.Value, to: ir.DataType, reader: ir.Node, work: _Conversion) -> ir.Value:
    key = (value, to)
    if key not in work.casts:
        name = _fresh(f"{value.name}_{'float32' if to == ir.DataType.FLOAT else work.config.dtype}", work)
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
    for index, value in enumerate(list(work.graph.outputs)):
        wanted = work.half if work.config.half_io else ir.DataType.FLOAT
        is_half = value in work.halved
        if (not is_half and not _is_float(value, work)) or (wanted == work.half) == is_half:
            continue
        name = str(value.name)
        producer = value.producer()
        if producer is None:  # an input handed through
            continue
        inner = _cast(value, wanted, producer, work)
        value.name = _fresh(f"{name}_{work.config.dtype if is_half else 'float32'}", work)
        work.graph.outputs[index] = inner
        inner.name = name


def _drop_unread(work: _Conversion) -> None:
    for name, value in list(work.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            del work.graph.initializers[name]


def _is_float(value: ir.Value, work: _Conversion) -> bool:
    return value not in work.halved and work.shapes.dtype(value) == ir.DataType.FLOAT


def _set_type(value: ir.Value, dtype: ir.DataType, work: _Conversion) -> None:
    value.type = ir.TensorType(dtype)
    work.halved.add(value)


def _own(node: ir.Node) -> list[ir.Attr]:
    return [attribute for attribute in node.attributes.values() if not attribute.is_ref()]


def _fresh(stem: str, work: _Conversion) -> str:
    name, count = stem, 0
    while name in work.names:
        count += 1
        name = f"{stem}_{count}"
    work.names.add(name)
    return name
