"""How the weights of layers lie, and how they are replaced."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from normexport.graphs.initializers import add_initializer, fixed_tensor
from normexport.graphs.nodes import op, optional

Float64s = npt.NDArray[np.float64]

_FLOATING = (ir.DataType.FLOAT, ir.DataType.DOUBLE)


def stored(value: ir.Value | None) -> Float64s | None:
    """The numbers of a floating initializer that no caller can override, in float64; None of anything else."""
    tensor = fixed_tensor(value)
    if tensor is None or tensor.dtype not in _FLOATING:
        return None
    array: Float64s = tensor.numpy().astype(np.float64)
    return array


def is_stored(value: ir.Value) -> bool:
    """Whether a value is a float32 initializer that no caller can override."""
    tensor = fixed_tensor(value)
    return tensor is not None and tensor.dtype == ir.DataType.FLOAT


def output_axis(node: ir.Node, rank: int) -> int | None:
    """The axis of output channels in a layer's weight; None where it has none of its own."""
    if op(node) == "MatMul":
        return 1 if rank == 2 else None
    if op(node) == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return 1 if op(node) == "ConvTranspose" else 0


def groups_of(node: ir.Node) -> int:
    """Number of groups of a convolution; 1 of other layers."""
    return node.attributes.get_int("group", 1) if op(node) in ("Conv", "ConvTranspose") else 1


def by_group(node: ir.Node, weight: Float64s) -> Float64s | None:
    """A layer's weight as (groups, outputs, inputs, taps); None where its shape fits no such layer.

    Channels are counted group by group, on both sides. A weight is stored as (M, C/groups, ...) in Conv, (C, M/groups,
    ...) in ConvTranspose, (C, M) in MatMul and Gemm, (M, C) in a Gemm that transposes it. The constant of a Mul is a
    scale of each channel: (C, 1, 1, 1).
    """
    if op(node) == "Mul":
        return weight.reshape(-1, 1, 1, 1)
    groups = groups_of(node)
    spatial = op(node) in ("Conv", "ConvTranspose")
    if (weight.ndim < 3 if spatial else weight.ndim != 2) or not weight.size or groups < 1 or weight.shape[0] % groups:
        return None
    grouped = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return grouped if _outputs_first(node) else grouped.swapaxes(1, 2)


def as_stored(node: ir.Node, grouped: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The inverse of `by_group`, for a weight of this shape."""
    return (grouped if _outputs_first(node) else grouped.swapaxes(1, 2)).reshape(shape)


def _outputs_first(node: ir.Node) -> bool:
    return op(node) == "Conv" or (op(node) == "Gemm" and bool(node.attributes.get_int("transB", 0)))


def set_constant(node: ir.Node, index: int, array: npt.NDArray[Any], fresh: Any) -> None:
    """Give input `index` of a node these numbers, in the type it has: in place where the node alone reads it.

    Args:
        fresh: makes a name that nobody has, see `graphs.names.Names`; another reader keeps the old numbers.
    """
    value = optional(node, index)
    assert value is not None
    assert value.const_value is not None
    dtype = value.const_value.dtype
    alone = len(value.uses()) == 1 and not value.is_graph_output()
    numbers = array.astype(dtype.numpy())
    if alone:
        tensor = ir.Tensor(numbers, name=value.name)
        value.const_value, value.shape = tensor, tensor.shape
        return
    node.replace_input_with(index, add_initializer(_graph_of(node), fresh(str(value.name)), numbers))


def add_to_bias(node: ir.Node, shift: Float64s, fresh: Any) -> None:
    """Add to the bias of a Conv, ConvTranspose or Gemm, which may have none; in place.

    Args:
        shift: one number for each output channel.
        fresh: as of `set_constant`.
    """
    bias = stored(optional(node, 2))
    if bias is not None:
        set_constant(node, 2, bias + shift, fresh)
        return
    weight = node.inputs[1]
    dtype = (weight.dtype if weight is not None else None) or ir.DataType.FLOAT
    value = add_initializer(_graph_of(node), fresh(f"{node.outputs[0].name}_bias"), shift.astype(dtype.numpy()))
    node.resize_inputs(3)
    node.replace_input_with(2, value)


def _graph_of(node: ir.Node) -> ir.Graph:
    """The graph that a node stands in; layers of functions are not quantised."""
    assert isinstance(node.graph, ir.Graph)
    return node.graph
