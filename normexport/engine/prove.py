"""Proof that the built network is the one that was asked for.

TensorRT gives no word when it builds something else: a flag that does nothing is a float32 engine. The inspector of an
opened plan would tell, but opening one needs a GPU. Networks are strongly typed, so the parsed network tells as much:
the builder may fuse its layers and may not change their types.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from normexport.engine.prepare import Prepared
from normexport.errors import EngineError
from normexport.norms import DOMAIN

Layer = Mapping[str, Any]

_PLUGIN = "PLUGIN_V3"
#: Layers whose type decides how fast a network is, and by which ONNX operators they are made.
_COMPUTE = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM", _PLUGIN)
_COMPUTE_OPS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum")

#: What may stand between a DEQUANTIZE and the layer that it is fused into.
_RESHAPING = ("SHUFFLE", "IDENTITY", "SQUEEZE", "UNSQUEEZE")
_RESHAPING_OPS = ("Transpose", "Reshape", "Flatten", "Identity")

#: TensorRT's names of types -> ours.
DTYPES = {"float": "float32", "half": "float16", "bf16": "bfloat16"}
_ONNX_TYPES = {
    ir.DataType.FLOAT: "float32",
    ir.DataType.FLOAT16: "float16",
    ir.DataType.BFLOAT16: "bfloat16",
    ir.DataType.INT8: "int8",
}


def dtype(name: str) -> str:
    """TensorRT's "half" -> "float16"."""
    return DTYPES.get(name, name)


def check_plugins(prepared: Prepared, layers: Sequence[Layer]) -> None:
    """The plugin layers are exactly the nodes that should be, with the types they should have.

    Raises:
        EngineError: a node is missing, one was taken that should not be, or its types are not the operator's.
    """
    built = {layer["name"]: layer for layer in layers if layer["type"] == _PLUGIN}
    asked = {each.node: each.op for each in prepared.plugins}
    for name, op in asked.items():
        if name not in built:
            raise EngineError(f"node {name}", f"{op} did not become a plugin layer", "report it, with the log")
        data, result = built[name]["inputs"][0]["dtype"], built[name]["outputs"][0]["dtype"]
        wrong = data != result or (data == "int8") != op.startswith("Q")
        if wrong:
            cause = f"{op} reads {dtype(data)} and writes {dtype(result)}"
            raise EngineError(f"node {name}", cause, "report it, with the log")
    kept = {node.name for node in prepared.model.graph if node.domain == DOMAIN} - set(asked)
    for name in built:
        if name in kept:
            raise EngineError(f"node {name}", "became a plugin layer and should not have", "report it, with the log")


def precisions(layers: Sequence[Layer]) -> dict[str, int]:
    """How many computing layers run in which precision."""
    producers = _producers(layers)
    return dict(Counter(_precision(layer, producers) for layer in layers if layer["type"] in _COMPUTE))


def check_precision(model: ir.Model, layers: Sequence[Layer], demanded: str | None) -> None:
    """Every computing layer has the type of its ONNX node, and the demanded precision is there.

    Raises:
        EngineError: a layer is wider than its node, or no layer has the demanded precision.
    """
    producers = _producers(layers)
    built = {layer["origin"]: _precision(layer, producers) for layer in layers if layer["type"] in _COMPUTE}
    for node in model.graph:
        wanted = _wanted(node) if node.op_type in _COMPUTE_OPS else None
        found = built.get(f"[ONNX Layer: {node.name}]")
        if wanted is not None and found is not None and wanted != found:
            cause = f"{node.op_type} is {wanted} in the file and {found} in the engine"
            raise EngineError(f"node {node.name}", cause, "report it, with the log")
    counts = precisions(layers)
    if demanded is not None and not counts.get(demanded):
        there = ", ".join(f"{number} {name}" for name, number in counts.items()) or "none at all"
        cause = f"no computing layer is {demanded} (there are: {there})"
        remedy = f"convert the model first: normexport convert --precision {_short(demanded)}"
        raise EngineError("precision", cause, remedy)


def _producers(layers: Sequence[Layer]) -> dict[str, Layer]:
    return {tensor["name"]: layer for layer in layers for tensor in layer["outputs"]}


def _precision(layer: Layer, producers: Mapping[str, Layer]) -> str:
    """Of what a layer multiplies: int8 where DEQUANTIZE stands before both factors, for TensorRT fuses it into them."""
    own = dtype(layer["outputs"][0]["dtype"])
    if layer["type"] == _PLUGIN or len(layer["inputs"]) < 2:
        return own
    both = all(_is_dequantized(tensor["name"], producers) for tensor in layer["inputs"][:2])
    return "int8" if both else own


def _is_dequantized(tensor: str, producers: Mapping[str, Layer]) -> bool:
    source = producers.get(tensor)
    while source is not None and source["type"] in _RESHAPING and source["inputs"]:
        source = producers.get(source["inputs"][0]["name"])
    return source is not None and source["type"] == "DEQUANTIZE" and source["inputs"][0]["dtype"] == "int8"


def _wanted(node: ir.Node) -> str | None:
    """The same of an ONNX node, None where its file does not tell."""
    if len(node.inputs) >= 2 and all(_reads_int8(value) for value in node.inputs[:2]):
        return "int8"
    value = node.outputs[0]
    return _ONNX_TYPES.get(value.dtype) if value.dtype is not None else None


def _reads_int8(value: ir.Value | None) -> bool:
    source = value.producer() if value is not None else None
    while source is not None and source.op_type in _RESHAPING_OPS and source.inputs[0] is not None:
        source = source.inputs[0].producer()
    if source is None or source.op_type != "DequantizeLinear" or source.inputs[0] is None:
        return False
    return source.inputs[0].dtype == ir.DataType.INT8


def _short(precision: str) -> str:
    return {"float16": "fp16", "bfloat16": "bf16"}.get(precision, precision)
