"""What measures a graph, added to a copy of it: runtimes reduce each tensor as they make it, and it is never kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from normexport.graphs.initializers import add_initializer
from normexport.graphs.names import Names
from normexport.io.onnx_domain import opset_in


class Probe:
    """Adds to a graph what measures it.

    Attributes:
        outputs: what the model is to give of it.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.opset = opset_in(graph.opset_imports)
        self.fresh = Names(graph).fresh
        self.outputs: list[ir.Value] = []

    def mean_error(self, exact: ir.Value, found: ir.Value, axes: list[int]) -> ir.Value:
        """The mean of `exact` - `found` over `axes`, which are kept; an output more."""
        mean = self.mean(self.node("Sub", [exact, found]), axes)
        mean.shape = ir.Shape([None] * (len(axes) + 1))
        self.outputs.append(mean)
        return mean

    def mean(self, value: ir.Value, axes: list[int]) -> ir.Value:
        """The mean over `axes`, which are kept."""
        return self.reduced("ReduceMean", value, axes)

    def reduced(self, operator: str, value: ir.Value, axes: list[int] | None) -> ir.Value:
        """ReduceMean, ReduceMin or ReduceMax over `axes`, which are kept; None: over all of them, to one number."""
        if axes is None:
            return self.node(operator, [value], [ir.AttrInt64("keepdims", 0)])
        keep = ir.AttrInt64("keepdims", 1)
        if self.opset >= 18:
            return self.node(operator, [value, self.constant(np.array(axes, np.int64))], [keep])
        return self.node(operator, [value], [ir.AttrInt64s("axes", axes), keep])

    def node(
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        attributes: Sequence[ir.Attr] = (),
        dtype: ir.DataType = ir.DataType.FLOAT,
    ) -> ir.Value:
        """The result of a new node at the end of the graph."""
        node = ir.Node("", operator, inputs, attributes, name=self.fresh(f"probe_{operator}"))
        value = node.outputs[0]
        value.name, value.type = self.fresh(f"probe_{operator}_Output"), ir.TensorType(dtype)
        self.graph.append(node)
        return value

    def constant(self, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> ir.Value:
        """A new initializer."""
        return add_initializer(self.graph, self.fresh("probe_constant"), array)
