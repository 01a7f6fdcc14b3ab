"""Whether this machine has the memory that running a model takes: better asked than killed by the system."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx
import onnx.shape_inference
import onnx_ir as ir

from normexport.errors import UsageError
from normexport.onnx_files import split_weights
from normexport.parity.inputs import Batch
from normexport.passes.shapes import few_values
from normexport.runtime.memory import available_memory

_FLOAT64 = 8  # bytes; the reference's type
_ALIVE = 2  # values of the largest size at a time: what a node reads, and what it writes


def require_room(model: ir.Model, batches: Sequence[Batch]) -> None:
    """Refuse to run a model whose largest value can't be in memory twice, in float64, at the largest batch.

    Shapes are the file's or, where it has none, those that ONNX infers; open sizes count as the batch. Values of no
    known shape are passed over.

    Raises:
        UsageError: naming the value, its size and what this machine has left.
    """
    available = available_memory()
    batch = max((batch.size for batch in batches), default=1)
    sizes = {name: math.prod(batch if size is None else size for size in shape) for name, shape in _shapes(model)}
    name = max(sizes, key=lambda name: sizes[name], default="")
    needed = sizes.get(name, 0) * _FLOAT64 * _ALIVE
    if available is not None and needed > available:
        cause = f"takes {needed / 1e9:.1f} GB to compute at batch {batch}, and {available / 1e9:.1f} GB are free"
        raise UsageError(f"value {name}", cause, "check the sizes in the model, or give smaller inputs and batches")


def _shapes(model: ir.Model) -> list[tuple[str, tuple[int | None, ...]]]:
    """Names and shapes of the values that nodes of the main graph make; an open size is None."""
    values = [value for node in model.graph for value in node.outputs if value.name]
    known = [(value.name, value.shape) for value in values if value.shape is not None]
    if len(known) == len(values):
        return [(str(name), tuple(_size(size) for size in shape)) for name, shape in known]
    proto, _ = split_weights(model, "weights")
    try:
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=few_values(model.graph))
    except Exception:  # operators that it does not know, a contradiction: the runtime has the last word
        return [(str(name), tuple(_size(size) for size in shape)) for name, shape in known]
    tensors = [(value.name, value.type.tensor_type.shape) for value in (*proto.graph.value_info, *proto.graph.output)]
    return [
        (name, tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in shape.dim))
        for name, shape in tensors
    ]


def _size(size: int | ir.SymbolicDim) -> int | None:
    return size if isinstance(size, int) else None
