"""Models of one norm, and how far its result may be from the float64 reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from normexport import norms

#: ONNX type, numpy type and unit roundoff of each activation type.
TYPES = {
    "float32": (TensorProto.FLOAT, np.float32, 2.0**-24),
    "float16": (TensorProto.FLOAT16, np.float16, 2.0**-11),
    "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16, 2.0**-8),
    "float64": (TensorProto.DOUBLE, np.float64, 2.0**-53),
}


def live_model(
    op: str,
    x_type: str = "float32",
    parameters: str = "float32",
    *,
    bodies: bool = False,
    node: str = "the_norm",
    channels: str = "C",
    **attributes: Any,
) -> onnx.ModelProto:
    """x, scale, bias (float64, cast to the types asked for) -> y (float64). One node of domain normexport."""
    (elem, _, _), (parameter, _, _) = TYPES[x_type], TYPES[parameters]
    double = TensorProto.DOUBLE
    inputs = [helper.make_tensor_value_info("x", double, None)]
    inputs += [helper.make_tensor_value_info(name, double, [channels]) for name in ("scale", "bias")]
    nodes = [
        helper.make_node("Cast", ["x"], ["xc"], to=elem),
        helper.make_node("Cast", ["scale"], ["scalec"], to=parameter),
        helper.make_node("Cast", ["bias"], ["biasc"], to=parameter),
        helper.make_node(op, ["xc", "scalec", "biasc"], ["yc"], domain=norms.DOMAIN, name="the_norm", **attributes),
        helper.make_node("Cast", ["yc"], ["y"], to=double),
    ]
    return _model(nodes, inputs, helper.make_tensor_value_info("y", double, None), [op] if bodies else [])


def int8_model(op: str, *, bodies: bool = False, **attributes: Any) -> onnx.ModelProto:
    """q int8, scale and bias float32 -> y int8."""
    inputs = [helper.make_tensor_value_info("q", TensorProto.INT8, None)]
    inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["C"]) for name in ("scale", "bias")]
    nodes = [helper.make_node(op, ["q", "scale", "bias"], ["y"], domain=norms.DOMAIN, name="the_norm", **attributes)]
    return _model(nodes, inputs, helper.make_tensor_value_info("y", TensorProto.INT8, None), [op] if bodies else [])


def _model(
    nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], output: onnx.ValueInfoProto, functions: list[str]
) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", norms.OPSET), helper.make_opsetid(norms.DOMAIN, norms.VERSION)]
    graph = helper.make_graph(nodes, "one_norm", inputs, [output])
    bodies = [norms.functions()[name] for name in functions]
    return helper.make_model(graph, opset_imports=opsets, functions=bodies, ir_version=norms.IR_VERSION)


def session(model: onnx.ModelProto, library: Path | None = None, **settings: Any) -> ort.InferenceSession:
    """A session that says nothing, with the library registered where one is given."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    for name, value in settings.items():
        setattr(options, name, value)
    if library is not None:
        options.register_custom_ops_library(str(library))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def rounded(values: np.ndarray, type_name: str) -> np.ndarray:
    """float64 values that the type holds exactly."""
    return np.asarray(values).astype(TYPES[type_name][1]).astype(np.float64)


def bound(expected: np.ndarray, x_type: str) -> float:
    """One rounding of y to its own type, and 32 roundings at the precision the statistic is computed in (float32, or
    float64): 8 each of mean, statistic, product and sum, for some 100 elements near 1."""
    inner = 2.0**-53 if x_type == "float64" else 2.0**-24
    return (TYPES[x_type][2] + 32 * inner) * max(1.0, float(np.nanmax(np.abs(expected), initial=0)))
