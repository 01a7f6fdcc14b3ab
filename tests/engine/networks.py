"""Small ONNX files to build engines from, made with the onnx package alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ml_dtypes import bfloat16
from onnx import TensorProto, helper, numpy_helper

from normexport import norms
from normexport.norms import Scope

TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
DTYPES: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "bfloat16": bfloat16}


def value(name: str, shape: Sequence[int | str | None], kind: str = "float32") -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TYPES[kind], shape)


def saved(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: Mapping[str, Any],
    domains: Sequence[Any] = (),
) -> Path:
    """One ONNX file, opset 20, IR 10."""
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "network", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid(domain, 1) for domain in domains)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    return path


def convolutions(
    path: Path,
    count: int = 2,
    channels: int = 8,
    kind: str = "float32",
    size: Sequence[int | str] = ("N", 8, 16, 16),
) -> Path:
    """x -> (Conv, Relu) * count -> y, the batch open."""
    rng = np.random.default_rng(0)
    nodes, constants, here = [], {}, "x"
    for index in range(count):
        weight = rng.normal(0, 0.1, (channels, channels, 3, 3)).astype(DTYPES[kind])
        constants[f"w{index}"] = weight
        after = "y" if index == count - 1 else f"r{index}"
        nodes.append(helper.make_node("Conv", [here, f"w{index}"], [f"c{index}"], f"conv{index}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [after], f"relu{index}"))
        here = after
    return saved(path, nodes, [value("x", size, kind)], [value("y", [None] * 4, kind)], constants)


def all_norms(path: Path, ops: Sequence[str], kind: str = "float32", channels: int = 8) -> Path:
    """x -> (1x1 Conv, norm) for each operator -> y; int8 operators stand between Q and DQ."""
    rng = np.random.default_rng(0)
    constants: dict[str, Any] = {
        "scale": np.float32(rng.uniform(0.5, 2, channels)),
        "bias": np.float32(rng.normal(size=channels)),
        "s": np.float32(0.0625),
        "z": np.int8(0),
    }
    nodes, here = [], "x"
    for index, op in enumerate(ops):
        constants[f"w{index}"] = rng.normal(0, 0.3, (channels, channels, 1, 1)).astype(DTYPES[kind])
        nodes.append(helper.make_node("Conv", [here, f"w{index}"], [f"c{index}"], f"block{index}/conv"))
        here, data = f"y{index}", f"c{index}"
        if op.startswith("Q"):
            nodes.append(helper.make_node("QuantizeLinear", [data, "s", "z"], [f"q{index}"], f"block{index}/quantize"))
            data, given = f"q{index}", f"n{index}"
        else:
            given = here
        nodes.append(
            helper.make_node(
                op, [data, "scale", "bias"], [given], f"block{index}/norm", domain="normexport", epsilon=0.25
            )
        )
        if op.startswith("Q"):
            nodes.append(helper.make_node("DequantizeLinear", [given, "s", "z"], [here], f"block{index}/dequantize"))
    ends = [value("x", ["N", channels, 8, 8], kind)], [value(here, [None] * 4, kind)]
    return saved(path, nodes, *ends, constants, ["normexport"])


def between_pairs(path: Path, ops: tuple[str, ...], channels: int = 8) -> Path:
    """x -> (Q, DQ, norm) for each operator -> Q, DQ -> y, as a quantiser leaves them."""
    constants: dict[str, Any] = {"scale": np.ones(channels, np.float32), "bias": np.zeros(channels, np.float32)}
    constants |= {"s": np.array(0.0625, np.float32), "z": np.array(0, np.int8)}
    nodes, here = [], "x"
    for index, op in enumerate([*ops, None]):
        quantized, real = f"q{index}", f"r{index}"
        nodes.append(helper.make_node("QuantizeLinear", [here, "s", "z"], [quantized], f"quantize{index}"))
        nodes.append(helper.make_node("DequantizeLinear", [quantized, "s", "z"], [real], f"dequantize{index}"))
        here = real if op is None else f"y{index}"
        if op is not None:
            nodes.append(helper.make_node(op, [real, "scale", "bias"], [here], f"norm{index}", domain="normexport"))
    ends = [value("x", ["N", channels, 8, 8])], [value(here, [None] * 4)]
    return saved(path, nodes, *ends, constants, ["normexport"])


def all_norms_reference(path: Path, x: np.ndarray) -> np.ndarray:
    """What the file of `all_norms` with int8 operators computes, in numpy."""
    proto = onnx.load(path)
    constants: dict[str, Any] = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}
    for index, node in enumerate(node for node in proto.graph.node if node.domain):
        kind = norms.live_ops()[node.op_type.removeprefix("Q")]
        x = np.einsum("oc,nchw->nohw", constants[f"w{index}"][:, :, 0, 0], x.astype(np.float64)).astype(np.float32)
        q = np.clip(np.rint(x / constants["s"]), -128, 127).astype(np.int8)
        scope = Scope.of("Instance" in node.op_type)
        y = norms.quantized_reference(kind, q, constants["scale"], constants["bias"], epsilon=0.25, scope=scope)
        x = y.astype(np.float32) * constants["s"]
    return x
