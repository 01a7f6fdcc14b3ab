"""What an insertion of QuantizeLinear and DequantizeLinear adds to a graph: nodes and constants under fresh names."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from normexport.graphs.initializers import add_initializer
from normexport.graphs.names import Names

Array = npt.NDArray[Any]


class Additions:
    """Makes constants of a graph, and nodes that are named after the value that they are for."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.fresh = Names(graph).fresh

    def constant(self, name: str, array: Array) -> ir.Value:
        """A new initializer."""
        return add_initializer(self.graph, self.fresh(name), array)

    def scale(self, of: ir.Value, scale: Array | np.float32) -> ir.Value:
        """The scale, or scales, of a value."""
        return self.constant(f"{of.name}_scale", np.asarray(scale, np.float32))

    def zero_point(self, of: ir.Value, stored: Array) -> ir.Value:
        """The zero point of a value, in the type of its integers."""
        return self.constant(f"{of.name}_zero_point", stored)

    def node(
        self, operator: str, inputs: list[ir.Value], of: ir.Value, dtype: ir.DataType, axis: int | None = None
    ) -> ir.Node:
        """A node whose result has the shape of `of`, not yet in the graph."""
        attributes = [] if axis is None else [ir.AttrInt64("axis", axis)]
        node = ir.Node("", operator, inputs, attributes, name=self.fresh(f"{of.name}_{operator}"))
        result = node.outputs[0]
        result.name = self.fresh(f"{of.name}_{operator}_Output")
        result.type, result.shape = ir.TensorType(dtype), of.shape
        return node

    def dequantized(
        self, of: ir.Value, whole: Array, scale: Array, axis: int | None, reader: ir.Node, zero: int = 0
    ) -> ir.Value:
        """A stored whole number constant behind a DequantizeLinear, in front of the node that reads it."""
        operands = [
            self.constant(f"{of.name}_quantized", whole),
            self.scale(of, scale),
            self.zero_point(of, np.full(scale.shape, zero).astype(whole.dtype)),
        ]
        node = self.node("DequantizeLinear", operands, of, ir.DataType.FLOAT, axis)
        self.graph.insert_before(reader, node)
        return node.outputs[0]
