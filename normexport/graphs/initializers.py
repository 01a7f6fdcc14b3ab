"""Numbers that a graph stores: new ones, and those that nobody can replace."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import onnx_ir as ir


def add_initializer(graph: ir.Graph, name: str, array: npt.NDArray[Any], dtype: ir.DataType | None = None) -> ir.Value:
    """A new initializer of the graph, under a name that nobody has (`graphs.names`).

    Args:
        dtype: of the tensor, where numpy's type does not say it (bfloat16).
    """
    tensor = ir.Tensor(array, dtype=dtype, name=name)
    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def fixed_tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of an initializer; None of anything else, and of one that a caller may replace: a graph input too."""
    if value is None or not value.is_initializer() or value.is_graph_input():
        return None
    return value.const_value


def rename(value: ir.Value, name: str) -> None:
    """Give a value another name, in its graph alone.

    Clones share their tensors, with the proto too that a model came from, and onnx_ir would rename the tensor for all
    of them, and does again when the graph is written. So an initializer gets a tensor of its own, of the same numbers.
    """
    tensor = value.const_value
    if tensor is not None:
        if tensor.dtype is ir.DataType.STRING:
            value.const_value = ir.StringTensor(tensor.numpy(), shape=ir.Shape(tensor.shape.numpy()), name=name)
        else:
            value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=name)
    value.name = name
