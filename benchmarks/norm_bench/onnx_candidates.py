"""The ONNX operator on ONNX Runtime, bound to the rotating buffers: nothing is allocated or copied in a timed call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from norm_bench.cases import EPSILON, Case
from normexport import norms

_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int8": TensorProto.INT8,
}


def model(case: Case) -> onnx.ModelProto | None:
    """One node with its body; None where the operator has no body."""
    body = norms.functions().get(case.op)
    if body is None:
        return None
    element = _TYPES[case.dtype]
    x, y = (helper.make_tensor_value_info(name, element, case.shape) for name in ("X", "Y"))
    vectors = [
        helper.make_tensor(name, TensorProto.FLOAT, [case.shape[1]], values.cpu().tolist())
        for name, values in zip(("scale", "bias"), case.parameters, strict=True)
    ]
    node = helper.make_node(case.op, ["X", "scale", "bias"], ["Y"], domain=norms.DOMAIN, epsilon=EPSILON)
    graph = helper.make_graph([node], "norm", [x], [y], vectors)
    opsets = [helper.make_opsetid("", norms.OPSET), helper.make_opsetid(norms.DOMAIN, norms.VERSION)]
    return helper.make_model(graph, opset_imports=opsets, functions=[body], ir_version=norms.IR_VERSION)


def on_onnx_runtime(case: Case, threads: int, library: Path | None) -> Callable[[int], None] | None:
    """A call on buffer i; with `library` registered its kernel serves, else the body. None without a body."""
    proto = model(case)
    if proto is None:
        return None
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if library is not None:
        options.register_custom_ops_library(str(library))
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    bindings = []
    for x, y in zip(case.xs, case.ys, strict=True):
        binding = session.io_binding()
        binding.bind_input("X", "cpu", 0, _TYPES[case.dtype], case.shape, x.data_ptr())
        binding.bind_output("Y", "cpu", 0, _TYPES[case.dtype], case.shape, y.data_ptr())
        bindings.append(binding)
    return lambda i: session.run_with_iobinding(bindings[i])
