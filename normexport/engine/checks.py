"""What no engine can be built from, whoever parses the file."""

from __future__ import annotations

from collections.abc import Collection

import onnx

from normexport.errors import EngineError
from normexport.io.external_data import ExternalFiles
from normexport.io.onnx_domain import is_onnx_domain
from normexport.io.onnx_scan import NAMESPACE
from normexport.io.onnx_tensors import external
from normexport.io.onnx_walk import nodes_of

#: Domains whose operators a parser knows by itself.
_PARSERS_OWN = ("", "ai.onnx", "com.microsoft", "trt", "trt.plugins")

_PAIR = ("QuantizeLinear", "DequantizeLinear")


def check_operators(model: onnx.ModelProto, known: Collection[str] = ()) -> None:
    """Name an operator that nobody computes before the parser does: some versions of it abort.

    Args:
        known: names of all plugin creators but ours, for operators of foreign domains.

    Raises:
        EngineError: a foreign operator has neither plugin nor body.
    """
    functions = {(function.domain, function.name) for function in model.functions}
    for node in nodes_of(model):
        if node.domain in (*_PARSERS_OWN, NAMESPACE) or (node.domain, node.op_type) in functions:
            continue
        if node.op_type not in known:
            cause = f"{node.domain}::{node.op_type} has neither plugin nor body"
            raise EngineError(f"node {node.name or node.op_type}", cause, "give the file its function, or a plugin")


def check_zero_points(model: onnx.ModelProto, files: ExternalFiles) -> None:
    """Refuse what TensorRT does not have: it quantises symmetrically only.

    Args:
        files: where the model's external data is.

    Raises:
        EngineError: a zero point that is not zero.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in _PAIR or not is_onnx_domain(node.domain) or len(node.input) < 3:
            continue
        zero = constants.get(node.input[2])
        if zero is not None and not _is_zero(zero, files):
            cause = "has a zero point that is not zero, and TensorRT quantises symmetrically"
            raise EngineError(f"node {node.name}", cause, "quantise the model symmetrically")


def _is_zero(tensor: onnx.TensorProto, files: ExternalFiles) -> bool:
    """Whether all its bytes are zero, wherever they are."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return not any(external(tensor, f"tensor {tensor.name}", files).read())
    return not any(tensor.raw_data) and not any(tensor.int32_data)
