"""Small ONNX files to build engines from, made with the onnx package alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}


def value(name: str, shape, kind: str = "float32") -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TYPES[kind], shape)


def saved(path: Path, nodes, inputs, outputs, constants, domains=()) -> Path:
    """One ONNX file, opset 20, IR 10."""
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "network", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid(domain, 1) for domain in domains)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    return path


def convolutions(path: Path, count: int = 2, channels: int = 8, kind: str = "float32", size=("N", 8, 16, 16)) -> Path:
    """x -> (Conv, Relu) * count -> y, the batch open."""
    rng = np.random.default_rng(0)
    nodes, constants, here = [], {}, "x"
    for index in range(count):
        weight = rng.normal(0, 0.1, (channels, channels, 3, 3)).astype(kind)
        constants[f"w{index}"] = weight
        after = "y" if index == count - 1 else f"r{index}"
        nodes.append(helper.make_node("Conv", [here, f"w{index}"], [f"c{index}"], f"conv{index}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [after], f"relu{index}"))
        here = after
    return saved(path, nodes, [value("x", size, kind)], [value("y", [None] * 4, kind)], constants)
