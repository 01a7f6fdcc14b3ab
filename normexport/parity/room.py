"""Whether this machine has the memory that running a model takes: better asked than killed by the system."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from normexport.errors import UsageError
from normexport.parity.inputs import Batch
from normexport.runtime.memory import available_memory

_FLOAT64 = 8  # bytes; the reference's type
_ALIVE = 2  # values of the largest size at a time: what a node reads, and what it writes


def require_room(model: ir.Model, batches: Sequence[Batch]) -> None:
    """Refuse to run a model whose largest value can't be in memory twice, in float64, at the largest batch.

    Values whose shape the file does not say are passed over; open sizes count as the batch.

    Raises:
        UsageError: naming the value, its size and what this machine has left.
    """
    available = available_memory()
    batch = max((batch.size for batch in batches), default=1)
    largest, name = max(((_numbers(value, batch), str(value.name)) for value in _values(model)), default=(0, ""))
    needed = largest * _FLOAT64 * _ALIVE
    if available is not None and needed > available:
        cause = f"takes {needed / 1e9:.1f} GB to compute at batch {batch}, and {available / 1e9:.1f} GB are free"
        raise UsageError(f"value {name}", cause, "check the sizes in the model, or give smaller inputs and batches")


def _values(model: ir.Model) -> list[ir.Value]:
    return [value for node in model.graph for value in node.outputs]


def _numbers(value: ir.Value, batch: int) -> int:
    if value.shape is None:
        return 0
    return math.prod(size if isinstance(size, int) else batch for size in value.shape)
