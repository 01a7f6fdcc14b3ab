"""Whether running a model takes more memory than there is, or than such a model has any business taking.

A file of a kilobyte can ask for all the memory of the machine (an Expand of a constant to 10^10 numbers), and would get
it. What a model may take follows from what it holds and reads; who trusts it to take more says so in the environment.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import onnx
import onnx.shape_inference
import onnx_ir as ir

from normexport.errors import UsageError
from normexport.graphs.shapes import few_values
from normexport.io.onnx_model import part_weights
from normexport.proof.inputs.batches import Batch
from normexport.runtime.guarded import bound_memory
from normexport.runtime.memory import available_memory

_FLOAT64 = 8  # bytes; the reference's type
_ALIVE = 2  # values of the largest size at a time: what a node reads, and what it writes
_SEVERAL = 2  # all that is allocated at a time, against the largest value twice

#: Environment variable: gigabytes that running a model may take, instead of what follows from the model.
LIMIT = "NORMEXPORT_MEMORY"
# U-Nets and super-resolution networks make values of up to some 100 times their input, generators of 30 times their
# weights; of tiny models anything below a gigabyte is taken.
_LEAST, _TIMES_INPUTS, _TIMES_WEIGHTS = 1 << 30, 512, 64


def require_room(model: ir.Model, batches: Sequence[Batch]) -> None:
    """Refuse to run a model whose largest value, twice, in float64, at the largest batch, exceeds what it may take.

    That is the memory that is free, and `allowance`. Shapes are the file's or, where it has none, those that ONNX
    infers; open sizes count as the batch. Values of no known shape are passed over: where the work is done in a process
    of its own, all that it allocates is bounded by twice what the model may take.

    Raises:
        UsageError: naming the value, its size and what it may take.
    """
    available = available_memory()
    batch = max((batch.size for batch in batches), default=1)
    sizes = {name: math.prod(batch if size is None else size for size in shape) for name, shape in _shapes(model)}
    name = max(sizes, key=lambda name: sizes[name], default="")
    needed = sizes.get(name, 0) * _FLOAT64 * _ALIVE
    takes = f"takes {needed / 1e9:.1f} GB to compute at batch {batch}"
    if available is not None and needed > available:
        cause = f"{takes}, and {available / 1e9:.1f} GB are free"
        raise UsageError(f"value {name}", cause, "check the sizes in the model, or give smaller inputs and batches")
    allowed = allowance(model, batch)
    if needed > allowed:
        cause = f"{takes}, and a model of such weights and inputs may take {allowed / 1e9:.1f} GB"
        raise UsageError(f"value {name}", cause, f"if that is as it should be, set {LIMIT}={math.ceil(needed / 1e9)}")
    bound_memory(_SEVERAL * allowed)


def allowance(model: ir.Model, batch: int) -> int:
    """Bytes that running a model may take: 1 GiB, or 512 times its inputs or 64 times its weights, in float64.

    Raises:
        UsageError: the environment says something that is no number of gigabytes.
    """
    given = os.environ.get(LIMIT)
    if given is not None:
        try:
            return int(float(given) * 1e9)
        except (ValueError, OverflowError) as error:
            raise UsageError(LIMIT, f"is '{given}'", "give gigabytes, such as 8") from error
    held = model.graph.initializers
    weights = sum(value.const_value.size for value in held.values() if value.const_value is not None)
    read = [list(value.shape or ()) for value in model.graph.inputs if value.name not in held]
    inputs = sum(math.prod(size if isinstance(size, int) else batch for size in shape) for shape in read)
    return max(_LEAST, _TIMES_INPUTS * inputs * _FLOAT64, _TIMES_WEIGHTS * weights * _FLOAT64)


def _shapes(model: ir.Model) -> list[tuple[str, tuple[int | None, ...]]]:
    """Names and shapes of the values that nodes of the main graph make; an open size is None."""
    values = [value for node in model.graph for value in node.outputs if value.name]
    known = [(value.name, value.shape) for value in values if value.shape is not None]
    if len(known) == len(values):
        return [(str(name), tuple(_size(size) for size in shape)) for name, shape in known]
    proto, _ = part_weights(model, "weights")
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
