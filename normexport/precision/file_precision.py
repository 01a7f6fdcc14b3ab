"""The precision that an ONNX file computes in, by what stands in its graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from normexport.dtypes import FLOAT8, FLOAT32, INT8, DType, of_onnx
from normexport.errors import FoldError
from normexport.graphs.nodes import label, op
from normexport.norms import DOMAIN
from normexport.precision.config import TRAINED

_QUANTIZED = {
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"),
    *("ConvInteger", "MatMulInteger"),
}


def precision_of(model: ir.Model) -> str:
    """ "int8", or "float8_e4m3fn" where anything is, of quantised models; else the half type of weights or values, or
    "float32". What no output follows from does not count: it would let a wrong float32 file be judged as a coarser one.
    """
    found = _precision_in(model)
    return found if found == FLOAT32.name else _precision_in(_without_unused(model))


def _without_unused(model: ir.Model) -> ir.Model:
    copy = model.clone()
    RemoveUnusedNodesPass()(copy)
    return copy


def _precision_in(model: ir.Model) -> str:
    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
    quantised = [node for node in nodes if _is_quantized(node)]
    if quantised:
        return FLOAT8.name if any(map(_is_float8, quantised)) else INT8
    types = {value.dtype for node in nodes for value in node.outputs}
    types |= {value.const_value.dtype for value in model.graph.initializers.values() if value.const_value is not None}
    types |= {ir.DataType(node.attributes["to"].as_int()) for node in nodes if op(node) == "Cast"}
    kinds = [kind for kind in map(of_onnx, types) if kind is not None and kind.is_half]
    return max(kinds, key=lambda kind: kind.unit_roundoff, default=FLOAT32).name  # the coarser where several are


def require_float32(model: ir.Model) -> None:
    """Refuse to reduce a model that is no float32 one: less would be reduced than the result says.

    It is one where most numbers of its weights are float32. Half-precision weights that are read as float32 alone, by
    a Cast, count as such: that is how some exporters store them.

    Raises:
        FoldError: it is quantised, or computes in another type.
    """
    refuse_quantized(model)
    numbers = Counter[DType]()
    for kind, size in _weights(model):
        numbers[kind] += size
    most = max(numbers, key=lambda kind: (numbers[kind], kind is FLOAT32), default=FLOAT32)
    if most is not FLOAT32:
        remedy = "give the float32 model" + (", or leave --precision out" if most.is_half else "")
        raise FoldError(model.graph.name or "model", f"computes in {most.name}, not in float32", remedy)


def refuse_quantized(model: ir.Model) -> None:
    """Refuse to quantise, or to take to a half type, what is quantised.

    Raises:
        FoldError: names the first node that is.
    """
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if _is_quantized(node):
            remedy = f"give the float32 model, or let int8 have its integers: --calibration {TRAINED}"
            raise FoldError(label(node), "is quantisation that the model brings along", remedy)


def _is_float8(node: ir.Node) -> bool:
    """Whether a node reads or makes numbers in E4M3."""
    values = [*node.inputs, *node.outputs]
    told = node.attributes.get_int("output_dtype", 0)
    return told == FLOAT8.onnx or any(value is not None and value.dtype == FLOAT8.ir for value in values)


def _is_quantized(node: ir.Node) -> bool:
    return op(node) in _QUANTIZED or (node.domain == DOMAIN and node.op_type.startswith("Q"))


def _weights(model: ir.Model) -> Iterator[tuple[DType, int]]:
    """The type in which each floating constant is read, and how many numbers it has; scalars are no weights."""
    for graph in model.graphs():
        constants = [(value, value.const_value) for value in graph.initializers.values()]
        for node in graph:
            tensor = node.attributes.get("value") if op(node) == "Constant" else None
            if tensor is not None and tensor.type == ir.AttributeType.TENSOR:
                constants.append((node.outputs[0], tensor.as_tensor()))
        for value, held in constants:
            kind = of_onnx(held.dtype) if held is not None else None
            if held is not None and kind is not None and held.size > 1:
                yield (FLOAT32 if kind.is_half and _is_widened(value) else kind), held.size


def _is_widened(value: ir.Value) -> bool:
    """Whether all that read it cast it to float32 first."""
    readers = value.consumers()
    to = [node.attributes.get_int("to", 0) if op(node) == "Cast" else 0 for node in readers]
    return bool(readers) and not value.is_graph_output() and all(each == FLOAT32.onnx for each in to)


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
    tensors = [None if value is None else ir.convenience.get_const_tensor(value) for value in node.inputs[1:3]]
    if _is_float8(node):
        scale = tensors[0] if tensors else None
        most = None if scale is None or scale.size != 1 else FLOAT8.largest * float(scale.numpy().reshape(-1)[0])
        return None if most is None else (-most, most)
    if len(tensors) < 2 or any(tensor is None or tensor.size != 1 for tensor in tensors):
        return None
    scale, zero = (np.asarray(tensor.numpy()).reshape(-1)[0] for tensor in tensors if tensor is not None)
    if zero.dtype.kind not in "iu":
        return None
    limits = np.iinfo(zero.dtype)
    return (limits.min - int(zero)) * float(scale), (limits.max - int(zero)) * float(scale)
