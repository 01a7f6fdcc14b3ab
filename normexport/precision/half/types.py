"""What of a float32 graph goes into a half type: which nodes, which of their operands, from which operator set on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from normexport import norms
from normexport.dtypes import CONVOLVED_FROM, HALVES
from normexport.errors import FoldError
from normexport.graphs.nodes import op
from normexport.graphs.shapes import Shapes
from normexport.io.onnx_domain import opset_in
from normexport.precision.half.angles import float32_nodes
from normexport.precision.later_opset import stays_in_opset

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

_FIRST_BFLOAT16_OPSET = 13

_CONTAINERS = (ir.SequenceType, ir.OptionalType)
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


def refuse_subgraphs(model: ir.Model) -> None:
    """If, Loop and Scan are not converted.

    Raises:
        FoldError: the graph holds one.
    """
    for node in model.graph:
        if any(attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attr in _own_attributes(node)):
            place, remedy = node.name or node.op_type, "half precision is for graphs without If and Loop"
            raise FoldError(place, "holds a subgraph", remedy)


def first_opset(dtype: str) -> int:
    """The operator set from which on Cast knows the half type; 0: every one does."""
    return _FIRST_BFLOAT16_OPSET if dtype == "bfloat16" else 0


def opset_for(model: ir.Model, dtype: str) -> int:
    """The operator set of the converted model: Conv and the pools take bfloat16 from opset 22 on, float16 always."""
    own = opset_in(model.graph.opset_imports, norms.OPSET)
    if own < first_opset(dtype):
        cause = f"is of operator set {own}, and bfloat16 came with {_FIRST_BFLOAT16_OPSET}"
        raise FoldError(model.graph.name or "model", cause, "export it again with a later one, or take float16")
    later = norms.OPSET <= own < CONVOLVED_FROM[dtype] and not stays_in_opset(model)
    return CONVOLVED_FROM[dtype] if later else own


def nodes_in_half(model: ir.Model, dtype: str) -> list[ir.Node]:
    """The nodes that `to_half` computes in the half type unless it is told to keep them."""
    norms.register_schemas()
    half, opset, float32 = HALVES[dtype].ir, opset_for(model, dtype), float32_nodes(model, Shapes(model))
    return [node for node in model.graph if node not in float32 and may_be_half(node, half, opset)]


def halved_weights(node: ir.Node, dtype: str, opset: int) -> list[tuple[int, ir.Value]]:
    """Float32 initializers that a node of `nodes_in_half` reads in the half type, with the index of the operand."""
    return [
        (index, value)
        for index, value in _halved_operands(node, HALVES[dtype].ir, opset)
        if value.is_initializer() and value.const_value is not None and value.const_value.dtype == ir.DataType.FLOAT
    ]


def halved_values(model: ir.Model, config: HalfConfig) -> frozenset[str]:
    """Names of the float32 values of `model` that `to_half` gives or reads in the half type, whole or in part."""
    half, opset, shapes = HALVES[config.dtype].ir, opset_for(model, config.dtype), Shapes(model)
    values = [*model.graph.inputs, *model.graph.outputs] if config.half_io else []
    for node in nodes_in_half(model, config.dtype):
        if not config.keep(node):
            values += [*(value for _, value in _halved_operands(node, half, opset)), *node.outputs]
    return frozenset(str(value.name) for value in values if is_float32(value, shapes))


def _halved_operands(node: ir.Node, half: ir.DataType, opset: int) -> list[tuple[int, ir.Value]]:
    """The operands that a node reads in the half type where they are floating, with their indices."""
    schema = schema_of(node, opset)
    if schema is None:
        return []
    return [
        (index, value)
        for index, value in enumerate(node.inputs)
        if value is not None and reads_half(node, schema, index, half)
    ]


def is_float32(value: ir.Value, shapes: Shapes) -> bool:
    """Whether a value is a tensor of float32; sequences of such are none."""
    return not isinstance(value.type, _CONTAINERS) and shapes.dtype(value) == ir.DataType.FLOAT


def may_be_half(node: ir.Node, half: ir.DataType, opset: int) -> bool:
    """Whether an operator's schema lets it compute in the half type, and sums and sources aside it should."""
    if op(node) in FLOAT32_OPS or op(node) in _SOURCES:
        return False
    schema = schema_of(node, opset)
    if schema is None or any(not _has_tensors(formal) for formal in (*schema.inputs, *schema.outputs)):
        return False
    if op(node) == "Cast":
        to = node.attributes["to"].as_int()
        return to == int(ir.DataType.FLOAT)
    follows = all(
        _follows_an_input(formal_of(schema.outputs, index), node, schema) for index in range(len(node.outputs))
    )
    return follows and all(allows(schema, schema.outputs, index, half) for index in range(len(node.outputs)))


def _follows_an_input(result: onnx.defs.OpSchema.FormalParameter, node: ir.Node, schema: onnx.defs.OpSchema) -> bool:
    """Whether a floating result has the type of an input; else an attribute says it (dtype), or nothing does."""
    given = {formal_of(schema.inputs, index).type_str for index, value in enumerate(node.inputs) if value is not None}
    return "tensor(float)" not in result.types or result.type_str in given


def _has_tensors(formal: onnx.defs.OpSchema.FormalParameter) -> bool:
    """Whether a parameter may be a tensor, not a sequence alone."""
    return any(kind.startswith("tensor(") for kind in formal.types)


def schema_of(node: ir.Node, opset: int) -> onnx.defs.OpSchema | None:
    """The schema of a node's operator in the converted model, None where nobody knows it."""
    version = norms.VERSION if node.domain == norms.DOMAIN else opset
    try:
        return onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return None


def formal_of(formals: object, index: int) -> onnx.defs.OpSchema.FormalParameter:
    """The parameter of that index; the last one may stand for any number."""
    listed = list(formals)  # type: ignore[call-overload]  # a sequence by the schema, of no type in onnx
    found: onnx.defs.OpSchema.FormalParameter = listed[min(index, len(listed) - 1)]
    return found


def reads_half(node: ir.Node, schema: onnx.defs.OpSchema, index: int, half: ir.DataType) -> bool:
    """Whether a node in the half type reads this operand in it, too.

    The ratio of a Dropout stays as it is: of one that a Cast makes, ONNX Runtime 1.32 makes the Dropout's result.
    """
    return (op(node), index) != ("Dropout", 1) and allows(schema, schema.inputs, index, half)


def allows(schema: onnx.defs.OpSchema, formals: object, index: int, half: ir.DataType) -> bool:
    """Whether a parameter may be of the half type, or is not a floating one at all."""
    formal = formal_of(formals, index)
    types = set(formal.types)
    return f"tensor({half.name.lower()})" in types or "tensor(float)" not in types


def _own_attributes(node: ir.Node) -> list[ir.Attr]:
    return [attribute for attribute in node.attributes.values() if not attribute.is_ref()]
