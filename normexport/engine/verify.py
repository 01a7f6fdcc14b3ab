"""Proof that the built network is the one that was asked for.

TensorRT gives no word when it builds something else: a flag that does nothing is a float32 engine. The inspector of an
opened plan would tell, but opening one needs a GPU. Networks are strongly typed, so the parsed network tells as much:
the builder may fuse its layers and may not change their types.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import onnx

from normexport.dtypes import EIGHT_BITS, FLOAT8, INT8, SHORT, of_onnx, of_tensorrt
from normexport.errors import EngineError
from normexport.io.onnx_scan import NAMESPACE

if TYPE_CHECKING:
    from normexport.engine.prepare import PluginNode

Layer = Mapping[str, Any]

_PLUGIN = "PLUGIN_V3"
_EIGHT_BITS = {onnx.TensorProto.INT8: INT8, FLOAT8.onnx: FLOAT8.name}
#: Layers whose type decides how fast a network is, and by which ONNX operators they are made.
_COMPUTE = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM", _PLUGIN)
_COMPUTE_OPS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum")

#: What may stand between a DEQUANTIZE and the layer that it is fused into.
_RESHAPING = ("SHUFFLE", "IDENTITY", "SQUEEZE", "UNSQUEEZE")
_RESHAPING_OPS = ("Transpose", "Reshape", "Flatten", "Identity")


def check_plugins(graph: onnx.GraphProto, plugins: Sequence[PluginNode], layers: Sequence[Layer]) -> None:
    """The plugin layers are exactly the nodes that should be, with the types they should have.

    Args:
        graph: the one that was parsed.

    Raises:
        EngineError: a node is missing, one was taken that should not be, or its types are not the operator's.
    """
    built = {layer["name"]: layer for layer in layers if layer["type"] == _PLUGIN}
    asked = {each.node: each.op for each in plugins}
    for name, op in asked.items():
        if name not in built:
            raise EngineError(f"node {name}", f"{op} did not become a plugin layer", "report it, with the log")
        data, result = built[name]["inputs"][0]["dtype"], built[name]["outputs"][0]["dtype"]
        wrong = data != result or (data == "int8") != op.startswith("Q")
        if wrong:
            cause = f"{op} reads {of_tensorrt(data)} and writes {of_tensorrt(result)}"
            raise EngineError(f"node {name}", cause, "report it, with the log")
    kept = {node.name for node in graph.node if node.domain == NAMESPACE} - set(asked)
    for name in built:
        if name in kept:
            raise EngineError(f"node {name}", "became a plugin layer and should not have", "report it, with the log")


def precisions(layers: Sequence[Layer]) -> dict[str, int]:
    """How many computing layers run in which precision."""
    producers = _producers(layers)
    return dict(Counter(_precision(layer, producers) for layer in layers if layer["type"] in _COMPUTE))


def check_precision(graph: onnx.GraphProto, layers: Sequence[Layer], demanded: str | None) -> None:
    """Every computing layer has the type of its ONNX node, and the demanded precision is there.

    Raises:
        EngineError: a layer is wider than its node, or no layer has the demanded precision.
    """
    producers = _producers(layers)
    built = {layer["origin"]: _precision(layer, producers) for layer in layers if layer["type"] in _COMPUTE}
    asked = _Asked(graph)
    for node in graph.node:
        wanted = asked.precision(node) if node.op_type in _COMPUTE_OPS else None
        found = built.get(f"[ONNX Layer: {node.name}]")
        if wanted is not None and found is not None and wanted != found:
            cause = f"{node.op_type} is {wanted} in the file and {found} in the engine"
            raise EngineError(f"node {node.name}", cause, "report it, with the log")
    counts = precisions(layers)
    if demanded is not None and not counts.get(demanded):
        there = ", ".join(f"{number} {name}" for name, number in counts.items()) or "none at all"
        cause = f"no computing layer is {demanded} (there are: {there})"
        remedy = f"convert the model first: normexport convert --precision {SHORT[demanded]}"
        raise EngineError("precision", cause, remedy)


def _producers(layers: Sequence[Layer]) -> dict[str, Layer]:
    return {tensor["name"]: layer for layer in layers for tensor in layer["outputs"]}


def _precision(layer: Layer, producers: Mapping[str, Layer]) -> str:
    """Of what a layer multiplies: int8 or fp8 where DEQUANTIZE stands before both factors, for TensorRT fuses it."""
    own = of_tensorrt(layer["outputs"][0]["dtype"])
    if layer["type"] == _PLUGIN or len(layer["inputs"]) < 2:
        return own
    first, second = (_dequantized(tensor["name"], producers) for tensor in layer["inputs"][:2])
    return first if first and first == second else own


def _dequantized(tensor: str, producers: Mapping[str, Layer]) -> str:
    """What a DEQUANTIZE behind a tensor reads, one of `EIGHT_BITS`; "" where there is none."""
    source = producers.get(tensor)
    while source is not None and source["type"] in _RESHAPING and source["inputs"]:
        source = producers.get(source["inputs"][0]["name"])
    if source is None or source["type"] != "DEQUANTIZE":
        return ""
    dtype = of_tensorrt(source["inputs"][0]["dtype"])
    return dtype if dtype in EIGHT_BITS else ""


class _Asked:
    """What a file says of its tensors: their types, and the nodes that make them."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        described = (*graph.input, *graph.value_info, *graph.output)
        self._types = {tensor.name: tensor.data_type for tensor in graph.initializer}
        self._types |= {each.name: each.type.tensor_type.elem_type for each in described}
        self._makers = {name: node for node in graph.node for name in node.output if name}

    def precision(self, node: onnx.NodeProto) -> str | None:
        """As `_precision`, None where the file does not tell."""
        first, second = [self._dequantized(name) for name in node.input[:2]] if len(node.input) >= 2 else ("", "")
        if first and first == second:
            return first
        number = self._types.get(node.output[0], 0)
        kind = of_onnx(number)
        return kind.name if kind is not None and kind.tensorrt else INT8 if number == onnx.TensorProto.INT8 else None

    def _dequantized(self, tensor: str) -> str:
        source = self._makers.get(tensor)
        while source is not None and source.op_type in _RESHAPING_OPS and source.input:
            source = self._makers.get(source.input[0])
        if source is None or source.op_type != "DequantizeLinear" or not source.input:
            return ""
        return _EIGHT_BITS.get(self._types.get(source.input[0], 0), "")
