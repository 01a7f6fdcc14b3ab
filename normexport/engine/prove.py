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

Layer = Mapping[str, Any]

_PLUGIN = "PLUGIN_V3"
#: Layers whose type decides how fast a network is, and by which ONNX operators they are made.
_COMPUTE = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM", _PLUGIN)
_COMPUTE_OPS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum")

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
    ours = [name for name in built if name not in asked and str(built[name]["origin"]).find("normexport") >= 0]
    if ours:
        raise EngineError(f"node {ours[0]}", "became a plugin layer and should not have", "report it, with the log")


def precisions(layers: Sequence[Layer]) -> dict[str, int]:
    """How many computing layers run in which precision; int8 is what stands between DequantizeLinear and itself."""
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
    """Of the data that a layer multiplies: its first input, behind the DEQUANTIZE that TensorRT fuses into it."""
    source = producers.get(layer["inputs"][0]["name"]) if layer["inputs"] else None
    if source is not None and source["type"] == "DEQUANTIZE" and source["inputs"]:
        return dtype(source["inputs"][0]["dtype"])
    return dtype(layer["outputs"][0]["dtype"])


def _wanted(node: ir.Node) -> str | None:
    source = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    value: ir.Value | None = node.outputs[0]
    if source is not None and source.op_type == "DequantizeLinear":
        value = source.inputs[0]
    return _ONNX_TYPES.get(value.dtype) if value is not None and value.dtype is not None else None


def _short(precision: str) -> str:
    return {"float16": "fp16", "bfloat16": "bf16"}.get(precision, precision)
