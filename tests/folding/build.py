"""A small builder of ONNX graphs with tensors and arithmetic of one type (float64 unless said otherwise)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.shape_inference import infer_shapes

from normexport import norms


class GraphBuilder:
    """Collects nodes and constants under fresh names; `model()` is the finished ModelProto."""

    def __init__(self, dtype: Any = np.float64, opset: int = norms.OPSET) -> None:
        self.dtype, self.opset = np.dtype(dtype), opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[str] = []
        self._count = 0

    def fresh(self, stem: str) -> str:
        """A name not given before."""
        self._count += 1
        return f"{stem}_{self._count}"

    def input(self, shape: Sequence[int | str], name: str = "x") -> str:
        """A graph input of the builder's type."""
        elem = helper.np_dtype_to_tensor_dtype(self.dtype)
        self.inputs.append(helper.make_tensor_value_info(name, elem, list(shape)))
        return name

    def const(self, value: Any, stem: str = "c", *, as_node: bool = False, keep_type: bool = False) -> str:
        """A constant as an initializer, or as the output of a Constant node."""
        array = np.asarray(value) if keep_type else np.asarray(value, dtype=self.dtype)
        name = self.fresh(stem)
        if as_node:
            proto = numpy_helper.from_array(array, name)
            self.nodes.append(helper.make_node("Constant", [], [name], name=f"node_{name}", value=proto))
        else:
            self.constants[name] = array
        return name

    def node(self, op: str, inputs: Sequence[str], *, domain: str = "", outputs: int = 1, **attrs: Any) -> str:
        """Append a node; returns the name of its first output."""
        names = [self.fresh(op.lower()) for _ in range(outputs)]
        name = f"node_{names[0]}"
        self.nodes.append(helper.make_node(op, list(inputs), names, name=name, domain=domain, **attrs))
        return names[0]

    def output(self, *names: str) -> None:
        """Make values graph outputs."""
        self.outputs.extend(names)

    def model(self, *, infer: bool = True) -> onnx.ModelProto:
        """The checked model, IR 10, the bodies of the project's operators attached.

        `infer=False` leaves out the types and shapes of intermediate values, as some exporters do.
        """
        elem = helper.np_dtype_to_tensor_dtype(self.dtype)
        graph = helper.make_graph(
            self.nodes,
            "test",
            self.inputs,
            [helper.make_tensor_value_info(name, elem, self._shape(name)) for name in self.outputs],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        used = {node.op_type for node in self.nodes if node.domain == norms.DOMAIN}
        opsets = [helper.make_opsetid("", self.opset)]
        if used:
            opsets.append(helper.make_opsetid(norms.DOMAIN, norms.VERSION))
        bodies = [body for name, body in norms.functions().items() if name in used] if used else []
        model = helper.make_model(graph, opset_imports=opsets, functions=bodies, ir_version=norms.IR_VERSION)
        inferred = infer_shapes(model, strict_mode=True, data_prop=True)
        if infer:
            return inferred
        for bare, full in zip(model.graph.output, inferred.graph.output, strict=True):
            bare.CopyFrom(full)
        return model

    def _shape(self, name: str) -> tuple[int, ...] | None:
        constant = self.constants.get(name)
        return None if constant is None else constant.shape


def bias_like(count: int) -> np.ndarray:
    """(count,) distinct values that never repeat when reordered: 0.1, 0.3, 0.6, 1.0, ..."""
    steps = np.arange(1, count + 1)
    return 0.1 * steps * (steps + 1) / 2
